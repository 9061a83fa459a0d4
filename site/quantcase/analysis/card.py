"""What a model card says of one variant: its facts, its scores by suite, and the front matter that the Hub reads.

The front matter follows the Hub's own description (huggingface/hub-docs, modelcard.md): only identifiers go into it
that the Hub knows how to read, because a card with a wrong `base_model` or `license` is refused when it is pushed.
What a bundle calls otherwise is said in the card's text instead. Throughput is no metric of the Hub, so `model-index`
holds accuracies alone, and only such as were measured on real weights.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import yaml

from collector.bundle.read import Load, Variant
from collector.bundle.schema import VariantRow
from quantcase.analysis.compare import Comparison
from quantcase.analysis.points import Point, pick
from quantcase.analysis.quality import Quality
from quantcase.catalog import Case

__all__ = [
    "Card",
    "Measured",
    "SuiteScore",
    "card",
    "carded",
    "clean",
    "front_matter",
    "hub_id",
    "measured",
    "metadata",
]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
_MOST_HUB_ID = 96
_MOST_NAME = 60
_MOST_TEXT = 200
_LICENSE = re.compile(r"\blicen[cs]e\s*[:=]\s*[\"'`]?([A-Za-z0-9][A-Za-z0-9.+-]*)", re.I)
# Identifiers of huggingface/hub-docs, docs/hub/repositories-licenses.md, and the later ones of the Llama family.
_LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib
    pddl lgpl-lr deepfloyd-if-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma
    """.split()
)
_LIBRARIES = {"vllm": "vllm", "llamacpp": "gguf"}  # what the Hub calls the library that loads such files
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9 ._/-]*")
_WHOLE_KV = ("auto", "f16", "bf16", "float16", "bfloat16", "f32")


@dataclass(frozen=True)
class SuiteScore:
    """Answers of one scored suite: how many of `n` are right, with the baseline's on the same prompts."""

    suite: str
    kind: str
    dataset: str  # an id of the Hub where the suite asks one of its data sets, else the kind of a suite of ours
    n: int
    right: int
    baseline_right: int
    tasks: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Right answers as a share of 1."""
        return self.right / self.n

    @property
    def baseline_accuracy(self) -> float:
        """The baseline's, on the same prompts."""
        return self.baseline_right / self.n


@dataclass(frozen=True)
class Card:
    """One variant that served. `base_model` and `license` are None where the bundle names none that the Hub reads."""

    case: Case
    variant: Variant
    row: VariantRow  # its first server start that served
    name: str  # a repository's name: base model and variant
    is_baseline: bool
    published: bool  # somebody's table: no harness of ours, so nothing is compared and little is known
    quantized: bool  # whether its weights are; a quantized KV cache alone makes no other checkpoint
    kv_quantized: bool
    base_model: str | None
    license: str | None
    license_named: str  # what the study names as license, known or not; empty when nothing
    judged: bool  # whether answers of this bundle say anything of the model: sound, real weights, no replay, no table
    scores: tuple[SuiteScore, ...]
    requests: int  # measured requests of this variant
    failed: int
    repeats: tuple[int, int]  # fewest and most repeats of a cell of this variant; (0, 0) when none was measured
    timed_starts: int  # server starts behind its speed
    limited: tuple[tuple[str, str], ...]  # (workload, load) at which the client was the limit, for it or the baseline

    @property
    def compared(self) -> bool:
        """Whether the baseline's figures stand beside its own."""
        return not self.is_baseline and not self.published


@dataclass(frozen=True)
class Measured:
    """One metric at one load point, with the baseline's and their ratio where both were measured."""

    workload: str
    load: Load
    mine: Point
    baseline: Point | None
    change: Comparison | None  # for a cost: that of the throughput which it follows from


def carded(case: Case) -> list[str]:
    """The variants that get a card: all that served, the baseline first; not the control, which is the baseline."""
    names = [v.name for v in case.study.variants if v.name != case.study.control and case.served(v.name) is not None]
    return sorted(names, key=lambda n: n != case.baseline)


