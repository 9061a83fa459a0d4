"""GGUF quantizations across models: file size, VRAM with everything on the GPU and with offload, what the rows carry.

Published figures are read from a bundle's `published.csv`. It is somebody else's file: it is small, typed, every figure
a plain positive decimal, or none of it is used. Decimals keep the digits of the source, so that a page shows what was
published; what is worked out from them (saved = baseline - offload, reduction = saved / baseline) is held against what
the source states, to the source's own rounding.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal

from msgspec import Meta, Struct

from collector.bundle.read import QuantcaseError
from collector.bundle.schema import VariantRow
from collector.bundle.tables import read_text, rows_from_text
from quantcase.catalog import Case

__all__ = [
    "Device", "Findings", "Gguf", "Pair", "Published", "Row", "Use", "device", "findings", "ggufs", "is_gguf", "pairs",
    "published", "uses",
]  # fmt: skip

FILE = "published.csv"
_MOST_BYTES, _MOST_ROWS, _MOST_RUNS = 256 * 1024, 500, 100_000
_NEAR = Decimal("0.05")  # baseline VRAM within 5 % of the file's size follows it closely
_FLAGS = {"--cpu-moe", "-cmoe", "--n-cpu-moe", "-ncmoe", "--override-tensor", "-ot"}

_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9 ._/:()+-]{0,79}\Z")]  # drawn into charts as it stands
_Figure = Annotated[str, Meta(pattern=r"\A[0-9]{1,6}(\.[0-9]{1,4})?\Z")]
_Maybe = Annotated[str, Meta(pattern=r"\A([0-9]{1,6}(\.[0-9]{1,4})?)?\Z")]


class _Line(Struct, kw_only=True):
    """A line of published.csv as text that has the form of a figure."""

    model: _Name
    quantization: _Name
    file_size_gb: _Figure
    vram_baseline_gb: _Maybe
    vram_offload_gb: _Maybe
    vram_saved_gb: _Maybe
    reduction_pct: _Maybe
    runs: int | None = None
    source: Annotated[str, Meta(min_length=1, max_length=400)]


@dataclass(frozen=True)
class Row:
    """One quantization of one model: sizes in GB as published, the reduction in percent."""

    model: str
    quantization: str
    file: Decimal
    baseline: Decimal
    offload: Decimal
    stated_saved: Decimal | None
    stated_reduction: Decimal | None
    runs: int | None
    source: str

    @property
    def saved(self) -> Decimal:
        """Baseline - offload, GB."""
        return self.baseline - self.offload

    @property
    def reduction(self) -> Decimal:
        """Saved / baseline, percent, unrounded."""
        return 100 * self.saved / self.baseline

    @property
    def to_file(self) -> Decimal:
        """Baseline VRAM over the size of the file."""
        return self.baseline / self.file

    @property
    def agrees(self) -> bool:
        """Whether both figures that the source derived are those that its own rows give, to its rounding."""
        return _same(self.saved, self.stated_saved) and _same(self.reduction, self.stated_reduction)


@dataclass(frozen=True)
class Published:
    """What one bundle's published.csv holds, or why nothing of it is used."""

    rows: tuple[Row, ...] = ()
    originals: tuple[tuple[str, str, Decimal], ...] = ()  # model, format, GB: files that were not run
    problem: str = ""

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(r.model for r in self.rows))

    def of(self, model: str) -> list[Row]:
        """The rows of one model, smallest file first."""
        return sorted((r for r in self.rows if r.model == model), key=lambda r: r.file)


def _same(ours: Decimal, stated: Decimal | None) -> bool:
    """Within half a unit of the stated figure's last digit; what is not stated cannot disagree."""
    if stated is None:
        return True
    exponent = stated.as_tuple().exponent
    return isinstance(exponent, int) and abs(ours - stated) <= Decimal(1).scaleb(exponent) / 2


def published(case: Case) -> Published:
    """The published figures of a case of that grade; none for any other grade."""
    if case.bundle.info.grade != "published":
        return Published()
    if not case.sound:
        return Published(problem="the bundle has faults")
    path = case.bundle.folder / FILE
    if path.is_symlink() or not path.is_file():
        return Published(problem=f"the bundle holds no {FILE}")
    if path.stat().st_size > _MOST_BYTES:
        return Published(problem=f"{FILE} is larger than {_MOST_BYTES // 1024} KiB")
    try:
        content, whole = read_text(path)
        if not whole:
            return Published(problem=f"{FILE} ends within a line")
        lines = rows_from_text(content, _Line, FILE)
    except QuantcaseError as e:
        return Published(problem=str(e))
    return _typed(lines)


