"""What every importer gives: another tool's files as typed points, with the definition behind every metric.

An importer reads files and says what they say. It names no variant, guesses no GPU and writes nothing: `store` joins
what was read with what a person said (`Said`) and writes the bundle. Metrics are mapped by definition, never by name:

- Per-request data becomes `RequestRow`s, when the tool's times are those of our definitions; cells are then computed
  from them by `collector.bundle.metrics`, as for a bundle that we measured.
- Every other figure becomes a `Figure` of a `Metric` under the tool's own name (`guidellm.time_per_output_token_ms`).
  It is shown with its definition and never compared with a metric of ours.
- A request that failed stays a failed row; what is missing is said in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct, field

from collector.bundle.answers import QualityItem, QualityRow
from collector.bundle.imported import ImportedFile
from collector.bundle.schema import RequestRow
from collector.errors import UsageFault

__all__ = ["IMPORTERS", "Figure", "Hints", "Imported", "Importer", "Metric", "Model", "Point", "get"]


class Metric(Struct, frozen=True, kw_only=True):
    """A metric as the tool means it. `name` begins with the tool's name and a dot."""

    name: str
    unit: str
    definition: str  # one sentence: from what to what, over which requests


class Figure(Struct, frozen=True, kw_only=True):
    """One value of a metric. `statistic` is mean, median, p99, total, value, sample ..."""

    metric: Metric
    statistic: str
    value: float
    n: int | None = None


class Point(Struct, kw_only=True):
    """One run of the tool at one load point.

    `load` is one of ours (`c16`, `r2.5`: see `collector.study.Load`) where there are rows; without rows it may be the
    tool's own words, as short as they go (`pp512`, `100 users`). Rows carry whatever variant, start, workload and
    repeat: `store` sets these four, and moves `started_s` and `due_s` (from the run's own zero) to the bundle's.
    """

    load: str
    label: str = ""  # the variant, where one file holds several; empty: the person names it
    workload: str = ""  # where the file tells workloads apart; empty: the person names it
    rows: list[RequestRow] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    requests: int | None = None  # with rows: counted from them
    ok: int | None = None
    failed: int | None = None
    messages: dict[str, int] = field(default_factory=dict)  # what went wrong -> how often
    began_unix_s: float | None = None  # zero of the rows' times, where the file states it
    input_tokens: float | None = None  # mean, for the study's form
    output_tokens: float | None = None


class Model(Struct, frozen=True, kw_only=True):
    """What a file says of a model; empty where it does not."""

    name: str = ""
    method: str = ""  # quantization
    bits: float | None = None  # a weight


class Imported(Struct, kw_only=True):
    """What one tool's files say."""

    tool: str  # as in `collect import TOOL`
    tool_version: str | None  # None: the file does not say
    files: list[ImportedFile]
    points: list[Point]
    definitions: dict[str, str] = field(default_factory=dict)  # our column -> how the tool came to it
    missing: list[str] = field(default_factory=list)  # sentences
    notes: list[str] = field(default_factory=list)  # sentences: what was converted, assumed, left out
    facts: dict[str, str] = field(default_factory=dict)  # what the file says of the run; redacted when written
    model: str = ""  # as the file names it
    method: str = ""  # quantization, only where the file states it
    bits: float | None = None
    models: dict[str, Model] = field(default_factory=dict)  # label of points -> its model, where there are several
    engine: str = ""  # only where the file states it
    engine_version: str | None = None
    items: list[QualityItem] = field(default_factory=list)  # quality tools
    suite_kind: Literal["lm-eval", "sanity"] = "lm-eval"  # what the items' suites are in a study
    answers: list[QualityRow] = field(default_factory=list)  # `store` sets their variant


class Hints(Struct, kw_only=True):
    """What a person says of a file because it does not: how to read it. Importers may ignore what they do not need."""

    first_chunk: str = "auto"  # of chat streams: `content`, `role` (an empty chunk comes first), or `auto`
    load: str = ""  # c16 or r2.5, where the files do not say
    columns: str = ""  # plain CSV: a TOML file that maps columns


class Importer(Protocol):
    """Reads one tool's result files of one variant."""

    name: str

    def read(self, paths: Sequence[Path], hints: Hints) -> Imported:
        """Read files (or folders where the tool writes folders).

        Raises:
            QuantcaseError: a file cannot be read, is not this tool's, or holds what cannot be; with the path to it.
        """
        ...


# Tool -> (module with an `IMPORTER`, what it reads). Modules are imported when asked for.
IMPORTERS: dict[str, tuple[str, str]] = {
    "vllm-bench": ("collector.importers.vllm_bench", "`vllm bench serve --save-result`, sweep folders"),
    "guidellm": ("collector.importers.guidellm", "GuideLLM's benchmarks.json"),
    "aiperf": ("collector.importers.aiperf", "AIPerf's profile_export_aiperf.json and profile_export.jsonl"),
    "llama-bench": ("collector.importers.llama_bench", "`llama-bench -o json`, `jsonl` or `csv`"),
    "locust": ("collector.importers.locust", "Locust's CSV files"),
    "lm-eval": ("collector.importers.lm_eval", "a folder of lm-evaluation-harness"),
    "csv": ("collector.importers.plain_csv", "any CSV, with a file that says what its columns mean"),
}


def get(tool: str, load: Callable[[str], object] = import_module) -> Importer:
    """The importer of a tool.

    Raises:
        UsageFault: no such tool.
    """
    if tool not in IMPORTERS:
        raise UsageFault(f"no importer is named {tool}", fix=f"tools: {', '.join(IMPORTERS)}")
    found: Importer = load(IMPORTERS[tool][0]).IMPORTER  # type: ignore[attr-defined]
    return found
