"""A folder of lm-evaluation-harness: `results_*.json` and `samples_*.jsonl`, one model.

Answers become quality rows by `collector.quality.lm_eval_results`: two variants pair on what lm-eval hashes itself
(document, prompt and filter), so that a comparison is of the same questions asked in the same words. What the results
file says of a whole task is kept beside them under lm-eval's name; its standard errors are not paired.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from collector.bundle.answers import QualityItem, QualityRow
from collector.errors import QuantcaseError
from collector.importers.base import Figure, Hints, Imported, Metric, Point
from collector.importers.reading import Node, file_of, read_bytes, read_json, short
from collector.quality import lm_eval_files, lm_eval_results

__all__ = ["IMPORTER", "LmEval"]

_APART = 1e-6  # by which a task's mean and that of its samples may differ
_MEANS = ("acc", "acc_norm", "exact_match", "em", "pass@1")  # metrics that lm-eval aggregates by their mean
_FACTS = ("model", "model_name", "model_args", "gen_kwargs", "limit", "git_hash", "num_fewshot", "task_versions")


class LmEval:
    """Reads the output folder of one model."""

    name = "lm-eval"

    def read(self, paths: Sequence[Path], hints: Hints) -> Imported:
        """Items and rows of the newest samples of each task; one point a task with lm-eval's own figures."""
        folder = _folder(paths)
        try:
            items, rows = lm_eval_results.read(folder, variant="imported", start=1)
        except UnicodeError as e:  # JSON can spell half a character, which no text may hold
            raise QuantcaseError(
                f"{short(folder.name)}: a samples file holds {short(e.reason)}"
                if isinstance(e, UnicodeEncodeError)
                else f"{short(folder.name)}: a samples file is no UTF-8",
                fix=lm_eval_files.AGAIN,
            ) from None
        samples = _newest_samples(folder)
        results = lm_eval_files.find_results(folder)
        out = Imported(tool=self.name, tool_version=None, files=[], points=[], items=items, answers=rows)
        for path in dict.fromkeys([*(f.path for f in samples.values()), *(f.path for f in results)]):
            out.files.append(file_of(path, read_bytes(path)))
        out.missing += [
            "The server, its engine, the GPU and the quantization are not in the files.",
            "Answers have no times: nothing is said of speed.",
        ]
        out.notes += [
            "Variants pair on lm-eval's own hashes of document and prompt, and on the filter.",
            "The score of a row is the first metric of its task; lm-eval's standard errors are not paired.",
        ]
        if not results:
            out.missing.append(
                "There is no results_*.json: version, model, limits and metrics' directions are unknown."
            )
            return out
        facts = lm_eval_results.facts(folder)
        out.tool_version = str(facts["lm_eval_version"]) if facts["lm_eval_version"] else None
        out.model = short(facts["model_name"], 200) if facts["model_name"] else ""
        out.facts = {key: short(facts[key], 500) for key in _FACTS if facts[key]}
        if facts["limit"]:
            out.notes.append(f"Only a part of each task was asked: --limit {short(facts['limit'], 40)}.")
        scores = _scores(items, rows)
        for task, found in samples.items():
            path = found.path.with_name(f"results_{found.date}.json")
            if found.date and path.is_file():
                out.points.append(_point(read_json(path)[0], task, scores, out))
        return out


def _folder(paths: Sequence[Path]) -> Path:
    """The one folder that is named, or that all named files are in.

    Raises:
        QuantcaseError: several folders, or files beside which there are others that were not named.
    """
    folders = {p if p.is_dir() else p.parent for p in paths}
    if len(folders) != 1:
        raise QuantcaseError(
            f"{len(folders)} folders were named for one variant", fix="name the output folder of one model"
        )
    folder = folders.pop()
    if any(p.is_dir() for p in paths):
        return folder
    for path in paths:
        if not path.is_file():
            raise QuantcaseError(f"{short(path)} is no file", fix="name the output folder of one model")
    named = {p.name for p in paths}
    there = {f.path for f in [*lm_eval_files.find_samples(folder), *lm_eval_files.find_results(folder)]}
    if left := sorted(str(p.relative_to(folder)) for p in there if p.parent != folder or p.name not in named):
        raise QuantcaseError(
            f"{short(folder.name)} also holds {short(left[0])}, which was not named", fix="name the folder instead"
        )
    return folder


def _newest_samples(folder: Path) -> dict[str, lm_eval_files.Found]:
    """The files that `lm_eval_results.read` reads."""
    newest: dict[str, lm_eval_files.Found] = {}
    for found in lm_eval_files.find_samples(folder):
        if found.task not in newest or found.date > newest[found.task].date:
            newest[found.task] = found
    return dict(sorted(newest.items()))


def _scores(items: Sequence[QualityItem], rows: Sequence[QualityRow]) -> dict[tuple[str, str], list[float]]:
    """(task, "metric,filter") -> the scores of its samples."""
    out: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for item, row in zip(items, rows, strict=True):
        if row.score is not None:
            out[item.task.partition("[")[0], item.scorer].append(row.score)
    return out


def _point(results: Node, task: str, scores: dict[tuple[str, str], list[float]], out: Imported) -> Point:
    """What lm-eval says of a task, held against its samples."""
    point = Point(load=short(task, 60))
    tasks = results.get("results")
    found = tasks.get(task) if tasks is not None else None
    if found is None:
        out.missing.append(f"{results.where.rstrip(': ')} says nothing of {short(task)}.")
        return point
    n_samples = results.get("n-samples")
    counts = n_samples.get(task) if n_samples is not None else None
    n = counts["effective"].count() if counts is not None and "effective" in counts else None
    point.figures = list(_figures(found, n))
    for key in found.keys():  # noqa: SIM118 - a Node is no mapping
        mine = scores.get((task, key), [])
        if mine and len(mine) == n and key.partition(",")[0] in _MEANS and _is_number(found.value[key]):
            stated, given = found[key].number(), math.fsum(mine) / len(mine)
            if abs(stated - given) > _APART:
                raise found[key].fault(
                    f"is {stated:g}, the {len(mine)} samples give {given:g}",
                    "are results and samples of the same run, and unedited?",
                )
    return point


def _figures(task: Node, n: int | None) -> Iterator[Figure]:
    for key in task.keys():  # noqa: SIM118 - a Node is no mapping
        name, comma, of_filter = key.partition(",")
        if not comma or not _is_number(task.value[key]):
            continue
        name, of_filter = short(name), short(of_filter)
        plain = name.removesuffix("_stderr")
        words = f"{plain} of the whole task as lm-eval aggregates it, filter {of_filter}"
        if plain != name:
            words = f"lm-eval's standard error of {plain}, filter {of_filter}: of one variant by itself, not paired"
        metric = Metric(name=f"lm-eval.{name}[{of_filter}]", unit="", definition=words)
        yield Figure(metric=metric, statistic="value", value=task[key].number(), n=n)


def _is_number(value: object) -> bool:
    """lm-eval writes `N/A` where it has no standard error, and NaN where nothing was scored."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


IMPORTER = LmEval()
