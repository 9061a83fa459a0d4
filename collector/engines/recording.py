"""A recording: the timings of a measured bundle in one small file, for the replay engine.

`python -m collector.engines.recording BUNDLE OUT.json.gz` makes one. It names the bundle and the hash of its manifest,
so that anybody can see which measurement is replayed.
"""

from __future__ import annotations

import gzip
import sys
from importlib import resources
from pathlib import Path

import msgspec
from msgspec import Struct, field

from collector.bundle.read import open_bundle
from collector.bundle.schema import VariantRow
from collector.errors import QuantcaseError

__all__ = ["RecordedLoad", "RecordedVariant", "Recording", "load", "record"]

_MOST_REQUESTS = 96  # of one load point: enough for the shape of the distribution, small enough for a wheel


class RecordedLoad(Struct):
    """One load point: how long requests took, in the order in which they were issued."""

    workload: str
    concurrency: int
    output_tokens: int
    timings_ms: list[tuple[float, float]]  # (TTFT, TPOT)


class RecordedVariant(Struct):
    """One variant: what its engine said of itself, and its load points."""

    facts: VariantRow
    loads: list[RecordedLoad] = field(default_factory=list)


class Recording(Struct):
    """Timings of one measured bundle."""

    bundle: str
    manifest_sha256: str
    gpu: str
    variants: dict[str, RecordedVariant]


def record(folder: Path) -> Recording:
    """The recording of a measured bundle.

    Raises:
        QuantcaseError: the bundle was not measured, or holds no ok requests.
    """
    bundle = open_bundle(folder)
    if bundle.info.grade != "measured":
        raise QuantcaseError(f"{bundle.id} is of grade {bundle.info.grade}", fix="only measured bundles are recorded")
    study = bundle.study()
    variants: dict[str, RecordedVariant] = {}
    for row in bundle.variants():
        if row.exit_state == "ok":
            variants.setdefault(row.variant, RecordedVariant(row))
    by_load: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for r in bundle.requests():
        if r.status == "ok" and r.ttft_ms is not None and r.tpot_ms is not None:
            by_load.setdefault((r.variant, r.workload, r.load), []).append((r.ttft_ms, r.tpot_ms))
    for (variant, workload, load_point), timings in by_load.items():
        if variant in variants and load_point.startswith("c"):  # only a closed loop tells what ran beside a request
            step = max(1, len(timings) // _MOST_REQUESTS)
            variants[variant].loads.append(
                RecordedLoad(
                    workload,
                    int(load_point.removeprefix("c")),
                    study.workload(workload).output_tokens,
                    timings[::step][:_MOST_REQUESTS],
                )
            )
    recorded = {name: v for name, v in variants.items() if v.loads}
    if not recorded:
        raise QuantcaseError(f"{bundle.id} holds no ok requests", fix="record a bundle that was measured")
    return Recording(bundle.id, bundle.info.manifest_sha256, bundle.info.gpu, recorded)


def load(source: str) -> Recording:
    """The recording that a study's `engine.source` names: a bundle folder, a recording file, or the package's own.

    Raises:
        QuantcaseError: there is no such thing.
    """
    if not source:
        found = sorted(Path(str(resources.files("collector.engines") / "recordings")).glob("*.json.gz"))
        if not found:
            raise QuantcaseError("the package holds no recording", fix="set engine.source to a measured bundle")
        path = found[0]
    else:
        path = Path(source)
    if path.is_dir():
        return record(path)
    try:
        return msgspec.json.decode(gzip.decompress(path.read_bytes()), type=Recording)
    except FileNotFoundError:
        raise QuantcaseError(
            f"engine.source: no bundle or recording at {source}", fix="give a measured bundle"
        ) from None
    except (OSError, EOFError, msgspec.DecodeError) as e:
        raise QuantcaseError(f"engine.source: {path.name} is no recording: {e}", fix="give a measured bundle") from None


if __name__ == "__main__":
    data = msgspec.json.encode(record(Path(sys.argv[1])))
    Path(sys.argv[2]).write_bytes(gzip.compress(data, mtime=0))
