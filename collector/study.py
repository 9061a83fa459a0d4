"""What is asked: one base model, its variants, workloads and prices. TOML in, typed objects out.

`load()` finds a study (a path, or the name of a ready one in `collector/studies/`), checks it, and returns it fully
resolved: what the file leaves out stands in the object, so that `study.toml` in a bundle has nothing implicit.
"""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tomli_w
from msgspec import Meta, Struct, field

from collector.errors import UsageFault
from collector.expectations import Answers
from collector.loadtest.settings import LoadTest
from collector.strict_toml import strict

__all__ = [
    "EngineSpec",
    "Load",
    "LoadTest",
    "Price",
    "Prompts",
    "QualitySuite",
    "Study",
    "Variant",
    "Workload",
    "dumps",
    "load",
    "loads",
    "ready_studies",
]

EngineName = Literal["vllm", "llamacpp", "endpoint", "replay"]
Slug = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")]


class Price(Struct, kw_only=True, forbid_unknown_fields=True):
    """What an hour of the GPU costs. A price is the user's input with a date, never a hard-coded fact."""

    usd_per_hour: Annotated[float, Meta(gt=0)]
    source: str
    date: str


class EngineSpec(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """How the engine is started. `args` and `env` hold for every variant; a variant adds its own."""

    name: EngineName
    command: list[str] = field(default_factory=list)  # empty: the engine's usual command, e.g. ["vllm", "serve"]
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    url: str = ""  # endpoint only
    source: str = ""  # replay only: the bundle whose timings are replayed; empty: the recording in the package
    start_timeout_s: Annotated[float, Meta(gt=0)] = 900.0
    stop_timeout_s: Annotated[float, Meta(gt=0)] = 60.0


class Variant(Struct, kw_only=True, forbid_unknown_fields=True):
    """One served configuration."""

    name: Slug
    model: str  # hub id, folder, or GGUF file; `generated:small` is the CPU study's own model
    method: str = "none"  # none, awq, gptq, fp8, w8a8-int8, bitsandbytes, gguf:Q4_K_M, ...
    bits: float | None = None
    kv_dtype: str = "auto"
    revision: str = ""
    tensor_parallel: Annotated[int, Meta(ge=1, le=64)] = 1  # GPUs that share each layer
    pipeline_parallel: Annotated[int, Meta(ge=1, le=64)] = 1  # stages that the layers are divided into
    data_parallel: Annotated[int, Meta(ge=1, le=64)] = 1  # replicas behind one address
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def gpus(self) -> int:
        """GPUs that one server of it takes."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel


class Load(Struct, frozen=True):
    """One load point: `c16` holds 16 requests in flight, `r2.5` lets 2.5 requests a second arrive."""

    name: str
    concurrency: int | None = None  # closed loop
    rate: float | None = None  # open loop: requests per second; of a ramp the rate at its end

    @classmethod
    def closed(cls, concurrency: int) -> Load:
        return cls(f"c{concurrency}", concurrency=concurrency)

    @classmethod
    def open(cls, rate: float) -> Load:
        """Rates are kept to four significant digits, so that a name and its rate are the same."""
        kept = float(f"{rate:.4g}")
        return cls(f"r{kept:g}", rate=kept)

    @classmethod
    def of(cls, name: str) -> Load | None:
        """The load point of a name in a bundle; None for a name of no known kind."""
        if match := re.fullmatch(r"c(\d+)", name):
            return cls(name, concurrency=int(match[1]))
        if match := re.fullmatch(r"(?:r|ramp[0-9.]+-)(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", name):
            return cls(name, rate=float(match[1]))
        return cls(name) if name == "trace" else None

    @property
    def amount(self) -> float:
        """What load points are ordered by: requests in flight, or requests per second."""
        return float(self.concurrency or self.rate or 0)

    @property
    def words(self) -> str:
        """The load point in words."""
        if self.concurrency is not None:
            return f"concurrency {self.concurrency}"
        if self.name.startswith("ramp"):
            return f"a ramp of {self.name[4:].replace('-', ' to ')} requests/s"
        return f"{self.rate:g} requests/s" if self.rate is not None else "the trace"


class Workload(Struct, kw_only=True, forbid_unknown_fields=True):
    """Prompts, output length and a schedule: a closed loop at fixed concurrencies, or arrivals by a clock."""

    name: Slug
    title: str = ""
    api: Literal["chat", "completions"] = "chat"
    input_tokens: Annotated[int, Meta(ge=1)]  # aimed at; the measured length is in every request row
    output_tokens: Annotated[int, Meta(ge=2)]  # exact: ignore_eos and min_tokens; with natural_length the most
    natural_length: bool = False  # answers end where the model ends them
    schedule: Literal["closed", "constant", "poisson", "ramp", "trace"] = "closed"
    concurrency: list[Annotated[int, Meta(ge=1)]] = field(default_factory=list)  # closed: requests in flight
    requests_per_stream: Annotated[int, Meta(ge=2)] = 6  # a repeat issues concurrency x this, at least min_requests
    min_requests: Annotated[int, Meta(ge=2)] = 24
    rates: list[Annotated[float, Meta(gt=0)]] = field(default_factory=list)  # open: requests/s; ramp: from, to
    duration_s: Annotated[float, Meta(gt=0)] = 60.0  # open: how long requests arrive
    trace_file: str = ""  # trace: one arrival time in seconds a line
    search: Literal["none", "saturation", "slo"] = "none"  # open: find further rates from the first one on
    prompts: Literal["words", "jsonl", "shared_prefix", "multi_turn"] = "words"
    prompts_file: str = ""  # jsonl: one object a line with `prompt` or `messages`
    prefix_tokens: Annotated[int, Meta(ge=0)] = 0  # shared_prefix: tokens that the prompts of a group have in common
    prefix_groups: Annotated[int, Meta(ge=1)] = 1
    turns: Annotated[int, Meta(ge=1)] = 1  # multi_turn: requests per conversation, each with all that came before
    token_ids: bool = False  # completions: the prompt goes as ids, exactly input_tokens long
    warmup_requests: Annotated[int, Meta(ge=1)] = 2  # per stream, with other prompts, before the first repeat
    request_timeout_s: Annotated[float, Meta(gt=0)] = 300.0
    ttft_limit_ms: Annotated[float, Meta(gt=0)] | None = None  # limits: goodput per request, the SLO at p95
    tpot_limit_ms: Annotated[float, Meta(gt=0)] | None = None
    e2e_limit_ms: Annotated[float, Meta(gt=0)] | None = None

    def loads(self) -> list[Load]:
        """The load points that are named; a search adds further ones while it runs."""
        if self.schedule == "closed":
            return [Load.closed(c) for c in self.concurrency]
        if self.schedule == "trace":
            return [Load("trace")]
        if self.schedule == "ramp":
            return [Load(f"ramp{self.rates[0]:g}-{self.rates[1]:g}", rate=self.rates[1])]
        return [Load.open(r) for r in self.rates]

    def requests(self, load: Load) -> int:
        """Requests that one repeat issues at this load; of a Poisson schedule the mean, of a trace 0 (it decides)."""
        if load.concurrency is not None:
            return max(self.requests_per_stream * load.concurrency, self.min_requests)
        if load.rate is None:
            return 0
        mean = sum(self.rates) / 2 if self.schedule == "ramp" else load.rate
        return max(1, round(mean * self.duration_s))


class Prompts(Struct, kw_only=True, forbid_unknown_fields=True):
    """How prompts are made. `prose` is seeded English; `id_words` is one word per token id (shape-only models)."""

    kind: Literal["prose", "id_words"] = "prose"
    vocabulary: Annotated[int, Meta(ge=16)] = 100_000  # id_words: ids are drawn from 16..vocabulary


class QualitySuite(Struct, kw_only=True, forbid_unknown_fields=True):
    """One suite of prompts that judges answers. What a kind does not use is left as it is."""

    kind: Literal["sanity", "exact", "labels", "likelihood", "long-context", "lm-eval", "file"]
    api: Literal["chat", "completions"] = "chat"  # completions: for base models, which have no chat template
    name: Slug | None = None  # what it is called in the bundle; the kind where none is given
    items: Annotated[int, Meta(ge=1)] | None = None  # exact 1000, labels 500, likelihood 64, long-context 50 a length
    file: str = ""  # labels: CSV or JSONL; file: JSONL with prompts; likelihood: JSONL with texts; lm-eval: a folder
    dataset: str = ""  # labels: a data set of the Hugging Face hub
    text_column: str = "text"
    label_column: str = "label"
    answers: Literal["constrained", "free"] = "constrained"  # labels: held to the labels' names where the engine can
    scorer: str = ""  # file: the scorer of lines that name none
    output_tokens: Annotated[int, Meta(ge=1)] | None = None  # the most that an answer may hold
    window_tokens: Annotated[int, Meta(ge=2, le=512)] = 512  # likelihood: tokens of a text
    lengths: list[Annotated[int, Meta(ge=64)]] = field(default_factory=list)  # long-context: prompt lengths in tokens
    tasks: list[str] = field(default_factory=list)  # lm-eval: its names of tasks
    args: list[str] = field(default_factory=list)  # lm-eval: further arguments
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 16  # questions in flight; likelihood takes at most 4
    request_timeout_s: Annotated[float, Meta(gt=0)] = 300.0
    margin_pp: Annotated[float, Meta(gt=0, le=50)] = 2.0  # the loss of accuracy, in points, that may be accepted

    @property
    def title(self) -> str:
        """The suite's name in rows and on pages."""
        return self.name or self.kind


class Study(Struct, kw_only=True, forbid_unknown_fields=True):
    """One question, asked in full. Field names are the keys of the TOML file."""

    id: Slug
    title: str
    gpu: str
    base_model: str
    baseline: str
    engine: EngineSpec
    variants: Annotated[list[Variant], Meta(min_length=1)]
    workloads: Annotated[list[Workload], Meta(min_length=1)]
    weights: Literal["real", "dummy"] = "real"
    context_tokens: Annotated[int, Meta(ge=1)] = 4096  # what one request may hold at most
    repeats: Annotated[int, Meta(ge=1)] = 3  # of every cell within one server start
    starts: Annotated[int, Meta(ge=1)] = 1  # server starts per variant, interleaved: A B C, C A B, ...
    control: str = ""  # the variant that repeats the baseline (A/A): what it differs by is noise
    seed: int = 1
    prompts: Prompts = field(default_factory=Prompts)
    quality: list[QualitySuite] = field(default_factory=list)
    loadtest: LoadTest | None = None  # with Locust, once a variant, before the quality suites
    price: Price | None = None
    predictions: Answers | None = None  # what is expected, before anything is measured
    question: str = "Should we quantize this model?"
    next_steps: list[str] = field(default_factory=list)

    def variant(self, name: str) -> Variant:
        """The variant of that name; KeyError when there is none."""
        for v in self.variants:
            if v.name == name:
                return v
        raise KeyError(name)

    def workload(self, name: str) -> Workload:
        """The workload of that name; KeyError when there is none."""
        for w in self.workloads:
            if w.name == name:
                return w
        raise KeyError(name)

    def cells(self) -> list[tuple[Workload, Load]]:
        """Every load point that is named, in the order in which it is measured."""
        return [(w, load) for w in self.workloads for load in w.loads()]

    @property
    def cells_planned(self) -> int:
        """Repeats of cells over all variants and server starts; searches and extra rounds add to them."""
        return len(self.variants) * len(self.cells()) * self.repeats * self.starts


def ready_studies() -> dict[str, Path]:
    """Names and files of the studies that come with the package."""
    folder = Path(str(resources.files("collector.studies")))
    return {p.stem: p for p in sorted(folder.glob("*.toml"))}


def load(name_or_path: str) -> Study:
    """Read and check a study: a ready one by name, or any TOML file by path.

    Raises:
        UsageFault: no such study, not TOML, an unknown key, a wrong type, or a contradiction.
    """
    ready = ready_studies()
    if name_or_path in ready:
        return loads(ready[name_or_path].read_text("utf-8"), f"{name_or_path}.toml")
    path = Path(name_or_path)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_path, ready, 1)
        hint = f"did you mean {near[0]}?" if near else f"ready studies: {', '.join(ready)}"
        raise UsageFault(f"no study named {name_or_path} and no such file", fix=hint)
    try:
        return loads(path.read_text("utf-8"), path.name)
    except UnicodeDecodeError:
        raise UsageFault(f"{path.name} is not UTF-8 text", fix="save it as UTF-8") from None