def card(
    case: Case, variant: str, found: Sequence[Quality], limited: Iterable[tuple[str, str, str]] = ()
) -> Card:  # fmt: skip
    """The facts of one variant's card.

    `found` is the quality of all variants, because the baseline's scores stand in each of them; `limited` are the
    (variant, workload, load) at which the client was the limit.

    Raises:
        KeyError: no such variant, or it never served.
    """
    asked, row = case.study.variant(variant), case.served(variant)
    if row is None:
        raise KeyError(f"{variant} did not serve")
    is_baseline = variant == case.baseline
    info = case.bundle.info
    mine = case.requests[case.requests["variant"] == variant]
    cells = case.cells[case.cells["variant"] == variant]
    counts = cells.groupby(["workload", "load"]).size().tolist()
    named = _license_named(case, asked)
    source = next((q for q in found if q.variant == variant or is_baseline), None)
    return Card(
        case=case,
        variant=asked,
        row=row,
        name=variant if info.grade == "published" else _name(case.study.base_model, variant),
        is_baseline=is_baseline,
        published=info.grade == "published",
        quantized=asked.method != "none" and (not is_baseline or info.grade == "published"),
        kv_quantized=asked.kv_dtype not in _WHOLE_KV,
        base_model=hub_id(case.study.base_model),
        license=named.lower() if named.lower() in _LICENSES else None,
        license_named=named,
        judged=case.sound and info.weights == "real" and info.grade in ("measured", "imported"),
        scores=tuple(_scores(case, source, is_baseline)) if source else (),
        requests=len(mine),
        failed=int((mine["status"] != "ok").sum()),
        repeats=(min(counts), max(counts)) if counts else (0, 0),
        timed_starts=int(cells["start"].nunique()),
        limited=tuple(sorted({(w, load) for v, w, load in limited if v in (variant, case.baseline)})),
    )


def measured(
    case: Case, points: Sequence[Point], comparisons: Sequence[Comparison], variant: str, metric: str, like: str = ""
) -> list[Measured]:  # fmt: skip
    """One metric of a variant at every load point where it is known well enough to be shown.

    `like` is the metric whose ratio stands beside it, where that is another: a cost follows from a throughput.
    """
    found = []
    for workload, load in case.points_of_load():
        mine = pick(points, variant, workload.name, load.name, metric)
        if mine is None or not mine.shown:
            continue
        key = (variant, workload.name, load.name, like or metric)
        change = next((c for c in comparisons if (c.variant, c.workload, c.load, c.metric) == key), None)
        base = pick(points, case.baseline, workload.name, load.name, metric)
        found.append(Measured(workload.name, load, mine, base, change))
    return found


def metadata(found: Card) -> dict[str, object]:
    """The front matter of the card, in the order in which the Hub's own cards have it; plain types only."""
    made: dict[str, object] = {}
    if found.base_model:
        made["base_model"] = found.base_model
        if found.quantized:
            made["base_model_relation"] = "quantized"
    if found.license:
        made["license"] = found.license
    if library := _LIBRARIES.get(found.row.engine):
        made["library_name"] = library
    made["pipeline_tag"] = "text-generation"
    made["tags"] = _tags(found)
    if found.judged and found.scores:
        made["model-index"] = [{"name": found.name, "results": [_result(s) for s in found.scores]}]
    return made


class _Dumper(yaml.SafeDumper):
    """PyYAML writes YAML 1.1 and the Hub reads 1.2: `1e3` is a text in one and a number in the other."""


def _quoted(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if _WORD.fullmatch(value) else '"')


_Dumper.add_representer(str, _quoted)


def front_matter(found: Card) -> str:
    """`metadata` as YAML that old and new parsers read alike: what is no plain word is quoted, no line is folded."""
    dumped = yaml.dump(metadata(found), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20)
    return str(dumped).strip()


