"""The items of a study's suites: read, generated, or spelled by the first server, and the same for all that follow."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from collector.bundle.answers import QualityItem
from collector.errors import UsageFault
from collector.quality import constrain, exact, harness, hub, labels, likelihood, long_context, texts
from collector.quality.ask import Asker
from collector.quality.items import as_completion, item, read_object, seeded
from collector.quality.scorers import SCORERS, Criterion
from collector.study import QualitySuite, Study

__all__ = ["build", "check"]

_ITEMS = {"exact": 1000, "labels": 500, "likelihood": 64, "long-context": 50}
_MOST_LINE = 4 << 20
_SPELL_TIMEOUT_S = 60.0


def check(study: Study) -> None:
    """Whether every suite that reads a file can read it: told before anything is launched.

    Raises:
        UsageFault: a file is missing or wrong.
    """
    for suite in study.quality:
        if suite.kind == "labels" and (suite.file or suite.dataset):
            found = _labelled(suite, study.seed)
            labels.items(suite.title, found.pairs, found.names)
        elif suite.kind == "file":
            _own(suite)
        elif suite.kind == "likelihood" and suite.file:
            _documents(suite, study.seed)
        elif suite.kind == "lm-eval":
            harness.check(suite, study)


async def build(suite: QualitySuite, study: Study, asker: Asker) -> list[QualityItem]:
    """All items of one suite. `asker` is the first server: its tokenizer spells texts and tells how long words are.

    Raises:
        UsageFault: a file of the suite is missing or wrong.
    """
    if suite.kind == "labels":
        return await _labels(suite, study, asker)
    made = await _chat_items(suite, study, asker)
    if suite.api == "completions" and suite.kind != "likelihood":
        made = [as_completion(i) for i in made]
    return made


async def _chat_items(suite: QualitySuite, study: Study, asker: Asker) -> list[QualityItem]:
    count = suite.items or _ITEMS.get(suite.kind, 0)
    if suite.kind == "sanity":
        return _sanity(suite)
    if suite.kind == "exact":
        return exact.items(suite.title, count, study.seed)
    if suite.kind == "long-context":
        rate = await _tokens_per_word(asker, suite.api)
        return long_context.items(suite.title, count, study.seed, suite.lengths, study.context_tokens, rate)
    if suite.kind == "likelihood":
        return await _likelihood(suite, study, asker)
    if suite.kind == "file":
        return _own(suite)
    return []  # lm-eval brings its own


async def _labels(suite: QualitySuite, study: Study, asker: Asker) -> list[QualityItem]:
    """Texts with labels, and how this server, and all that follow, are asked for one of them."""
    found = await asyncio.to_thread(_labelled, suite, study.seed)
    made = labels.items(suite.title, found.pairs, found.names)
    if suite.api == "completions":
        made = [as_completion(i) for i in made]
    made = [msgspec.structs.replace(i, source=found.source) for i in made]
    names = labels.names(found.pairs, found.names)
    return await constrain.settle(asker, made, names, answers=suite.answers, timeout_s=suite.request_timeout_s)


def _labelled(suite: QualitySuite, seed: int) -> hub.Labelled:
    count = suite.items or _ITEMS["labels"]
    if suite.file:
        path = Path(suite.file).expanduser()
        return hub.Labelled(labels.from_file(path, suite.text_column, suite.label_column, count))
    if suite.dataset:
        return _from_hub(suite.dataset, suite.text_column, suite.label_column, count)
    return hub.Labelled(labels.generated(count, seed))


@functools.lru_cache(maxsize=8)  # looked at before the run starts, asked when the first server stands: one fetch
def _from_hub(dataset: str, text_column: str, label_column: str, count: int) -> hub.Labelled:
    return hub.labelled(dataset, text_column, label_column, count)


def _sanity(suite: QualitySuite) -> list[QualityItem]:
    lines = (resources.files("collector.quality") / "suites/sanity.jsonl").read_text("utf-8").splitlines()
    made = []
    for number, line in enumerate(lines):
        asked = json.loads(line)
        made.append(
            item(
                suite.title, asked["task"], number, asked["prompt"], reference=json.dumps(asked["criterion"]),
                scorer="criterion", output_tokens=suite.output_tokens or 160,
            )
        )  # fmt: skip
    return made


async def _likelihood(suite: QualitySuite, study: Study, asker: Asker) -> list[QualityItem]:
    """Texts as ids, or as text where no server spells them: the judge then says why nothing was scored."""
    window = min(suite.window_tokens, likelihood.MOST_WINDOW, study.context_tokens - 1)
    made = []
    for number, (task, text) in enumerate(_documents(suite, study.seed)):
        ids, _ = await likelihood.spell(asker, text, timeout_s=_SPELL_TIMEOUT_S)
        if ids is None or len(ids) >= 2:
            made.append(likelihood.item(suite.title, task, number, text, ids or [], window))
    return made


def _documents(suite: QualitySuite, seed: int) -> list[tuple[str, str]]:
    """(domain, text): the suite's own JSONL with `text` (and `domain`), or generated ones in three domains."""
    count = suite.items or _ITEMS["likelihood"]
    if not suite.file:
        domains = [texts.DOMAINS[n % len(texts.DOMAINS)] for n in range(count)]
        return [(d, texts.document(d, n, seed, sentences=120)) for n, d in enumerate(domains)]
    path = Path(suite.file).expanduser()
    found = [(str(row.get("domain", "text")), row["text"]) for _, row in _objects(path, "text")]
    return found[:count]


