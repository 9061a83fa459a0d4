"""Predictions against reality, and the author's own paragraphs, each in its place: two parts of the notes."""

from __future__ import annotations

import re

from collector.bundle.predictions import Predictions, read_predictions
from collector.bundle.read import QuantcaseError
from quantcase.analysis.predictions import WITHIN_POINTS, Judgement, is_late, judge_predictions
from quantcase.html import Column, banner, delta, none, table
from quantcase.pages.view import CaseView
from quantcase.text import fixed, load_words, notes_html, plain, text

__all__ = ["own_words", "section"]

# Where a heading of notes.md belongs: the page's own heading, that of the template, that of the notes it follows.
_PLACES = {
    "setup": ("What I learned about the set-up", "Set-up", "What I learned about quant setup"),
    "chat": ("Chat patterns", "Quant vs BF16 chat patterns"),
    "risk": ("Quality risk", "Quality risk when quantizing"),
    "batch": ("Batch against chat", "Batch vs chat quant impact"),
    "before": ("Before: what I expect", "Before I started"),
    "after": ("After: what I saw", "After I finished"),
    "wrong": ("What I got wrong and why",),
    "learned": ("What I learned",),
}
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*$")
_QUESTIONS = {
    "vram": "Weights smaller than the baseline's by (%)",
    "ttft": "TTFT, median",
    "load": "More gain in throughput at low or high load",
    "p95": "E2E, 95th percentile",
    "quality": "Tasks that lose right answers",
}
_SHORT = {
    "vram": "the weights",
    "ttft": "TTFT",
    "load": "the load that gains more",
    "p95": "p95 E2E",
    "quality": "the tasks that lose answers",
}
_MATCHES = {
    "match": ("ok", "✓ match"),
    "miss": ("bad", "✗ no match"),
    "unknown": ("look", "cannot be told"),
    "skipped": ("none", "not predicted"),
}
_HOW = (
    "Nobody wrote down predictions before this run. <code>collect run --predict</code> asks five questions before it "
    "measures; a table <code>[predictions]</code> in the study answers them for every run of it."
)


def section(view: CaseView) -> tuple[str, str]:
    """The table of predictions against reality, and the score in a sentence; why there is none where there is none."""
    try:
        found = read_predictions(view.case.bundle.folder)
    except QuantcaseError as e:
        return banner("faulty", text(f"The predictions are not shown: {e.problem}")), ""
    if found is None:
        return none(_HOW), ""
    judged = judge_predictions(view.case, found, view.claims, view.quality, view.quality_verdicts)
    return _table(view, found, judged), _score(judged)


def _table(view: CaseView, found: Predictions, judged: list[Judgement]) -> str:
    when = f"{found.written():%Y-%m-%d %H:%M} UTC"
    late = is_late(view.case, found)
    made = f'{when} <span class="qc-verdict" data-verdict="avoid">✗ late</span>' if late else f"{when}, before the run"
    rows = []
    for j in judged:
        state, words = _MATCHES[j.match]
        mark = f'<span class="qc-check" data-state="{state}">{words}</span>'
        rows.append(
            [
                text(_QUESTIONS[j.question]),
                "–" if j.predicted is None else f"<bdi>{_said(j)}</bdi>",
                "–" if j.predicted is None else made,
                _reality(j),
                f"{mark}: {text(j.why)}" if j.match == "unknown" and j.why else mark,
            ]
        )
    names = ["Question", "Prediction", "Written", "Reality", "Match"]
    caption = (
        f"The weights match within {plain(WITHIN_POINTS)} points. A word for TTFT or E2E must hold at the lowest and "
        "the highest load that can be compared. Tasks are told by the words of their names; one lost answers when it "
        "lost more than chance explains."
    )
    about = f"They are about **{text(found.answers.variant)}** against {text(view.case.baseline)}."
    parts = [about, table("predictions", [Column(n) for n in names], rows, caption)]
    if late:
        words = f"Written at {when}, when measuring had begun: what was known by then is no prediction."
        parts.insert(0, banner("faulty", f"<strong>Late.</strong> {words}"))
    return "\n\n".join(parts)


def _said(j: Judgement) -> str:
    return plain(j.predicted) if isinstance(j.predicted, float) else text(j.predicted)


def _reality(j: Judgement) -> str:
    """What was seen, with its figures."""
    if j.question == "vram":
        return "–" if j.reduction_pct is None else fixed(j.reduction_pct, 1)
    if j.question == "quality":
        return _tasks(j)
    if not j.evidence:
        return "–"
    word = f"<strong>{text(j.seen)}</strong>; " if j.seen else ""
    metric = " throughput" if j.question == "load" else ""
    return word + "; ".join(f"{load_words(c.load)}:{metric} {delta(c)}" for c in j.evidence)


def _tasks(j: Judgement) -> str:
    if j.why == "quality was not measured":
        return "–"
    both = [t for t in j.named if t in j.lost]
    groups = (
        ("named, and lost answers", both),
        ("named, and lost none beyond chance", [t for t in j.named if t not in j.lost]),
        ("lost answers, not named", [t for t in j.lost if t not in j.named]),
    )
    said = [f"{words}: {text(', '.join(tasks))}" for words, tasks in groups if tasks]
    return "; ".join(said) or "no task lost answers beyond chance"


def _score(judged: list[Judgement]) -> str:
    """How many came true, of those that can be told."""
    hits = [j for j in judged if j.match == "match"]
    misses = [j for j in judged if j.match == "miss"]
    unknown = [j for j in judged if j.match == "unknown"]
    if not hits and not misses:
        return "None of the predictions can be told from this run."
    said = f"{len(hits)} of {len(hits) + len(misses)} predictions that can be told came true."
    if misses:
        said += f" Wrong: {', '.join(_SHORT[j.question] for j in misses)}."
    if unknown:
        said += f" {len(unknown)} cannot be told."
    return said


# -- the author's own paragraphs ---------------------------------------------------------------------------------------


def own_words(source: str) -> dict[str, str]:
    """Each place's paragraphs of notes.md as clean HTML in one line; a sentence where nothing is written.

    What stands under a heading that is known goes to its place, further headings inside it included; what stands
    before any of them goes to the last place, so that no word is lost.
    """
    found: dict[str, list[str]] = {}
    place, fenced = "learned", False
    for line in re.sub(r"<!--.*?-->", "", source, flags=re.S).splitlines():
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        heading = None if fenced else _HEADING.match(line)
        if heading and (at := _place(heading[1])):
            place = at
        elif not (heading and _plain(heading[1]) == "notes"):
            found.setdefault(place, []).append(line)
    return {key: _own(key, "\n".join(found.get(key, []))) for key in _PLACES}


def _place(heading: str) -> str | None:
    said = _plain(heading)
    return next((key for key, names in _PLACES.items() if said in {_plain(n) for n in names}), None)


def _plain(heading: str) -> str:
    return re.sub(r"[^a-z0-9]", "", heading.casefold()).removeprefix("feynman")


def _own(key: str, source: str) -> str:
    made = notes_html(source).strip()
    if not re.sub(r"<[^>]*>", "", made).strip():
        return none(f"The author has not written this yet: {text(_PLACES[key][0])}, in notes.md.")
    for found, entity in (("\n", "&#10;"), ("{", "&#123;"), ("}", "&#125;")):  # no Markdown, no macros after us
        made = made.replace(found, entity)
    return f'<div class="qc-own">{made}</div>'
