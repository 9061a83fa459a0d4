"""Q5xx, references: every row is of a variant, a workload, a load point, a prompt that exists, and stands once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from collector.bundle.answers import LikelihoodRow, QualityRow
from collector.bundle.marks import MARKS
from collector.bundle.predictions import PREDICTIONS
from collector.bundle.rules.base import Found, rule
from collector.bundle.rules.facts import Facts, gpu_indices, key_of, place
from collector.bundle.stress import STRESS, problems
from collector.study import Load, Workload

__all__: list[str] = []

_AGAIN = "copy the bundle again, or measure it again"
_REQUESTS = "requests.csv.gz"


@rule(
    "Q501",
    "error",
    "Every request is of a variant of the study.",
    why="A row of another run would be counted in.",
    fix=_AGAIN,
    needs="study requests",
)
def request_variant(facts: Facts) -> Iterator[Found]:
    for name in sorted({k[0] for k in facts.by_cell} - set(facts.variant_names)):
        yield Found(_REQUESTS, f"variant {name} is not in study.toml")


@rule(
    "Q502",
    "error",
    "Every request is of a workload of the study.",
    why="Its prompts, its lengths and its limits are nowhere written down.",
    fix=_AGAIN,
    needs="study requests",
)
def request_workload(facts: Facts) -> Iterator[Found]:
    for name in sorted({k[2] for k in facts.by_cell} - {w.name for w in facts.asked.workloads}):
        yield Found(_REQUESTS, f"workload {name} is not in study.toml")


@rule(
    "Q503",
    "error",
    "Every request is of a load point that its workload names, or that a search may add.",
    why="What c16 or r2.5 was asked for decides what its figures mean.",
    fix=_AGAIN,
    needs="study requests measured",
)
def request_load(facts: Facts) -> Iterator[Found]:
    workloads = {w.name: w for w in facts.asked.workloads}
    for workload, load in sorted({(k[2], k[3]) for k in facts.by_cell}):
        if workload in workloads and not _may_have(workloads[workload], load):
            yield Found(_REQUESTS, f"{load} is no load point of workload {workload}")


def _may_have(workload: Workload, name: str) -> bool:
    load = Load.of(name)
    if load is None:
        return False
    searched = workload.search != "none" and load.rate is not None and name.startswith("r")
    return searched or name in {x.name for x in workload.loads()}


@rule(
    "Q504",
    "error",
    "Every request is of a server start that variants.csv tells about.",
    why="Of a start without a row nobody knows what was served.",
    fix=_AGAIN,
    needs="study requests complete",
)
def request_start(facts: Facts) -> Iterator[Found]:
    known = {(v.variant, v.start) for v in facts.variants}
    for variant, start in sorted({(k[0], k[1]) for k in facts.by_cell} - known):
        if variant in facts.variant_names:
            yield Found(_REQUESTS, f"{variant} start {start} has no row in variants.csv")


@rule(
    "Q505",
    "error",
    "Every request stands once.",
    why="Rows that are counted twice make n larger and intervals smaller than they are.",
    fix=_AGAIN,
    needs="requests",
)
def request_once(facts: Facts) -> Iterator[Found]:
    for key, rows in facts.by_cell.items():
        if len({r.index for r in rows}) < len(rows):
            index, times = Counter(r.index for r in rows).most_common(1)[0]
            yield Found(f"{_REQUESTS}: {place(key)}", f"request {index} stands {times} times")


@rule(
    "Q506",
    "error",
    "Every row of variants.csv is of a variant of the study, and each server start stands once.",
    why="Memory and kernels are read off these rows.",
    fix=_AGAIN,
    needs="study variants",
)
def variant_rows(facts: Facts) -> Iterator[Found]:
    for (name, start), times in Counter((v.variant, v.start) for v in facts.variants).items():
        if name not in facts.variant_names:
            yield Found("variants.csv", f"variant {name} is not in study.toml")
        if times > 1:
            yield Found("variants.csv", f"{name} start {start} stands {times} times")


@rule(
    "Q507",
    "error",
    "Every cell repeat stands once in cells.csv.",
    why="A repeat that is counted twice makes the interval smaller than it is.",
    fix=_AGAIN,
    needs="cells",
)
def cell_once(facts: Facts) -> Iterator[Found]:
    for key, times in Counter(key_of(c) for c in facts.cells).items():
        if times > 1:
            yield Found(f"cells.csv: {place(key)}", "stands twice" if times == 2 else f"stands {times} times")


@rule(
    "Q508",
    "error",
    "Every cell repeat has its requests.",
    why="A summary without rows is a claim without evidence.",
    fix=_AGAIN,
    needs="cells",
)
def cell_requests(facts: Facts) -> Iterator[Found]:
    for key in dict.fromkeys(key_of(c) for c in facts.cells):
        if key not in facts.by_cell:
            yield Found(f"cells.csv: {place(key)}", "has no rows in requests.csv.gz")


@rule(
    "Q509",
    "error",
    "Every request of a complete run belongs to a row of cells.csv.",
    why="Rows that no summary holds may be those that somebody did not like.",
    fix=_AGAIN,
    needs="requests complete",
)
def request_cell(facts: Facts) -> Iterator[Found]:
    for key in sorted(facts.by_cell.keys() - {key_of(c) for c in facts.cells}):
        yield Found(f"{_REQUESTS}: {place(key)}", "has no row in cells.csv")


@rule(
    "Q510",
    "error",
    "Every histogram of chunk gaps is of a cell repeat that was measured.",
    why="Gaps of another run would be drawn into its charts.",
    fix=_AGAIN,
    needs="gaps complete",
)
def gap_cell(facts: Facts) -> Iterator[Found]:
    for key in sorted({key_of(g) for g in facts.gaps} - facts.by_cell.keys()):
        yield Found(f"chunk_gaps.csv: {place(key)}", "has no rows in requests.csv.gz")


@rule(
    "Q511",
    "error",
    "Every entry of client.json is of a cell repeat that was measured, and stands once.",
    why="What the client says of itself must be about these figures.",
    fix=_AGAIN,
    needs="client complete",
)
def client_cell(facts: Facts) -> Iterator[Found]:
    for key, times in Counter(key_of(c) for c in facts.client.cells).items():
        if key not in facts.by_cell:
            yield Found(f"client.json: {place(key)}", "has no rows in requests.csv.gz")
        if times > 1:
            yield Found(f"client.json: {place(key)}", f"stands {times} times")


@rule(
    "Q512",
    "error",
    "Every telemetry sample is of a card that environment.json names.",
    why="Power and memory of a neighbour's card would be taken for ours.",
    fix=_AGAIN,
    needs="telemetry cards",
)
def telemetry_card(facts: Facts) -> Iterator[Found]:
    for gpu in sorted({s.gpu for s in facts.telemetry} - facts.cards_mib.keys()):
        yield Found("telemetry.csv.gz", f"GPU {gpu} is not in environment.json")


@rule(
    "Q513",
    "error",
    "Every scrape of the engine's metrics is of a variant of the study.",
    why="Running and waiting requests are read off these rows.",
    fix=_AGAIN,
    needs="study engine_metrics",
)
def metrics_variant(facts: Facts) -> Iterator[Found]:
    for name in sorted({m.variant for m in facts.engine_metrics} - set(facts.variant_names)):
        yield Found("engine_metrics.csv.gz", f"variant {name} is not in study.toml")


@rule(
    "Q514",
    "error",
    "Every prompt of the quality suites stands once.",
    why="A prompt that stands twice weighs twice.",
    fix=_AGAIN,
    needs="items",
)
def item_once(facts: Facts) -> Iterator[Found]:
    for prompt, times in Counter(i.prompt_id for i in facts.items).items():
        if times > 1:
            yield Found("quality_items.jsonl", f"{prompt} stands {times} times")


def _answers(facts: Facts) -> Iterator[tuple[str, QualityRow | LikelihoodRow]]:
    rows: list[QualityRow | LikelihoodRow] = [*facts.answers, *facts.likelihood]
    for row in rows:
        yield f"quality: {row.variant} {row.prompt_id} pass {row.repeat}", row


@rule(
    "Q515",
    "error",
    "Every answer is of a variant of the study.",
    why="An answer of another model would be scored for this one.",
    fix=_AGAIN,
    needs="study answers",
)
def answer_variant(facts: Facts) -> Iterator[Found]:
    names = set(facts.variant_names)
    for where, row in _answers(facts):
        if row.variant not in names:
            yield Found(where, f"variant {row.variant} is not in study.toml")


@rule(
    "Q516",
    "error",
    "Every answer is to a prompt of quality_items.jsonl.",
    why="An answer to nothing that was asked cannot be right or wrong.",
    fix=_AGAIN,
    needs="answers",
)
def answer_prompt(facts: Facts) -> Iterator[Found]:
    known = {i.prompt_id for i in facts.items}
    for where, row in _answers(facts):
        if row.prompt_id not in known:
            yield Found(where, "no such prompt in quality_items.jsonl")


@rule(
    "Q517",
    "error",
    "Every answer is to the very text that quality_items.jsonl holds, by its sha256.",
    why="Variants that were asked different things cannot be compared.",
    fix=_AGAIN,
    needs="answers items",
)
def answer_text(facts: Facts) -> Iterator[Found]:
    known = {i.prompt_id: i.prompt_sha256 for i in facts.items}
    for where, row in _answers(facts):
        if known.get(row.prompt_id, row.prompt_sha256) != row.prompt_sha256:
            yield Found(where, "it answers another prompt than the one in quality_items.jsonl")


@rule(
    "Q518",
    "error",
    "Every answer stands once in its pass.",
    why="An answer that is counted twice weighs twice.",
    fix=_AGAIN,
    needs="answers",
)
def answer_once(facts: Facts) -> Iterator[Found]:
    seen: set[tuple[str, int, str]] = set()
    for where, row in _answers(facts):
        key = (row.variant, row.repeat, row.prompt_id)
        if key in seen:
            yield Found(where, "stands twice")
        seen.add(key)


@rule(
    "Q519",
    "error",
    "Every mark of a person is of an answer that exists.",
    why="A remark would be shown beside nothing.",
    fix="mend that line of marks.csv, then `collect seal`",
    needs="study marks",
)
def mark_answer(facts: Facts) -> Iterator[Found]:
    prompts, variants = {i.prompt_id for i in facts.items}, set(facts.variant_names)
    for mark in facts.marks:
        if mark.variant not in variants or mark.prompt_id not in prompts:
            yield Found(MARKS, f"{mark.variant} {mark.prompt_id}: no such answer")


@rule(
    "Q520",
    "error",
    "The predictions speak of a variant of the study.",
    why="What was expected is held against what was measured.",
    fix=_AGAIN,
    needs="study predictions",
)
def predicted(facts: Facts) -> Iterator[Found]:
    name = facts.predictions.answers.variant if facts.predictions else ""
    if name and name not in facts.variant_names:
        yield Found(PREDICTIONS, f"variant {name} is not in study.toml")


@rule(
    "Q521",
    "error",
    "The steps of the stress test are of known variants, stand once, and can be true together.",
    why="How far a variant can be pushed is read off the last good step.",
    fix=_AGAIN,
    needs="study stress",
)
def stressed(facts: Facts) -> Iterator[Found]:
    for where, words in problems(facts.stress, set(facts.variant_names)):
        yield Found(f"{STRESS}: {where}", words)


@rule(
    "Q522",
    "error",
    "The GPUs of a server are tensor x pipeline x data parallel, and each of them is named once and is on the box.",
    why="Costs, throughput per GPU and memory are counted over these GPUs.",
    fix=_AGAIN,
    needs="variants",
)
def server_gpus(facts: Facts) -> Iterator[Found]:
    for v in facts.variants:
        where = f"variants.csv: {v.variant} start {v.start}"
        sizes = [n for n in (v.tensor_parallel, v.pipeline_parallel, v.data_parallel) if n is not None]
        if v.gpus is not None and sizes and v.gpus != math.prod(sizes):
            yield Found(where, f"{v.gpus} GPUs, but {' x '.join(map(str, sizes))} by its sizes")
        if v.gpu_indices is None:
            continue
        indices = gpu_indices(v)
        if len(set(indices)) != (len(indices) if v.gpus is None else v.gpus) or not indices:
            yield Found(where, f"gpu_indices {v.gpu_indices} does not name {v.gpus or 'its'} GPUs, each once")
        elif facts.cards_mib and not set(indices) <= facts.cards_mib.keys():
            yield Found(where, f"gpu_indices {v.gpu_indices}: environment.json does not name all of these")
