"""Asks for predictions before a run: five questions, so that what is measured can be held against what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from collector.bundle.predictions import Answers
from collector.errors import UsageFault
from collector.study import Study

__all__ = ["QUESTIONS", "about", "ask"]

# key of Answers -> the question. What is asked and how it is judged: docs/methodology.md.
QUESTIONS: dict[str, str] = {
    "vram_reduction_pct": "By how many percent are the weights of {variant} smaller than those of {baseline}?",
    "ttft": "Time to first token (improves, same, worse)?",
    "helps_more_at": "More gain in throughput at low or at high concurrency (low, high)?",
    "p95_latency": "95th percentile of the whole latency (similar, improves, degrades)?",
    "quality_failures": "Which types of tasks lose right answers (in your own words, or none)?",
}
_WORDS: dict[str, tuple[str, ...]] = {
    "ttft": ("improves", "same", "worse"),
    "helps_more_at": ("low", "high"),
    "p95_latency": ("similar", "improves", "degrades"),
}
_MOST_WORDS = 500


def about(study: Study) -> str:
    """The variant that is asked about: the first quantized one.

    Raises:
        UsageFault: the study has no variant beside the baseline.
    """
    others = [v for v in study.variants if v.name not in (study.baseline, study.control)]
    if not others:
        raise UsageFault(f"study {study.id} has no variant to predict anything of", fix="add one beside the baseline")
    return next((v.name for v in others if v.method != "none"), others[0].name)


def ask(prompt: Callable[[str], str], study: Study) -> Answers:
    """Ask the five questions through `prompt`, which shows a question and returns what was typed.

    An empty answer skips a question; one that is not understood is asked again, with what would be.

    Raises:
        UsageFault: the study has no variant beside the baseline.
    """
    variant = about(study)
    given: dict[str, Any] = {"variant": variant}
    for key, question in QUESTIONS.items():
        asked = question.format(variant=variant, baseline=study.baseline)
        while typed := prompt(asked).strip():
            value, hint = _understood(key, typed)
            if hint is None:
                given[key] = value
                break
            asked = f"{hint}. {question.format(variant=variant, baseline=study.baseline)}"
    return msgspec.convert(given, Answers)


def _understood(key: str, typed: str) -> tuple[object, str | None]:
    """The value of an answer, and None; or None and what would have been understood."""
    if key == "quality_failures":
        return typed[:_MOST_WORDS], None
    if key in _WORDS:
        found = [w for w in _WORDS[key] if w.startswith(typed.casefold())]
        return (found[0], None) if len(found) == 1 else (None, f"One of: {', '.join(_WORDS[key])}")
    try:
        value = float(typed.rstrip("% ").replace(",", "."))
    except ValueError:
        value = float("nan")
    return (value, None) if -100 <= value <= 100 else (None, "A number from -100 to 100")