def loads(text: str, where: str = "study") -> Study:
    """Check a study's TOML text. `where` names it in errors."""
    study = strict(text, Study, where, see="docs/guide/studies.md")
    _consistent(study, where)
    return study


def dumps(study: Study) -> str:
    """The study as TOML, every default written out."""
    return tomli_w.dumps(_without_none(msgspec.to_builtins(study)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_none(v) for v in value]
    return value


def _consistent(study: Study, where: str) -> None:
    """What types cannot say."""
    for what, names in (
        ("variant", [v.name for v in study.variants]),
        ("workload", [w.name for w in study.workloads]),
        ("quality suite", [q.title for q in study.quality]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise UsageFault(f"{where}: two {what}s are named {name}", fix="names must differ")
    if study.baseline not in [v.name for v in study.variants]:
        known = ", ".join(v.name for v in study.variants)
        raise UsageFault(f"{where}: key `baseline`: no variant is named {study.baseline}", fix=f"variants: {known}")
    if study.control and study.control not in [v.name for v in study.variants if v.name != study.baseline]:
        raise UsageFault(
            f"{where}: key `control`: no variant beside the baseline is named {study.control}", fix="add it"
        )
    if study.predictions and study.predictions.variant not in [
        v.name for v in study.variants if v.name != study.baseline
    ]:
        raise UsageFault(
            f"{where}: key `predictions.variant`: no variant beside the baseline is named {study.predictions.variant}",
            fix="name the variant that the predictions are about",
        )
    for w in study.workloads:
        _schedule(w, f"{where}: workload {w.name}")
        if w.input_tokens + w.output_tokens > study.context_tokens:
            raise UsageFault(
                f"{where}: workload {w.name} needs {w.input_tokens + w.output_tokens} tokens, "
                f"context_tokens is {study.context_tokens}",
                fix="raise context_tokens or shorten the workload",
            )
    if study.loadtest is not None:
        study.loadtest.steps()  # refuses steps that go down
        if (needed := study.loadtest.input_tokens + study.loadtest.output_tokens) > study.context_tokens:
            problem = f"{where}: [loadtest] needs {needed} tokens, context_tokens is {study.context_tokens}"
            raise UsageFault(problem, fix="raise context_tokens or shorten it")
    for suite in study.quality:
        _suite(suite, f"{where}: quality suite {suite.title}")
    if study.engine.name == "endpoint" and len(study.variants) > 1 and not study.engine.url:
        raise UsageFault(f"{where}: engine endpoint needs `engine.url`", fix="or pass --endpoint URL")


def _suite(suite: QualitySuite, where: str) -> None:
    if suite.kind == "file" and not suite.file:
        raise UsageFault(f"{where} names no file", fix='file = "my-prompts.jsonl"')
    if suite.kind == "lm-eval" and bool(suite.tasks) == bool(suite.file):
        raise UsageFault(f"{where} has either tasks to run or a folder of results", fix='tasks = ["gsm8k"]')
    if suite.file and suite.dataset:
        raise UsageFault(f"{where} names a file and a data set", fix="leave one out")


def _schedule(w: Workload, where: str) -> None:
    """Each schedule has what it needs, and nothing that it would pass over in silence."""
    if w.schedule == "closed":
        if not w.concurrency:
            raise UsageFault(f"{where} names no concurrency", fix="for example concurrency = [1, 8, 16]")
        if w.rates or w.search != "none":
            raise UsageFault(f"{where} is a closed loop: it takes no rates and no search", fix='schedule = "poisson"')
    elif w.concurrency:
        raise UsageFault(f"{where} arrives by a clock: it takes no concurrency", fix="name `rates`")
    if w.schedule in ("constant", "poisson") and not w.rates:
        raise UsageFault(f"{where} names no rates", fix="for example rates = [1, 2, 4] requests per second")
    if w.schedule == "ramp" and (len(w.rates) != 2 or w.rates[0] >= w.rates[1]):
        raise UsageFault(f"{where}: a ramp has two rates, the lower first", fix="for example rates = [1, 8]")
    if w.schedule == "trace" and (not w.trace_file or w.rates):
        raise UsageFault(f"{where}: a trace has a trace_file and no rates", fix="one arrival time in seconds a line")
    if w.search != "none" and (w.schedule not in ("constant", "poisson") or len(w.rates) != 1):
        raise UsageFault(f"{where}: a search starts from one rate of a constant or Poisson schedule", fix="rates = [1]")
    if w.search == "slo" and not (w.ttft_limit_ms or w.tpot_limit_ms or w.e2e_limit_ms):
        raise UsageFault(f"{where}: an SLO search needs a limit", fix="ttft_limit_ms, tpot_limit_ms or e2e_limit_ms")
    if len({load.name for load in w.loads()}) != len(w.loads()):
        what = "concurrency" if w.schedule == "closed" else "rate"
        raise UsageFault(f"{where} names a {what} twice", fix="list each once")
    if (w.prompts == "jsonl") != bool(w.prompts_file):
        raise UsageFault(f"{where}: prompts of kind jsonl, and only these, have a prompts_file", fix="name the file")
    if w.prompts == "shared_prefix" and not 0 < w.prefix_tokens < w.input_tokens:
        raise UsageFault(f"{where}: prefix_tokens must lie between 0 and input_tokens", fix="how much is shared?")
    if w.prompts == "multi_turn" and w.turns < 2:
        raise UsageFault(f"{where}: a conversation has at least two turns", fix="turns = 3")
    if w.token_ids and (w.api != "completions" or w.prompts not in ("words", "shared_prefix")):
        raise UsageFault(
            f"{where}: token ids go to the completions API, as words or shared_prefix", fix="token_ids = false"
        )
