"""What lm-evaluation-harness leaves, as our items and rows, and what its results files say of how they came about.

Two runs of the same tasks pair by what it hashes itself, the document and the prompt; its own standard errors are not
paired and are not read. Tried with lm-eval 0.4.13.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from collector.bundle.answers import QualityItem, QualityRow
from collector.errors import QuantcaseError
from collector.probes.redact import redact
from collector.quality import lm_eval_files as files
from collector.quality.lm_eval_files import Found
from collector.quality.scorers import problem_of

__all__ = ["facts", "read"]

_HASH = re.compile(r"[0-9a-f]{12,128}")
_SECRET = re.compile(
    r"(?:key|token|secret|passw(?:or)?d|auth|authorization|credential|header|cookie)s?$", re.IGNORECASE
)
_HARMLESS = re.compile(r"(?:\w+_)?(?:eos|bos|pad|unk|end|start|prefix|max)_(?:[a-z]+_)?tokens?")


class _Sample(Struct):
    """One line of a samples file, as far as it is read. The metrics' values stand beside these, by their names."""

    doc_hash: str
    prompt_hash: str
    target: str | int | float | bool | None
    resps: list[Any]  # of each request, of each repeat: a text, or [log likelihood, is greedy] as texts
    filtered_resps: list[Any]
    metrics: list[str]
    filter: str = "none"
    arguments: Any = None


def read(
    folder: Path, *, variant: str, start: int, suite: str = "lm-eval"
) -> tuple[list[QualityItem], list[QualityRow]]:
    """What was asked and answered, from the newest samples file of each task anywhere below `folder`.

    Items and rows stand in the same order, tasks by name. A task with filters gives one item for each of them; those of
    one document share `document`. The score is the task's first metric, 0 to 1, named in `scorer` as "metric,filter";
    an answer to a multiple choice is the index of the likeliest choice, from 0.

    Raises:
        QuantcaseError: there are no samples, a file is too large, damaged or incomplete, or models are mixed.
    """
    newest: dict[str, Found] = {}
    for found in files.find_samples(folder):
        if found.task not in newest or found.date > newest[found.task].date:
            newest[found.task] = found
    if not newest:
        raise QuantcaseError(f"{folder} holds no samples_*.jsonl of lm-eval", fix=files.AGAIN)
    items: list[QualityItem] = []
    rows: list[QualityRow] = []
    models: set[str] = set()
    for task in sorted(newest):
        source = newest[task]
        summary = files.summary(source)
        if isinstance(name := summary.get("model_name"), str):
            models.add(name)
        if len(models) > 1:
            raise QuantcaseError(
                f"{folder} holds samples of several models: {', '.join(sorted(models))}",
                fix="read each model's folder for itself",
            )
        some_items, some_rows = _read_task(source, summary, variant, start, suite, files.MAX_SAMPLES - len(rows))
        items += some_items
        rows += some_rows
    return items, rows


def _read_task(
    source: Found, summary: dict[str, Any], variant: str, start: int, suite: str, most: int
) -> tuple[list[QualityItem], list[QualityRow]]:
    items: list[QualityItem] = []
    rows: list[QualityRow] = []
    filters: Counter[str] = Counter()
    keys: list[tuple[str, str]] = []  # of each item: its key within the task, its filter
    metric = ""
    for where, values in files.lines(source.path, most):
        sample = _sample(values, where)
        if not items:
            metric = sample.metrics[0] if sample.metrics else ""
        output, parsed = _answer(sample, where)
        score, fault = _score(values, metric, _lower_is_better(summary, source.task, metric))
        api, prompt, messages, output_tokens = _asked(sample.arguments)
        plain = sample.filter in ("none", "")
        task = source.task if plain else f"{source.task}[{metric},{sample.filter}]"
        reference = None if sample.target is None else files.plain_text(str(sample.target))
        filters[sample.filter] += 1
        keys.append((f"{sample.doc_hash[:12]}-{sample.prompt_hash[:12]}", sample.filter))
        item = QualityItem(
            suite=suite,
            task=task,
            prompt_id="",
            prompt_sha256=sample.prompt_hash,
            api=api,
            prompt=prompt,
            messages=messages,
            reference=reference,
            scorer=f"{metric},{sample.filter}" if metric else "",
            output_tokens=output_tokens,
            document=f"{source.task}/{sample.doc_hash[:12]}",
        )
        row = QualityRow(
            variant=variant,
            start=start,
            suite=suite,
            task=task,
            prompt_id="",
            prompt_sha256=sample.prompt_hash,
            status="error" if fault else "ok",
            reference=reference,
            output=output,
            parsed=parsed,
            score=score,
            problem="" if output is None else problem_of(output, None),
            error=fault or None,
        )
        items.append(item)
        rows.append(row)
    _complete(source, summary, filters)
    several = len(filters) > 1
    seen: Counter[tuple[str, str]] = Counter()
    for item, row, key in zip(items, rows, keys, strict=True):
        seen[key] += 1
        again = f"#{seen[key]}" if seen[key] > 1 else ""  # the same document twice: known by their order
        prompt_id = f"{suite}/{source.task}/{key[0]}{f'/{key[1]}' if several else ''}{again}"
        item.prompt_id = row.prompt_id = prompt_id
        if not several:
            item.document = None
    return items, rows