def _typed(lines: Sequence[_Line]) -> Published:
    """The lines as figures; a problem where they contradict themselves."""
    if len(lines) > _MOST_ROWS:
        return Published(problem=f"{FILE} has more than {_MOST_ROWS} rows")
    names = [(line.model, line.quantization) for line in lines]
    if len(set(names)) < len(names):
        return Published(problem=f"{FILE} names a quantization of a model twice")
    rows, originals = [], []
    for line in lines:
        file = Decimal(line.file_size_gb)
        baseline, offload = _decimal(line.vram_baseline_gb), _decimal(line.vram_offload_gb)
        if file == 0 or baseline == 0:
            return Published(problem=f"{FILE} states a size of zero")
        if line.runs is not None and not 1 <= line.runs <= _MOST_RUNS:
            return Published(problem=f"{FILE} states {line.runs} runs")
        if baseline is None or offload is None:
            originals.append((line.model, line.quantization, file))
            continue
        saved, reduction = _decimal(line.vram_saved_gb), _decimal(line.reduction_pct)
        rows.append(
            Row(line.model, line.quantization, file, baseline, offload, saved, reduction, line.runs, line.source)
        )
    return Published(tuple(rows), tuple(originals))


def _decimal(value: str) -> Decimal | None:
    return Decimal(value) if value else None


@dataclass(frozen=True)
class Findings:
    """What the published rows carry, of all models together."""

    ratios: tuple[Decimal, Decimal]  # baseline VRAM over file size, lowest and highest
    near: int  # rows within 5 % of their file's size
    farthest: Row
    floor: tuple[Row, Row]  # least and most VRAM with offload
    floor_growth: dict[str, tuple[Row, Row, Decimal, Decimal]]  # smallest, largest file; offload and baseline times
    growing: dict[str, bool]  # whether the reduction grows with the file, by model
    across: tuple[Row, Row] | None  # a larger file of one model that saves less than a smaller one of another
    disagreeing: tuple[Row, ...]


def findings(rows: Sequence[Row]) -> Findings | None:
    """The findings; None without rows."""
    if not rows:
        return None
    by_model = {m: sorted((r for r in rows if r.model == m), key=lambda r: r.file) for m in (r.model for r in rows)}
    several = {m: found for m, found in by_model.items() if len(found) > 1}
    ratios = [r.to_file for r in rows]
    inversions = [(a, b) for a in rows for b in rows if a.file > b.file and a.reduction < b.reduction]
    return Findings(
        ratios=(min(ratios), max(ratios)),
        near=sum(abs(x - 1) <= _NEAR for x in ratios),
        farthest=max(rows, key=lambda r: abs(r.to_file - 1)),
        floor=(min(rows, key=lambda r: r.offload), max(rows, key=lambda r: r.offload)),
        floor_growth={
            m: (f[0], f[-1], f[-1].offload / f[0].offload, f[-1].baseline / f[0].baseline)
            for m, f in several.items()
            if f[0].offload
        },
        growing={m: all(a.reduction < b.reduction for a, b in pairwise(f)) for m, f in several.items()},
        across=max(
            ((a, b) for a, b in inversions if a.model != b.model),
            key=lambda ab: ab[1].reduction - ab[0].reduction,
            default=None,
        ),
        disagreeing=tuple(r for r in rows if not r.agrees),
    )


Size = Literal["smallest", "between", "largest", "mixed"]


@dataclass(frozen=True)
class Use:
    """One quantization over all models that have it: where its files stand in size, and ranges in GB and percent."""

    quantization: str
    size: Size
    models: int
    file: tuple[Decimal, Decimal]
    baseline: tuple[Decimal, Decimal]
    offload: tuple[Decimal, Decimal]
    reduction: tuple[Decimal, Decimal]


def uses(rows: Sequence[Row]) -> list[Use]:
    """One entry per quantization, smallest files first."""
    found = []
    for name in dict.fromkeys(r.quantization for r in sorted(rows, key=lambda r: r.file)):
        mine = [r for r in rows if r.quantization == name]
        places = {_place(r, [x for x in rows if x.model == r.model]) for r in mine}
        found.append(
            Use(
                name,
                places.pop() if len(places) == 1 else "mixed",
                len(mine),
                _range(r.file for r in mine),
                _range(r.baseline for r in mine),
                _range(r.offload for r in mine),
                _range(r.reduction for r in mine),
            )
        )
    return found


def _place(row: Row, of_model: Sequence[Row]) -> Size:
    files = [r.file for r in of_model]
    if len(files) < 2:
        return "mixed"
    return "smallest" if row.file == min(files) else "largest" if row.file == max(files) else "between"


def _range(values: Iterable[Decimal]) -> tuple[Decimal, Decimal]:
    ordered = sorted(values)
    return ordered[0], ordered[-1]


_WIDE_GAP = 0.10