def clean(value: object, most: int = _MOST_TEXT) -> str:
    """Text of a bundle as one line: no controls, nothing that turns the direction of writing, not longer than `most`.

    It is still untrusted: a page escapes it, the YAML dumper quotes it.
    """
    line = " ".join(str(value).split())
    kept = "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
    return kept if len(kept) <= most else kept[: most - 1] + "…"


def hub_id(value: str) -> str | None:
    """The value where it has the form of a model's or data set's id on the Hub (`owner/name`), else None.

    The rules are those of huggingface_hub's validate_repo_id; an owner is asked for too, because a bare word is far
    more often a file's name than one of the few ids of old without one.
    """
    fits = _HUB_ID.fullmatch(value) and len(value) <= _MOST_HUB_ID and "--" not in value and ".." not in value
    return value if fits and not value.endswith(".git") else None


def _name(base_model: str, variant: str) -> str:
    """A repository's name for the variant, from the base model's last part."""
    last = clean(base_model).rstrip("/").rsplit("/", 1)[-1]
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", last)
    slug = re.sub(r"-{2,}", "-", re.sub(r"\.{2,}", ".", slug))[:_MOST_NAME].strip("-._")
    return f"{slug}-{variant}" if slug else variant


def _license_named(case: Case, variant: Variant) -> str:
    """What stands behind `license:` in the variant's note, or else in the study's question or title."""
    for words in (variant.note, case.study.question, case.study.title):
        if match := _LICENSE.search(words):
            return match[1].rstrip(".")
    return ""


def _tags(found: Card) -> list[str]:
    """Tags that the Hub and people filter by: the method, whole bits, the engine, and where the figures come from."""
    tags = []
    if found.quantized:
        tags += ["quantized", *(_slug(part) for part in found.variant.method.split(":"))]
        bits = found.row.bits if found.row.bits is not None else found.variant.bits
        if bits is not None and bits in (2, 3, 4, 8):
            tags.append(f"{bits:.0f}-bit")
    if found.kv_quantized:
        tags.append(_slug(f"{found.variant.kv_dtype}-kv-cache"))
    tags += [_slug(found.row.engine), "quantcase"]
    return [t for t in dict.fromkeys(tags) if t]


def _slug(value: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", clean(value, _MOST_NAME).lower()).strip("-._")


def _scores(case: Case, found: Quality, is_baseline: bool) -> list[SuiteScore]:
    """Tasks of one suite taken together, in the order in which the study names the suites."""
    suites = {s.title: s for s in case.study.quality}
    groups: dict[str, list[int]] = {}
    for number, task in enumerate(found.tasks):
        groups.setdefault(task.suite, []).append(number)
    made = []
    for suite in sorted(groups, key=lambda s: (list(suites).index(s) if s in suites else len(suites), s)):
        tasks = [found.tasks[number] for number in groups[suite]]
        asked = suites.get(suite)
        kind = asked.kind if asked else "other"
        base = sum(t.paired.baseline_right for t in tasks)
        made.append(
            SuiteScore(
                suite=suite,
                kind=kind,
                dataset=(hub_id(asked.dataset) if asked else None) or f"quantcase-{kind}",
                n=sum(t.paired.n for t in tasks),
                right=base if is_baseline else sum(t.paired.variant_right for t in tasks),
                baseline_right=base,
                tasks=tuple(t.task for t in tasks),
            )
        )
    return made


def _result(score: SuiteScore) -> dict[str, object]:
    """One entry of model-index. The value is a share of 1; how many prompts it rests on stands beside it."""
    return {
        "task": {"type": "text-generation"},
        "dataset": {
            "name": clean(score.suite),
            "type": score.dataset,
            "args": {"items": score.n, "tasks": [clean(t) for t in score.tasks]},
        },
        "metrics": [
            {
                "type": "accuracy",
                "name": "share of prompts answered right",
                "value": round(score.accuracy, 4),
                "args": {"right": score.right, "items": score.n},
            }
        ],
    }