def _sample(values: dict[str, Any], where: str) -> _Sample:
    try:
        sample = msgspec.convert(values, _Sample)
    except (msgspec.ValidationError, UnicodeEncodeError) as e:  # a lone surrogate is no text
        fix = "samples without hashes cannot be paired: use a newer lm-eval" if "_hash" in str(e) else ""
        raise QuantcaseError(f"{where}: {e}", fix=fix or "is it a samples file of lm-eval?") from None
    for name in ("doc_hash", "prompt_hash"):
        if not _HASH.fullmatch(getattr(sample, name)):
            raise QuantcaseError(f"{where}: {name} is no hash", fix="use a newer lm-eval")
    sample.filter = files.plain_text(sample.filter)
    return sample


def _answer(sample: _Sample, where: str) -> tuple[str | None, str | None]:
    """The first request's first text, and what the filter made of it; the likeliest choice where choices are compared.

    One text whose likelihood was asked is no answer: both are None.
    """
    first = [_first(r) for r in sample.resps]
    if first and all(isinstance(x, str) for x in first):
        filtered = _first(sample.filtered_resps)
        while isinstance(filtered, list):  # a filter that keeps several answers of one request
            filtered = _first(filtered)
        return files.plain_text(first[0]), files.plain_text(filtered) if isinstance(filtered, str) else None
    try:
        likelihoods = [float(_first(pair)) for pair in first]
    except (TypeError, ValueError):
        likelihoods = []
    if not likelihoods:
        raise QuantcaseError(
            f"{where}: resps holds neither texts nor likelihoods", fix="is it a samples file of lm-eval?"
        )
    if "acc_mutual_info" in sample.metrics and len(likelihoods) % 2 == 0:
        likelihoods = likelihoods[: len(likelihoods) // 2]  # the second half is without the question
    if len(likelihoods) < 2:
        return None, None
    best = max(range(len(likelihoods)), key=lambda i: -math.inf if math.isnan(likelihoods[i]) else likelihoods[i])
    return str(best), str(best)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _score(values: dict[str, Any], metric: str, lower_is_better: bool) -> tuple[float | None, str]:
    """The metric as a share, or why there is none. `bypass` stands for "not scored", which is no fault."""
    if metric == "bypass":
        return None, ""
    if not metric:
        return None, "lm-eval names no metric"
    if metric not in values:
        return None, f"{metric} is missing"
    value = values[metric]
    if not isinstance(value, int | float):  # a bool is an int
        return None, f"{metric} is no number"
    if not 0 <= value <= 1:  # nor is NaN
        return None, f"{metric} is {str(value)[:20]}, which is no share between 0 and 1"
    return (None, f"{metric} is better when lower") if lower_is_better else (float(value), "")


def _asked(arguments: Any) -> tuple[Literal["chat", "completions"], str | None, list[dict[str, Any]] | None, int]:
    """The API, the prompt or the messages, and the most tokens of an answer (0: not said) of the first request."""
    request = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    if not isinstance(request, dict):
        return "completions", None, None, 0
    settings = request.get("arg_1")
    most = 0
    if isinstance(settings, dict):
        most = next((n for k in ("max_tokens", "max_gen_toks") if type(n := settings.get(k)) is int and n > 0), 0)
    asked = request.get("arg_0")
    if isinstance(asked, list) and len(asked) == 1 and isinstance(asked[0], str):  # a chat travels as JSON in a list
        messages = files.decode(asked[0].encode("utf-8", "replace"))
        if isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages):
            return "chat", None, messages, most
    return "completions", files.plain_text(asked) if isinstance(asked, str) else None, None, most


