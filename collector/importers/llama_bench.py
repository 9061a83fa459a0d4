"""`llama-bench -o json`, `-o jsonl` or `-o csv` of llama.cpp.

Read against `tools/llama-bench` (README and llama-bench.cpp, builds 5163 to 10700). One record is one test: `pp512`
processes a prompt of 512 tokens, `tg128` generates 128 tokens for **one** sequence, `pp512+tg128` does both. It calls
the model in its own process: no server, no streams, no sampling and no tokenization are in its times. So its
generation speed is not the throughput of a server and is kept under its own name.

`avg_ts` is the mean over repetitions of tokens / time, `stddev_ts` their sample standard deviation; `samples_ns` holds
the time of every repetition. CSV has no samples.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from collector.bundle.imported import ImportedFile
from collector.errors import QuantcaseError
from collector.importers.base import Figure, Hints, Imported, Metric, Model, Point
from collector.importers.delimited import Row, sheet_of, slug
from collector.importers.reading import Node, file_of, read_bytes, read_json, read_json_lines, short

__all__ = ["IMPORTER", "LlamaBench"]

_AGAIN = "run `llama-bench` again with -o json"
_MOST_TOK_S = 1e7
_MOST_REPEATS = 10_000
_APART = 0.001  # share by which avg_ts and its samples may differ
_WITHOUT = "in llama-bench's own process; tokenization, sampling, a server and other requests are not in it"
_KINDS = {
    "pp": ("prompt", "prompt tokens / time to process them in batches"),
    "tg": ("generation", "tokens / time to generate them one after another for one sequence"),
    "pg": ("prompt_and_generation", "prompt and generated tokens / time to process and generate them"),
}
# Settings that a run may vary from test to test; what varies in the files tells their tests apart.
_SETTINGS = (
    "n_batch", "n_ubatch", "n_threads", "cpu_mask", "type_k", "type_v", "n_gpu_layers", "n_cpu_moe", "split_mode",
    "main_gpu", "no_kv_offload", "flash_attn", "devices", "tensor_split", "tensor_buft_overrides", "load_mode",
    "lazy_mode", "use_mmap", "use_direct_io", "embeddings", "no_op_offload", "no_host", "moe_cache", "repack",
)  # fmt: skip
_OF_VARIANTS = {"type_k": "k-", "type_v": "v-", "n_gpu_layers": "ngl"}  # those that make another variant
_FTYPE = re.compile(
    r"\b(?P<base>all F32|BF16|F16|F32|MXFP4|NVFP4|(?:I?Q|TQ)\d(?:_[A-Z0-9]+)*)(?: - (?P<size>Small|Medium|Large))?",
    re.ASCII,
)
_IN_NAME = re.compile(r"(?<![A-Za-z0-9])((?:I?Q|TQ)\d(?:_[A-Z0-9]+)*|BF16|F16|F32|MXFP4)(?![A-Za-z0-9])", re.IGNORECASE)


class _Test(Struct, kw_only=True):
    """One record, of whichever form."""

    where: str
    prompt: int
    gen: int
    depth: int
    tok_s: float
    stddev_tok_s: float | None
    samples_ns: list[float]
    model_type: str
    model_file: str
    model_bytes: int | None
    parameters: int | None
    settings: dict[str, str]
    facts: dict[str, str]
    commit: str
    number: str

    @property
    def kind(self) -> str:
        return "pg" if self.prompt and self.gen else "pp" if self.prompt else "tg"

    @property
    def name(self) -> str:
        """As llama-bench's own table writes it: `pp512`, `tg128 @ d512`, `pp512+tg128`."""
        parts = [f"pp{self.prompt}"] * bool(self.prompt) + [f"tg{self.gen}"] * bool(self.gen)
        return "+".join(parts) + (f" @ d{self.depth}" if self.depth else "")

    @property
    def model(self) -> tuple[str, str, int | None]:
        return self.model_file, self.model_type, self.model_bytes


