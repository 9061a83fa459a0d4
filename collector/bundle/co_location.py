"""`co_location.json`: one cell alone against the same cell beside other servers on the box. An optional file.

Written by a run that measured variants side by side on different GPUs: beyond the region of equivalence such cells are
not compared with cells that were measured alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from collector.bundle.manifest import write_atomic
from collector.errors import QuantcaseError

__all__ = ["CO_LOCATION", "CoLocated", "CoLocation", "Ratio", "cell_words", "read_co_location", "write_co_location"]

CO_LOCATION = "co_location.json"
_MOST_BYTES = 1 << 20


class CoLocated(Struct, frozen=True, kw_only=True):
    """The cell's figures once: output tokens per second and the median TTFT in ms."""

    tok_s: Annotated[float, Meta(gt=0)]
    ttft_ms_p50: Annotated[float, Meta(ge=0)] | None = None


class Ratio(Struct, frozen=True, kw_only=True):
    """One metric together / alone: the pairs' geometric mean with its 95 % interval, and the values of each pair."""

    metric: str  # throughput_tok_s, ttft_ms_p50, tpot_ms_p50
    ratio: float
    low: float
    high: float
    region: float
    alone: list[float]
    together: list[float]


class CoLocation(Struct, frozen=True, kw_only=True):
    """The calibration. `ratio` is throughput together / alone with its 95 % interval, None where it has none."""

    cell: str | dict[str, Any]  # which cell, in words or by variant, workload and load
    alone: CoLocated
    together: CoLocated
    ratio: Annotated[float, Meta(gt=0)]
    low: float | None = None
    high: float | None = None
    region: Annotated[float, Meta(ge=0)]  # of equivalence: a ratio within 1 +- this
    allowed: bool  # whether cells measured side by side may be compared with cells measured alone
    places: int | None = None  # servers that stood side by side in the trial
    reason: str = ""  # why it is allowed or not, in words
    ratios: list[Ratio] = msgspec.field(
        default_factory=list
    )  # of every metric that was judged; throughput is above, too


def cell_words(found: CoLocation) -> str:
    """Which cell it was, in plain words; untrusted text."""
    if isinstance(found.cell, str):
        return found.cell
    return " ".join(str(value) for value in found.cell.values())


def read_co_location(folder: Path) -> CoLocation | None:
    """The calibration of a bundle; None where nothing was measured side by side.

    Raises:
        QuantcaseError: the file is too large, or is no such document.
    """
    path = folder / CO_LOCATION
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_BYTES:
        raise QuantcaseError(f"{CO_LOCATION} is larger than {_MOST_BYTES >> 20} MiB", fix="copy the bundle again")
    try:
        found = msgspec.json.decode(path.read_bytes(), type=CoLocation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        problem = f"{CO_LOCATION} cannot be read: {' '.join(str(e).split())}"
        raise QuantcaseError(problem, fix="copy the bundle again") from None
    if not all(math.isfinite(x) for x in (found.ratio, found.region, found.alone.tok_s, found.together.tok_s)):
        raise QuantcaseError(f"{CO_LOCATION}: a figure is not finite", fix="copy the bundle again")
    return found


def write_co_location(folder: Path, found: CoLocation) -> None:
    """Write the calibration down."""
    write_atomic(folder / CO_LOCATION, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