def _own(suite: QualitySuite) -> list[QualityItem]:
    """A person's own suite: `prompt` or `messages`, `reference`, and a scorer a line or for all."""
    made = []
    path = Path(suite.file).expanduser()
    for number, (line, row) in enumerate(_objects(path, "")):
        where = f"{path.name} line {line}"
        prompt = row.get("prompt", row.get("messages"))
        if not isinstance(prompt, (str, list)):
            raise UsageFault(f"{where} has neither prompt nor messages", fix="give it one")
        scorer = str(row.get("scorer", suite.scorer))
        reference = row.get("reference", row.get("criterion"))
        reference = reference if isinstance(reference, str) or reference is None else json.dumps(reference)
        if scorer and (scorer not in SCORERS or reference is None):
            what = f"names the scorer {scorer}" if scorer not in SCORERS else "has a scorer and no reference"
            raise UsageFault(f"{where} {what}", fix=f"scorers: {', '.join(SCORERS)}")
        _check_reference(scorer, reference, where)
        made.append(
            item(
                suite.title, str(row.get("task", suite.title)), number, prompt, reference=reference, scorer=scorer,
                output_tokens=suite.output_tokens or 128, document=str(row.get("document", "")),
            )
        )  # fmt: skip
        if suite.items and len(made) == suite.items:
            break
    return made


def _check_reference(scorer: str, reference: str | None, where: str) -> None:
    """A reference that its scorer cannot read is the suite's fault, not the model's."""
    try:
        if scorer == "number" and not math.isfinite(float(reference or "")):
            raise ValueError("no number that can be said")
        if scorer == "json" and not isinstance(json.loads(reference or ""), (dict, list)):
            raise ValueError("neither an object nor a list")
        if scorer == "criterion":
            re.compile(msgspec.json.decode((reference or "").encode(), type=Criterion).pattern)
        if scorer and not (reference or "").strip():
            raise ValueError("it is empty")
    except (ValueError, RecursionError, re.error) as e:
        raise UsageFault(f"{where}: the reference is none for the scorer {scorer}: {e}", fix="mend that line") from None


def _objects(path: Path, needed: str) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, each with the number of its line."""
    if not path.is_file():
        raise UsageFault(f"no file {path}", fix="check `file` of the suite")
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        with path.open(encoding="utf-8-sig") as f:
            number = 0
            while line := f.readline(_MOST_LINE):
                number += 1
                if not line.strip():
                    continue
                row = read_object(line, number)
                if needed and not isinstance(row.get(needed), str):
                    raise ValueError(f"line {number} is no object with `{needed}`")
                rows.append((number, row))
    except UnicodeDecodeError:
        raise UsageFault(f"{path.name} is not UTF-8 text", fix="save it as UTF-8") from None
    except ValueError as e:
        raise UsageFault(f"{path.name} cannot be read: {e}", fix="one JSON object a line, as UTF-8") from None
    if not rows:
        raise UsageFault(f"{path.name} is empty", fix="one JSON object a line")
    return rows


async def _tokens_per_word(asker: Asker, api: str) -> float:
    """How many tokens a word of our prose takes, by the server's own count; a cautious guess where it states none."""
    r = seeded("calibrate")
    counts = []
    for sentences in (2, 12):
        text = " ".join(texts.prose_sentence(r) for _ in range(sentences))
        reply = await asker.answer(api, text, 1, timeout_s=_SPELL_TIMEOUT_S)
        if reply.input_tokens is None:
            return long_context.TOKENS_PER_WORD
        counts.append((len(text.split()), reply.input_tokens))
    (few, short), (many, long) = counts
    return max(1.0, (long - short) / (many - few))