@dataclass(frozen=True)
class Device:
    """What one server start took on the GPU, MiB: by llama.cpp's buffers on CUDA0 (model + KV + compute) and by NVML.

    The driver's figure is NVML's peak of used device memory while measuring, less what was in use before the server
    started; `at` says "loaded" where only the reading once ready was recorded. NVML counts the whole card: a process
    that came later counts as well.
    """

    buffers_mib: float | None
    driver_mib: float | None
    at: Literal["peak", "loaded"] = "peak"

    @property
    def gap(self) -> float | None:
        """How far the driver is from the buffers, as a share of the buffers; None where either is not recorded."""
        if self.driver_mib is None or not self.buffers_mib:
            return None
        return self.driver_mib / self.buffers_mib - 1

    @property
    def disagrees(self) -> bool:
        """Whether the two are more than a tenth apart."""
        return self.gap is not None and abs(self.gap) > _WIDE_GAP


def device(row: VariantRow) -> Device | None:
    """The memory of one server start; None where neither the log nor the driver states any."""
    seen = next(
        (
            (value - row.vram_idle_mib, at)
            for at, value in (("peak", row.vram_peak_mib), ("loaded", row.vram_loaded_mib))
            if value is not None and row.vram_idle_mib is not None and value > row.vram_idle_mib
        ),
        None,
    )
    buffers = row.vram_buffers_mib or None  # 0: nothing lies on CUDA0
    if seen is None:
        return None if buffers is None else Device(buffers, None)
    return Device(buffers, seen[0], "peak" if seen[1] == "peak" else "loaded")


@dataclass(frozen=True)
class Gguf:
    """One measured GGUF variant: what llama.cpp's log states of it. MiB is llama.cpp's own unit."""

    variant: str
    quantization: str  # Q4_K_M, F16 ...
    file_mb: float | None  # 10^6 bytes
    bits: float | None
    weights_mib: float | None
    kv_mib: float | None
    working_mib: float | None
    device: Device | None = None


def is_gguf(case: Case) -> bool:
    """Whether a case is a measured run of llama.cpp."""
    return case.study.engine.name == "llamacpp" and case.bundle.info.grade == "measured"


def ggufs(case: Case) -> list[Gguf]:
    """Every GGUF variant that served, smallest file first; a control that repeats another variant is left out."""
    names = [v.name for v in case.study.variants if v.name != case.study.control]
    rows = [row for name in names if (row := case.served(name)) is not None]
    found = [
        Gguf(
            row.variant,
            row.method.removeprefix("gguf:"),
            None if row.checkpoint_bytes is None else row.checkpoint_bytes / 1e6,
            row.bits,
            _mib(row.weights_gib),
            _mib(row.kv_cache_gib),
            _mib(row.activations_gib),
            device(row),
        )
        for row in rows
    ]
    return sorted(found, key=lambda g: (g.file_mb is None, g.file_mb or 0.0))


def _mib(gib: float | None) -> float | None:
    return None if gib is None else gib * 1024


@dataclass(frozen=True)
class Pair:
    """The same file with everything on the GPU and with experts in the host's memory.

    GiB by llama.cpp's buffers on CUDA0 (as the published tables count) where both starts state them, else by the
    driver. What the driver saw of each stands beside, because buffers leave out what CUDA itself takes.
    """

    baseline: str
    offload: str
    baseline_gib: float
    offload_gib: float
    by_buffers: bool
    baseline_device: Device
    offload_device: Device

    @property
    def saved_gib(self) -> float:
        return self.baseline_gib - self.offload_gib

    @property
    def reduction_pct(self) -> float:
        return 100 * self.saved_gib / self.baseline_gib


def pairs(case: Case) -> list[Pair]:
    """Measured baselines with their offloaded twin, where buffers or driver tell of both what each took."""
    rows = [r for v in case.study.variants if (r := case.served(v.name)) is not None]
    found = []
    for a, b in itertools.permutations(rows, 2):
        same = (a.model, a.method, a.kv_dtype) == (b.model, b.method, b.kv_dtype)
        mine, theirs = device(a), device(b)
        if not same or _offloaded(a) or not _offloaded(b) or mine is None or theirs is None:
            continue
        if mine.buffers_mib and theirs.buffers_mib:
            mib, by_buffers = (mine.buffers_mib, theirs.buffers_mib), True
        elif mine.driver_mib and theirs.driver_mib:
            mib, by_buffers = (mine.driver_mib, theirs.driver_mib), False
        else:
            continue
        found.append(Pair(a.variant, b.variant, mib[0] / 1024, mib[1] / 1024, by_buffers, mine, theirs))
    return found


def _offloaded(row: VariantRow) -> bool:
    """Whether the command line keeps expert weights off the GPU."""
    try:
        argv = json.loads(row.argv)
    except (ValueError, RecursionError):
        return False
    return isinstance(argv, list) and any(isinstance(a, str) and a in _FLAGS for a in argv)