class LlamaBench:
    """Reads the JSON, JSONL and CSV that llama-bench prints."""

    name = "llama-bench"

    def read(self, paths: Sequence[Path], hints: Hints) -> Imported:
        """One point a test; see `Importer.read`. Several models or settings give each point a label."""
        out = Imported(tool=self.name, tool_version=None, files=[], points=[], engine="llamacpp")
        tests: list[_Test] = []
        for path in paths:
            found, file = _tests(path)
            if not found:
                raise QuantcaseError(f"{short(path.name)} holds no test", fix=_AGAIN)
            tests += found
            out.files.append(file)
        builds = sorted({f"b{t.number} ({t.commit})" for t in tests})
        if len(builds) == 1:
            out.tool_version = out.engine_version = builds[0]
        else:
            out.notes.append(f"Tests come from several builds of llama.cpp: {short(', '.join(builds), 200)}.")
        varied = [key for key in _SETTINGS if len({t.settings.get(key, "") for t in tests}) > 1]
        labels = _labels(tests, varied)
        _models(tests, labels, out)
        seen: Counter[tuple[str, str]] = Counter()
        for test, label in zip(tests, labels, strict=True):
            rest = [f"{key} {test.settings.get(key, 'unknown')}" for key in varied if key not in _OF_VARIANTS]
            point = Point(load=", ".join([test.name, *rest]), label=label, figures=list(_figures(test)))
            seen[point.label, point.load] += 1
            out.points.append(point)
            if label:
                out.facts[label] = short(
                    f"{test.model_type}, {test.model_file}, {_bits(test) or '?'} bits a weight", 200
                )
        if again := [f"{load} of {label}" if label else load for (label, load), n in seen.items() if n > 1]:
            out.notes.append(f"Several runs of the same test: {short(', '.join(again), 200)}.")
        if varied:
            out.notes.append(f"What varies from test to test: {', '.join(varied)}.")
        out.facts |= tests[0].facts | {k: v for k, v in tests[0].settings.items() if k not in varied}
        _missing(tests, out)
        return out


def _labels(tests: Sequence[_Test], varied: Sequence[str]) -> list[str]:
    """What tells the variants apart: the quantization, or the file where that is the same; KV cache; offload."""
    models = list(dict.fromkeys(t.model for t in tests))
    names: dict[tuple[str, str, int | None], str] = {}
    if len(models) > 1:
        formats = [_format(m[1]) for m in models]
        apart = len(set(formats)) == len(models) and all(formats)
        for m, words in zip(models, formats, strict=True):
            names[m] = slug(words if apart else Path(m[0]).stem or m[1], list(names.values()), 20)
    labels = []
    for t in tests:
        parts = [names[t.model]] if t.model in names else []
        parts += [f"{short_name}{t.settings.get(key, '')}" for key, short_name in _OF_VARIANTS.items() if key in varied]
        labels.append(slug(" ".join(parts), most=30) if parts else "")
    return labels


def _missing(tests: Sequence[_Test], out: Imported) -> None:
    out.missing += [
        "llama-bench sends no requests: there are no TTFT, no end-to-end times, no concurrency and no failures.",
        "Power, VRAM in use and the answers are not in the file.",
    ]
    if any(not t.samples_ns for t in tests):
        out.missing.append("CSV holds no single repetitions: how many are behind a mean is not in the file.")
    out.notes.append("One sequence at a time: the speed of a server with several requests in flight is another.")


def _tests(path: Path) -> tuple[list[_Test], ImportedFile]:
    """The records of a file by its first character, whatever the file is called."""
    data = read_bytes(path)
    name = short(path.name)
    first = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if first.startswith(b"["):
        node, file = read_json(path)
        return [_of_node(one) for one in node.items()], file
    if first.startswith(b"{"):
        nodes, file = read_json_lines(path)
        return [_of_node(one) for one in nodes], file
    if first.startswith((b"CREATE TABLE", b"INSERT INTO", b"|")):
        kind = "a Markdown table" if first.startswith(b"|") else "SQL"
        raise QuantcaseError(f"{name} is llama-bench's output as {kind}", fix=_AGAIN)
    sheet = sheet_of(data, name)
    if "build_commit" not in sheet.columns:
        raise QuantcaseError(f"{name} line 1: no column 'build_commit': it is no output of llama-bench", fix=_AGAIN)
    sheet.need("n_prompt", "n_gen", "avg_ns", "avg_ts", "model_type", "model_filename")
    return [_of_row(row) for row in sheet.rows], file_of(path, data)