def _complete(source: Found, summary: dict[str, Any], filters: Counter[str]) -> None:
    """All that lm-eval says it evaluated is there; a file can be cut at the end of a line."""
    if not filters:
        raise QuantcaseError(f"{source.path} is empty", fix=files.AGAIN)
    counts = files.table(summary, "n-samples").get(source.task)
    effective = counts.get("effective") if isinstance(counts, dict) else None
    if isinstance(effective, int):
        for name, n in filters.items():
            if n < effective:
                raise QuantcaseError(
                    f"{source.path} holds {n} of {effective} samples (filter {name})",
                    fix=f"copy it again, or {files.AGAIN}",
                )


def _lower_is_better(summary: dict[str, Any], task: str, metric: str) -> bool:
    directions = files.table(summary, "higher_is_better").get(task)
    return isinstance(directions, dict) and directions.get(metric) is False


def facts(folder: Path) -> dict[str, object]:
    """What the newest results files below `folder` say of how they came about, for the bundle's environment.

    `lm_eval_version`, `git_hash` (of the folder that it ran in), `model` and `model_name`, `model_args` without keys
    and tokens, `gen_kwargs`, `limit`, and by task `task_versions`, `n_samples` and `num_fewshot`.

    Raises:
        QuantcaseError: there is no results file, or one is too large or damaged.
    """
    newest = sorted(files.find_results(folder), key=lambda f: (f.date, str(f.path)), reverse=True)
    if not newest:
        raise QuantcaseError(f"{folder} holds no results_*.json of lm-eval", fix=files.AGAIN)
    runs = [files.results(f.path) for f in newest]
    last, config = runs[0], files.table(runs[0], "config")
    out: dict[str, object] = {
        "lm_eval_version": _clean(last.get("lm_eval_version")),
        "git_hash": _clean(last.get("git_hash")),
        "model": _clean(config.get("model")),
        "model_name": _clean(last.get("model_name")),
        "model_args": _clean(_arguments(config.get("model_args"))),
        "gen_kwargs": _clean(_arguments(config.get("gen_kwargs"))),
        "limit": _clean(config.get("limit")),
    }
    for name, key in (("task_versions", "versions"), ("n_samples", "n-samples"), ("num_fewshot", "n-shot")):
        by_task: dict[str, Any] = {}
        for one in reversed(runs):  # the newest wins
            by_task |= files.table(one, key)
        out[name] = {files.plain_text(task): _clean(value) for task, value in sorted(by_task.items())}
    return out


def _arguments(value: Any) -> Any:
    """Arguments as a table; older ones wrote them as one text, `key=value,key=value`."""
    if not isinstance(value, str):
        return value
    if isinstance(table := files.decode(value.encode("utf-8", "replace")), dict):
        return table
    out: dict[str, str] = {}
    value = value[:100_000]
    part, depth = "", 0
    for c in value + ",":
        depth = max(0, depth + (c in "[({") - (c in "])}"))
        if c == "," and not depth:
            key, _, rest = part.partition("=")
            if key.strip():
                out[key.strip()] = rest
            part = ""
        else:
            part += c
    if part:  # a bracket that is never closed: what it hides is not known
        out[part.partition("=")[0].strip()] = "[removed]"
    return out


def _clean(value: Any, depth: int = 0) -> Any:
    """The same without secrets: entries that are named like one are left out, texts are redacted and not endless."""
    if isinstance(value, dict | list) and depth > 8:
        return None
    if isinstance(value, dict):
        return {files.plain_text(k): _clean(v, depth + 1) for k, v in value.items() if not _secret(k, v)}
    if isinstance(value, list):
        return [_clean(v, depth + 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return redact(files.plain_text(value[:20_000]))[:2_000] if isinstance(value, str) else value


def _secret(key: str, value: Any) -> bool:
    return bool(_SECRET.search(key)) and not isinstance(value, bool) and not _HARMLESS.fullmatch(key)
