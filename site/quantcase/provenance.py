"""Where every table and figure of the site comes from: what it says, which rows it is made of, where it is defined.

A page kind and a name stand for each: `case:table-load-*`. A test builds the real bundles and demands an entry for all
that comes out, so that none can be added without one. `quantcase.dress` shows these words beneath tables and charts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from collector.bundle.schema import TABLES
from quantcase.text import text

__all__ = ["REGISTRY", "Source", "kind_of", "source"]


@dataclass(frozen=True)
class Source:
    """Where one table or figure, or a family of them, comes from."""

    names: str  # `kinds:name`: page kinds joined by |, or * for any; in the name * is what differs in a family
    title: str  # what it is, short: caption where it has none, and its label; `{}` takes what `*` stood for
    what: str  # the definition, a sentence
    rows: str  # n and window
    files: tuple[str, ...]  # of the bundle, the one with the rows first; `*` allowed
    anchor: str  # of docs/methodology.md


_ALL_OK = "n: requests that ended well, over all repeats of the cell."
_PERCENTILES = f"{_ALL_OK} Window: from the first to the last request of each repeat, warm-up left out."
_STEADY = "n: repeats of the cell. Window: the steady window of each repeat."
_BOTH = f"{_ALL_OK} Window: the steady window for throughput, the whole repeat for latency; warm-up left out."
_START = "n: one reading of the first server start that served; a reading has no interval."
_ASKED = "n: prompts asked; one without an answer counts as wrong. The first pass of each variant."
_NO_WINDOW = "n: one row for each that the study names. There is no window: nothing here is timed."
_WHOLE = "n: every row of the bundle. Window: the whole run."
_SPEED = ("cells.csv", "requests.csv.gz")
_LATENCY = ("requests.csv.gz", "cells.csv")
_SAID = ("variants.csv", "logs/*")
_ANSWERS = ("quality.jsonl", "quality_items.jsonl")
_CELL, _SURE, _MEMORY, _QUALITY = "what-a-cell-is", "how-sure-a-figure-is", "memory", "quality"
_APPLIED, _COST, _CHOICE, _STRESS = "was-the-quantization-applied", "cost", "choosing-a-configuration", "under-stress"
_OFFLOAD, _FIXED, _LOCUST, _FORETOLD = "offload", "what-was-held-fixed", "load-test-by-users", "predictions"
_REQUEST, _ROOFS, _WHOSE, _CLIENT = "what-a-request-is", "roofs", "grades-of-evidence", "the-client-itself"
_TRACED = "from-a-page-to-its-rows"
_GPUS = "several-gpus"
_SERVERS = "servers-over-several-gpus"

# fmt: off
_OVERVIEWS = (
    Source("home|cases:table-matrix", "All variants of all cases",
           "Each variant at the highest load that its workload was measured at, beside its baseline.",
           _BOTH, _SPEED, _SURE),
    Source("costs:table-prices", "What an hour costs",
           "The price of an hour of the machine: an input with its source, not a measurement.",
           "n: one price a case. There is no window.", ("study.toml",), _COST),
    Source("costs|case:table-cost*", "What tokens and requests cost",
           "USD per million output tokens: the hour's price over the tokens that the hour gives, the card in use all "
           "the time. Saving: against the baseline of the same workload and load.",
           _STEADY, ("cells.csv", "study.toml"), _COST),
    Source("summary|case:table-offload-*", "VRAM with and without offload",
           "The source's own figures; saved = baseline − offload, reduction = saved / baseline, worked out again.",
           "n: runs, as the source states them. Nothing here was measured by this collector.",
           ("published.csv", "notes.md"), _OFFLOAD),
    Source("summary:fig-offload", "VRAM of each quantization, with and without offload",
           "The source's figures with everything on the GPU and with offload to the CPU, GB.",
           "n: as the source states. Nothing here was measured by this collector.", ("published.csv",), _OFFLOAD),
    Source("summary:table-gguf-*", "GGUF quantizations as measured",
           "Sizes as llama.cpp's log states them, output tokens per second at each load, quality's verdict.",
           f"{_STEADY} Sizes: of the first server start.", ("cells.csv", "variants.csv", "logs/*"), _OFFLOAD),
    Source("summary:table-pairs-*", "VRAM measured with and without offload",
           "The same model with everything on the GPU and with offload; saved = baseline − offload.",
           _START, _SAID, _OFFLOAD),
)

_CASE = (
    Source("case:table-hardware", "Hardware", "The machine as its driver and its kernel name it.",
           "n: the first session of the run.", ("environment.json",), _FIXED),
    Source("case:table-variants", "Variants", "What was served: checkpoint, method, and the kernel its log names.",
           "n: one row a variant, of the first server start that served. Ready: from spawn to healthy.",
           _SAID, _APPLIED),
    Source("case:table-configuration", "Engine configuration", "The parameters that all variants share.",
           _NO_WINDOW, ("study.toml", "variants.csv"), _FIXED),
    Source("case:table-vram", "Memory by variant",
           "The engine's own parts of memory, and the driver's view when idle, loaded and at its peak.",
           _START, _SAID, _MEMORY),
    Source("case:fig-vram", "Memory by part", "The engine's own parts of memory: weights, KV pool, the rest; GiB.",
           _START, _SAID, _MEMORY),
    Source("case:table-load-*", "Throughput and latency: {}",
           "Output tokens per second, and TTFT, TPOT and E2E, at each load point; Δ: against the baseline there.",
           _BOTH, _SPEED, _CELL),
    Source("case:fig-cost-*", "Cost of a million output tokens: {}",
           "USD per million output tokens: the hour's price over the tokens that the hour gives.",
           _STEADY, ("cells.csv", "study.toml"), _COST),
    Source("case:fig-*-throughput-tok-s*", "Throughput against load",
           "Output tokens inside the steady window, divided by its length; bars are 95 % intervals.",
           _STEADY, _SPEED, _CELL),
    Source("case:fig-*-frontier*", "Latency against throughput",
           "Each point is a load: output tokens per second across, E2E up.", _BOTH, _SPEED, _CELL),
    Source("case:fig-*-ratio*", "Throughput against the baseline",
           "Throughput divided by the baseline's at the same load; where it crosses 1 the advantage ends.",
           _STEADY, _SPEED, _SURE),
    Source("case:fig-*-ms-p*", "Latency against load", "A percentile of E2E, pooled over repeats.",
           _PERCENTILES, _LATENCY, _CELL),
    Source("case:table-recommendations", "Recommendations",
           "The verdict by a written rule, at the highest load of each workload; the rule is named.",
           f"{_STEADY} Quality: see its own table.", (*_SPEED, "quality.jsonl"), _SURE),
    Source("case:table-operating-points", "Operating points",
           "The fastest configuration that was measured; where servers differ in GPUs, by throughput per GPU.",
           _BOTH, _SPEED, _CELL),
    Source("case:table-stress", "Where each variant broke",
           "The last step that was good and the first that was not, of each ladder.",
           "n: each step was run once, so two steps bracket a limit and do not measure it.",
           ("stress.jsonl", "logs/*"), _STRESS),
    Source("case:table-stress-steps", "Every step of the stress ladders", "What happened at each step.",
           "n: the requests of the step. Window: the step; throughput its steady window.",
           ("stress.jsonl",), _STRESS),
    Source("case:table-trust*", "Can this measurement be trusted?",
           "What the client, the engine and the driver say of the measurement itself.",
           _WHOLE, ("client.json", "cells.csv", "telemetry.csv.gz", "engine_metrics.csv.gz"), _CLIENT),
    Source("case:table-servers", "Servers and their GPUs",
           "How many GPUs each server has, which, whether it served, its memory and how many contexts it holds.",
           _START, _SAID, _SERVERS),
    Source("case:table-server-speeds", "Throughput of the server and of one GPU",
           "Output tokens per second at the heaviest load of each workload, of the server and divided by its GPUs; the "
           "cost counts every GPU.", _STEADY, (*_SPEED, "study.toml"), _SERVERS),
    Source("case:table-save-gpu", "Quantized on fewer GPUs against unquantized on more",
           "Ratios of throughput, of the server and per GPU, and of latency at each load point that both have; the "
           "saving per token counts every GPU.", _BOTH, (*_SPEED, "variants.csv"), _SERVERS),
    Source("case:table-same-gpus", "Quantized against unquantized on as many GPUs",
           "The same ratios between servers of as many GPUs: like for like.",
           _BOTH, (*_SPEED, "variants.csv"), _SERVERS),
    Source("case:table-co-location", "One cell alone and beside other servers",
           "Medians of the trial's repeats, and the ratio together / alone with its 95 % interval over its pairs.",
           "n: pairs of repeats of one cell, before the run.", ("co_location.json",), _SERVERS),
    Source("case:table-doubts", "Doubts", "What speaks against a figure, told by rule.",
           _WHOLE, ("cells.csv", "requests.csv.gz", "telemetry.csv.gz", "client.json"), _SURE),
)

_QUALITY_PAGES = (
    Source("case|quality:table-quality", "Quality by variant",
           "Right answers over all suites with one right answer, against the baseline's on the same prompts.",
           f"{_ASKED} Flips: answers that changed between right and wrong.", _ANSWERS, _QUALITY),
    Source("case|quality:table-quality-tasks", "Quality by kind of prompt",
           "Right answers, and how many of the baseline's were lost and gained.", _ASKED, _ANSWERS, _QUALITY),
    Source("quality:table-rules-*", "Quality, rule by rule",
           "Each rule with what was seen. The verdict is the worst of the rules that decide.",
           f"{_ASKED} Likeness: tokens of the scored texts.", _ANSWERS, _QUALITY),
    Source("quality:table-likeness", "Likeness to the baseline",
           "How near the variant's probabilities of the same tokens are to the baseline's.",
           "n: tokens and texts, in the last column. Intervals resample texts.", _ANSWERS, _QUALITY),
    Source("quality:table-form", "Form and length of the answers",
           "Empty, repeating, unreadable and cut answers, their length, and where greedy answers part.",
           _ASKED, _ANSWERS, _QUALITY),
    Source("quality:table-marks", "A person's marks", "Answers that a person marked good, minor or bad.",
           "n: marked answers.", ("marks.csv", *_ANSWERS), _QUALITY),
    Source("quality:table-confusions", "Labels taken for each other", "Right label against the label answered.",
           _ASKED, _ANSWERS, _QUALITY),
)

_DATA = (
    Source("data:table-files", "Files of the bundle", "Every file with its bytes and its sha256.",
           "n: every file that the manifest names.", ("datapackage.json",), _TRACED),
    Source("versions:table-version", "Which version this is", "The bundle, by the sha256 of its manifest.",
           "n: every file that the manifest names.", ("datapackage.json",), _TRACED),
    Source("data:table-imported-files", "Files that were read", "Another tool's files, by name, bytes and sha256.",
           "n: every file that was read.", ("imported.json",), _TRACED),
    Source("data:table-imported-points", "Requests of each run", "What became of them, as the tool counts them.",
           "n: requests of one run of the tool. Window: the whole run.", ("imported.json", "requests.csv.gz"), _TRACED),
    Source("data:table-imported-figures", "Figures as the tool states them", "Each with the tool's own definition.",
           "n: as the tool states it, in its own column.", ("imported.csv",), _TRACED),
    Source("data:table-imported-columns-*", "How the tool came to our columns", "What it measured for each.",
           "n: every column of ours that its files fill.", ("imported.json",), _TRACED),
    Source("data:table-check", "What check says", "Findings of `collect check`: the rule, the place, what to do.",
           _WHOLE, ("datapackage.json",), _TRACED),
    *(Source(f"data:table-data-{name}", t.path, f"The file as it stands: {t.holds}. Empty columns are left out.",
             "n: the caption says how many rows there are.", (t.path,), _TRACED) for name, t in TABLES.items()),
    Source("data:table-environment", "Environment", "Host, software and GPU as they were recorded.",
           "n: every session of the run.", ("environment.json",), _FIXED),
)

_NOTES = (
    Source("notes:table-models", "Models and quantizations", "What was served, and the kernel its log names.",
           _NO_WINDOW, _SAID, _APPLIED),
    Source("notes:table-notes-vram", "Memory", "Weights by the engine's word; idle, loaded, under load by the driver.",
           _START, _SAID, _MEMORY),
    Source("notes:table-startup", "Start-up", "Seconds from the spawn of the engine's process to each mark in its log.",
           "n: one row a server start; a start has no interval.", _SAID, _MEMORY),
    Source("notes:table-notes-*", "Baseline against variant: {}",
           "Throughput and p95 E2E of both sides at the same load, and the change with its interval.",
           f"{_BOTH} The last column has n of both sides.", _SPEED, _SURE),
    Source("notes:table-batch-chat", "Gain in batch against gain in chat",
           "The change of throughput at the highest load of either kind of workload.", _STEADY, _SPEED, _FORETOLD),
    Source("notes:table-prompts", "The sanity prompts", "Right or wrong by each prompt's own criterion.",
           _ASKED, _ANSWERS, _QUALITY),
    Source("notes:table-predictions", "Predictions against reality",
           "What was written before the run, beside what was measured.", f"{_BOTH} Quality: prompts asked.",
           ("notes.md", *_SPEED, "variants.csv", "quality.jsonl"), _FORETOLD),
    Source("notes:table-references", "Files that these notes are made from", "Every file with what it holds.",
           "n: every file that the manifest names.", ("datapackage.json",), _TRACED),
)

_PLAN = (
    Source("plan:table-plan-configurations", "Configurations", "What each variant quantizes, as the study asks.",
           _NO_WINDOW, ("study.toml", "variants.csv"), _FIXED),
    Source("plan:table-plan-fixed", "Fixed variables", "What should be the same in all variants, looked for in rows.",
           _WHOLE, ("requests.csv.gz", "variants.csv", "environment.json"), _FIXED),
    Source("plan:table-plan-metrics", "Metrics and where they are", "Whether each metric of the plan was measured.",
           _WHOLE, (*_SPEED, "variants.csv", "quality.jsonl"), _TRACED),
    Source("plan:table-plan-tensors", "What is quantized", "Asked for in the study, against the engine's log.",
           _START, _SAID, _APPLIED),
    Source("plan:table-plan-roofs", "Decode under the card's roofs",
           "An estimate: bytes and operations of a decode step over the measured TPOT, against the card's rates.",
           _PERCENTILES, ("requests.csv.gz", "variants.csv"), _ROOFS),
    Source("plan:table-plan-kernels", "Kernels", "The kernel that each variant's log names, with the line.",
           "n: the first server start that served.", _SAID, _APPLIED),
    Source("plan:table-plan-dequantization", "Where a price is paid", "Medians of TTFT and TPOT against the baseline.",
           _PERCENTILES, _LATENCY, _SURE),
    Source("plan:table-plan-risks", "Risk checklist", "Questions of the plan, answered from the bundle's rows.",
           _WHOLE, (*_SPEED, *_SAID, "quality.jsonl"), _FIXED),
    Source("plan:table-plan-rollback", "When to roll back",
           "A fifth above the upper end of the measured p95's interval, or the study's limit where that is lower.",
           _PERCENTILES, _LATENCY, _CHOICE),
    Source("plan:table-plan-stale", "When to measure again", "What these figures were measured with.",
           _NO_WINDOW, ("environment.json", "variants.csv", "study.toml"), _FIXED),
)

_LOG = (
    Source("log:table-overview", "Overview", "What was asked and what was done.", _NO_WINDOW,
           ("study.toml", "environment.json", "cells.csv"), _FIXED),
    Source("log:table-matrix", "Experiment matrix", "Which variants are measured at which loads, and their rows.",
           "n: cell repeats, done and planned.", _SPEED, _CELL),
    Source("log:table-experiment-*", "Results by batch size: {}",
           "Mean and tail of E2E, requests and output tokens per second, at each number in flight.",
           f"{_ALL_OK} Window: tokens the steady window; requests and latency the whole repeat.", _SPEED, _CELL),
    Source("log:table-against-*", "Against the baseline: {}", "The change at each load point, with its interval.",
           _BOTH, _SPEED, _SURE),
    Source("log:table-balance-*", "Balance: {}",
           "S = g · product of (ratio to the baseline) to the power of its weight, of the Pareto front.",
           _BOTH, (*_SPEED, "variants.csv"), _CHOICE),
    Source("log:table-cost-requests", "Cost of requests", "USD for so many requests: the hour's price over requests/s.",
           "n: requests that ended well. Window: the whole repeat.", ("cells.csv", "study.toml"), _COST),
    Source("log:table-scaling", "Workers by traffic", "ceil(requests per minute / (60 · mu · rho)) + spare.",
           "n: repeats behind mu, which stand above. Window: the whole repeat.", ("cells.csv",), _CHOICE),
    Source("log:table-loadtest", "Load test by users", "Requests per second and percentiles of each step, by Locust.",
           "n: requests sent in a step after its first fifth.", ("loadtest_*.csv",), _LOCUST),
    Source("log:table-loadtest-failures", "Failed requests of the load test", "Errors by kind, as Locust words them.",
           "n: all requests of the test.", ("loadtest_*.csv",), _LOCUST),
    Source("log:fig-loadtest*", "Latency against users", "A percentile of the whole answer at each number of users.",
           "n: requests sent in a step after its first fifth.", ("loadtest_*.csv",), _LOCUST),
)

_CARD = (
    Source("card:table-how", "How it is quantized", "Checkpoint, method and kernel, as asked and as the log states.",
           _NO_WINDOW, _SAID, _APPLIED),
    Source("card:table-memory", "Memory", "The engine's parts of memory, beside the baseline's.",
           _START, _SAID, _MEMORY),
    Source("card:table-throughput", "Throughput", "Output tokens per second, beside the baseline's at the same load.",
           _STEADY, _SPEED, _CELL),
    Source("card:table-ttft", "TTFT, median", "Send to the first text, ms, beside the baseline's at the same load.",
           _PERCENTILES, _LATENCY, _REQUEST),
    Source("card:table-cost", "Cost of a million output tokens", "The hour's price over the tokens the hour gives.",
           _STEADY, ("cells.csv", "study.toml"), _COST),
    Source("card:table-suites", "Quality by suite", "Right answers of each suite.", _ASKED, _ANSWERS, _QUALITY),
    Source("card:table-rules", "Quality, rule by rule", "Each rule with what was seen.", _ASKED, _ANSWERS, _QUALITY),
    Source("card:table-method", "How it was measured", "Machine, engine, loads and repeats.", _NO_WINDOW,
           ("study.toml", "environment.json", *_SAID), _WHOSE),
)
_ACROSS = (
    Source("costs:table-mix", "The cheapest mix of workloads",
           "Cost of the traffic's shares together, by variant, at the calculator's defaults.",
           _STEADY, ("cells.csv", "study.toml"), _COST),
    Source("*:table-compare-cases", "Cases that can be compared", "Every case with its machine and its variants.",
           _NO_WINDOW, ("study.toml", "environment.json"), _FIXED),
    Source("*:table-pairs", "Pairs of cases", "What two cases share, and what differs beside the variants.",
           _WHOLE, ("study.toml", "environment.json", "variants.csv"), _FIXED),
    Source("*:table-history-once", "Studies that were run once", "Runs that have nothing to be compared with yet.",
           _NO_WINDOW, ("study.toml", "environment.json"), _FIXED),
    Source("*:table-history-runs-*", "Runs of one study: {}", "Each run with what changed around it.",
           _NO_WINDOW, ("environment.json", "study.toml"), _FIXED),
    Source("*:table-history-figures-*", "Figures over time: {}", "The same figure in each run, with its interval.",
           _BOTH, (*_SPEED, "variants.csv", "quality.jsonl"), _SURE),
    Source("*:fig-history-*", "Over time: {}", "One figure in each run, with its 95 % interval.",
           _BOTH, (*_SPEED, "variants.csv", "quality.jsonl"), _SURE),
    Source("gpus:table-gpu-cards-*", "Cards and cases", "Each GPU type with its boxes, cases and the hour's price.",
           _NO_WINDOW, ("environment.json", "study.toml"), _GPUS),
    Source("gpus:table-gpu-once", "Studies on one box", "Studies that have no other GPU or box to be held against.",
           _NO_WINDOW, ("environment.json", "study.toml"), _GPUS),
    Source("gpus:table-gpu-boxes-*", "Box against box", "Two boxes of one type over all cells that both have.",
           _BOTH, _SPEED, _GPUS),
    Source("gpus:table-gpu-box-cells-*", "Box against box, cell by cell", "The same cell on two boxes of one type.",
           _BOTH, _SPEED, _GPUS),
    Source("gpus:fig-gpus-boxes-*", "Box against box", "Throughput of one box over that of the other, cell by cell.",
           _STEADY, _SPEED, _GPUS),
    Source("gpus:fig-gpus-*", "Cost against latency", "USD per million output tokens against what a reader waits.",
           _BOTH, (*_SPEED, "study.toml"), _GPUS),
    Source("gpus:table-gpu-costs-*", "Cost and latency by GPU", "Each cell with its cost, every GPU counted.",
           _BOTH, (*_SPEED, "study.toml"), _GPUS),
    Source("gpus:table-gpu-winners-*", "Which GPU for which work", "Each type at its best option within the limits.",
           _BOTH, (*_SPEED, "study.toml"), _GPUS),
    Source("gpus:table-gpu-flips-*", "At which price the answer flips",
           "Prices of one GPU's hour at which the tokens of two GPU types cost the same.", _STEADY, _SPEED, _GPUS),
    Source("gpus:table-gpu-machine-*", "Power, memory and kernels", "Power and energy of all GPUs of a server.",
           _STEADY, ("telemetry.csv.gz", "cells.csv", "variants.csv"), _GPUS),
    Source("fit:table-fit", "What fits on which card", "Weights, KV cache and overhead against each card's memory.",
           "n: a formula at the calculator's defaults, not a measurement. There is no window.",
           ("variants.csv",), _MEMORY),
    Source("fit:table-check", "The formula beside what was measured", "Memory by the formula and by the engine's word.",
           _START, _SAID, _MEMORY),
    Source("fit:table-*", "What the formula is given: {}", "Inputs of the formula, each with its source.",
           "n: one row an input; none of it is measured. There is no window.", ("variants.csv",), _MEMORY),
    Source("*:table-estimate-held-out", "Estimates against what was measured",
           "Each case estimated from another one and compared with its own figures.", _BOTH, _SPEED, _ROOFS),
    Source("*:table-estimate-*", "Estimate for another GPU: {}",
           "Here: measured. There: an estimate, low to high, of what was not measured.",
           f"{_BOTH} An estimate has no n.", (*_SPEED, "variants.csv"), _ROOFS),
    Source("*:fig-*-estimate-*", "Estimate for another GPU: {}",
           "Here: measured. There: an estimate, low to high, of what was not measured.",
           f"{_BOTH} An estimate has no n.", (*_SPEED, "variants.csv"), _ROOFS),
    Source("log:table-same-bits-*", "Formats of the same bits: {}", "One against the other at each load point.",
           f"{_BOTH} Repeats of both stand in the last column.", _SPEED, _SURE),
    Source("*:fig-*-distribution*", "How latency is spread", "The share of requests that ended within a time.",
           _PERCENTILES, _LATENCY, _CELL),
    Source("*:fig-roofline", "Decode under the card's roofs",
           "An estimate: operations and bytes of a decode step over the measured TPOT, against the card's rates.",
           _PERCENTILES, ("requests.csv.gz", "variants.csv"), _ROOFS),
    Source("*:fig-startup", "Start-up", "Seconds from the spawn of the engine's process to each mark in its log.",
           "n: one server start a bar; a start has no interval.", _SAID, _MEMORY),
    Source("*:fig-telemetry", "The machine over the run", "What the driver said of the card, sample by sample.",
           _WHOLE, ("telemetry.csv.gz",), _CLIENT),
    Source("*:fig-quality-size", "Quality against size", "Right answers against the size of the weights.",
           _ASKED, (*_ANSWERS, "variants.csv"), _QUALITY),
)
# fmt: on

REGISTRY = (
    *_OVERVIEWS,
    *_CASE,
    *_QUALITY_PAGES,
    *_DATA,
    *_NOTES,
    *_PLAN,
    *_LOG,
    *_CARD,
    *_ACROSS,
)  # the first that fits counts


def kind_of(uri: str) -> str:
    """The kind of a generated page: home, cases, costs, summary, ...; case, data, log, ... below a case; card.

    Other pages are named by their first folder.
    """
    parts = uri.split("/")[:-1]
    if not parts:
        return "home"
    if parts[0] != "cases" or len(parts) == 1:
        return parts[0]
    return "case" if len(parts) == 2 else "card" if parts[2] == "cards" else parts[2]


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], Source], ...]:
    def made() -> Iterator[tuple[re.Pattern[str], Source]]:
        for entry in REGISTRY:
            kinds, _, name = entry.names.partition(":")
            where = "[^:]*" if kinds == "*" else kinds
            escaped = re.escape(name).replace(r"\*", "(.*)")
            yield re.compile(f"(?:{where}):{escaped}"), entry

    return tuple(made())


def source(kind: str, name: str) -> tuple[Source, str] | None:
    """(entry, its title as safe text) of the table or figure `name` (its id, unescaped) on a page of that kind.

    None where the registry has no entry: the page then shows no definition, and the test of the registry fails.
    """
    for pattern, entry in _patterns():
        if found := pattern.fullmatch(f"{kind}:{name}"):
            title = entry.title.replace("{}", found[1]) if "{}" in entry.title else entry.title
            return entry, text(title)
    return None