def _of_node(node: Node) -> _Test:
    if not isinstance(node.value, dict) or "avg_ts" not in node or "n_gen" not in node:
        raise node.fault("is no test of llama-bench: it has no `avg_ts` and `n_gen`", _AGAIN)
    samples = list(node["samples_ns"].items()) if "samples_ns" in node else []
    if len(samples) > _MOST_REPEATS:
        raise node["samples_ns"].fault(f"holds {len(samples):,} repetitions, more than {_MOST_REPEATS:,}")

    def word(key: str) -> str:
        return short(found.value, 100) if (found := node.get(key)) is not None else ""

    test = _Test(
        where=node.where.rstrip(": "),
        prompt=node["n_prompt"].count(10**9),
        gen=node["n_gen"].count(10**9),
        depth=node["n_depth"].count(10**9) if "n_depth" in node else 0,
        tok_s=node["avg_ts"].number(low=0, high=_MOST_TOK_S),
        stddev_tok_s=node["stddev_ts"].number(low=0, high=_MOST_TOK_S) if "stddev_ts" in node else None,
        samples_ns=[s.number(low=1, high=1e18) for s in samples],
        model_type=node["model_type"].text(200) if "model_type" in node else "",
        model_file=_base(node["model_filename"].text(1_000)) if "model_filename" in node else "",
        model_bytes=node["model_size"].count(10**15) if "model_size" in node else None,
        parameters=node["model_n_params"].count(10**15) if "model_n_params" in node else None,
        settings={key: word(key) for key in _SETTINGS if key in node},
        facts={key: word(key) for key in ("cpu_info", "gpu_info", "backends", "test_time") if key in node},
        commit=word("build_commit"),
        number=word("build_number"),
    )
    _plausible(test, node["avg_ns"].number(low=0, high=1e18) if "avg_ns" in node else None)
    return test


def _of_row(row: Row) -> _Test:
    test = _Test(
        where=row.where,
        prompt=row.count("n_prompt", 10**9),
        gen=row.count("n_gen", 10**9),
        depth=row.count("n_depth", 10**9) if row.has("n_depth") else 0,
        tok_s=row.number("avg_ts", low=0, high=_MOST_TOK_S),
        stddev_tok_s=row.optional("stddev_ts", low=0, high=_MOST_TOK_S),
        samples_ns=[],
        model_type=row.text("model_type", 200),
        model_file=_base(row.text("model_filename", 1_000)),
        model_bytes=row.count("model_size", 10**15) if row.has("model_size") else None,
        parameters=row.count("model_n_params", 10**15) if row.has("model_n_params") else None,
        settings={key: row.text(key, 100) for key in _SETTINGS if row.has(key)},
        facts={key: row.text(key, 100) for key in ("cpu_info", "gpu_info", "backends", "test_time") if row.has(key)},
        commit=row.text("build_commit", 60),
        number=row.text("build_number", 60),
    )
    _plausible(test, row.number("avg_ns", low=0, high=1e18))
    return test


def _base(name: str) -> str:
    """The file's name: folders are nobody's business."""
    return re.split(r"[/\\]", name)[-1]


def _plausible(test: _Test, avg_ns: float | None) -> None:
    """Tokens and times give the speed that the record states.

    The mean of tokens / time is at least tokens / (mean time), and larger by about the square of the times' relative
    spread; so `avg_ns` alone bounds it.
    """
    tokens = test.prompt + test.gen
    if not tokens:
        raise QuantcaseError(f"{test.where}: a test of no tokens (n_prompt and n_gen are 0)", fix=_AGAIN)
    if not test.samples_ns:
        if avg_ns:
            low, spread = 1e9 * tokens / avg_ns, (test.stddev_tok_s or 0) / test.tok_s if test.tok_s else 0.0
            if not low * 0.99 <= test.tok_s <= low * (1.01 + 4 * spread**2):
                raise QuantcaseError(
                    f"{test.where}: avg_ts is {test.tok_s:g} tok/s, {tokens} tokens in avg_ns give {low:g}",
                    fix="is avg_ns in nanoseconds?",
                )
        return
    given = statistics.fmean(1e9 * tokens / ns for ns in test.samples_ns)
    if not math.isclose(given, test.tok_s, rel_tol=_APART):
        raise QuantcaseError(
            f"{test.where}: avg_ts is {test.tok_s:g} tok/s, its samples_ns give {given:g}",
            fix="is samples_ns in nanoseconds, and the file unedited?",
        )


def _figures(test: _Test) -> Iterator[Figure]:
    what, definition = _KINDS[test.kind]
    speed = Metric(
        name=f"llama-bench.{what}_tok_s",
        unit="tok/s",
        definition=f"mean over repetitions of {definition}, {_WITHOUT}",
    )
    n = len(test.samples_ns) or None
    yield Figure(metric=speed, statistic="mean", value=test.tok_s, n=n)
    if test.stddev_tok_s is not None:
        yield Figure(metric=speed, statistic="std", value=test.stddev_tok_s, n=n)
    time = Metric(
        name=f"llama-bench.{what}_ns",
        unit="ns",
        definition=f"time of one repetition of the test, {_WITHOUT}",
    )
    for ns in test.samples_ns:
        yield Figure(metric=time, statistic="sample", value=ns, n=1)


def _models(tests: Sequence[_Test], labels: Sequence[str], out: Imported) -> None:
    """Model, quantization and bits per weight: of the files where all tests are of one model, else of each label."""
    by_model: dict[tuple[str, str, int | None], Model] = {}
    of_names = []
    for test in tests:
        if test.model not in by_model:
            method, of_name = _method(_format(test.model_type)), _IN_NAME.search(test.model_file)
            if not method and of_name:
                method = _method(of_name[1].upper())
                of_names.append(test.model_file)
            by_model[test.model] = Model(name=test.model_file or test.model_type, method=method, bits=_bits(test))
    if len(by_model) > 1:
        out.models = {label: by_model[test.model] for test, label in zip(tests, labels, strict=True)}
        out.notes.append("The files hold several models: each is a variant of its own.")
    else:
        (one,) = by_model.values()
        out.model, out.method, out.bits = one.name, one.method, one.bits
    if of_names:
        which = f" ({short(', '.join(of_names), 200)})" if len(by_model) > 1 else ""
        out.notes.append(f"The quantization is read off the model's file name: model_type does not name it{which}.")
    if any(m.bits is not None for m in by_model.values()):
        out.notes.append("Bits per weight are 8 x model_size / model_n_params.")


def _bits(test: _Test) -> float | None:
    """Bits per weight: 8 x bytes / parameters. Raises QuantcaseError when no file can have so many."""
    if not test.model_bytes or not test.parameters:
        return None
    bits = 8 * test.model_bytes / test.parameters
    if not 0.5 <= bits <= 40:
        raise QuantcaseError(
            f"{test.where}: model_size {test.model_bytes:,} bytes of {test.parameters:,} parameters are {bits:.3g} "
            "bits a weight",
            fix="is model_size in bytes?",
        )
    return round(bits, 3)


def _format(model_type: str) -> str:
    """`Q4_K_M` of `qwen2 7B Q4_K - Medium`; empty where it names no format."""
    found = list(_FTYPE.finditer(model_type))
    if not found:
        return ""
    last = found[-1]  # names come before it
    return last["base"].removeprefix("all ") + (f"_{last['size'][0]}" if last["size"] else "")


def _method(words: str) -> str:
    """`gguf:Q4_K_M`; `none` of F16, BF16 and F32; empty where there is no format."""
    return "none" if words in ("F16", "BF16", "F32") else f"gguf:{words}" * bool(words)


IMPORTER = LlamaBench()
