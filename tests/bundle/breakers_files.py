"""What breaks the rules about the manifest, the files, the schema and the units (Q1xx to Q4xx)."""

from __future__ import annotations

import gzip

from msgspec.structs import replace

from collector.bundle import manifest as manifests
from collector.bundle.schema import Manifest
from collector.study import Price
from tests.bundle.breaking import Box, breaks, resent


@breaks("Q101")
def no_manifest(box: Box) -> None:
    (box.folder / manifests.MANIFEST).unlink()


@breaks("Q102")
def a_changed_manifest(box: Box) -> None:
    path = box.folder / manifests.MANIFEST
    path.write_text(path.read_text().replace("made by a seed", "made by a need"))


@breaks("Q103")
def an_unfinished_run(box: Box) -> None:
    box.seal(status="interrupted")


@breaks("Q104")
def a_failed_run(box: Box) -> None:
    box.seal(status="failed")


@breaks("Q105")
def a_wrong_count(box: Box) -> None:
    box.seal(cells_done=5)


@breaks("Q106")
def another_study(box: Box) -> None:
    box.seal(study="another")


@breaks("Q107")
def no_zone(box: Box) -> None:
    box.seal_with(lambda m: replace(m, created="yesterday"))


@breaks("Q201")
def a_file_gone(box: Box) -> None:
    (box.folder / "notes.md").unlink()


@breaks("Q202")
def a_file_more(box: Box) -> None:
    (box.folder / "extra.txt").write_text("x")


@breaks("Q203")
def a_file_changed(box: Box) -> None:
    (box.folder / "notes.md").write_text("other words\n")


@breaks("Q204")
def a_link(box: Box) -> None:
    (box.folder / "link").symlink_to("/etc/passwd")


@breaks("Q301")
def no_json(box: Box) -> None:
    box.text("quality.jsonl", "{this is none}\n")
    box.seal()


@breaks("Q302")
def no_table(box: Box) -> None:
    (box.folder / "engine_metrics.csv.gz").unlink()
    box.seal()


@breaks("Q303")
def a_torn_table(box: Box) -> None:
    path = box.folder / "telemetry.csv.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-9], 1))
    box.seal()


@breaks("Q304")
def other_columns(box: Box) -> None:
    resources = manifests.read(box.folder).resources
    schema = next(r.schema for r in resources if r.path == "variants.csv")

    def other(m: Manifest) -> Manifest:
        changed = [replace(r, schema=schema) if r.path == "cells.csv" else r for r in m.resources]
        return replace(m, resources=changed)

    box.seal_with(other)


@breaks("Q401")
def sends_too_far_apart(box: Box) -> None:
    for repeat in (1, 2, 3):
        rows = box.of("bf16", repeat)
        zero = rows[0].started_s
        box.change(rows, started_s=lambda r, zero=zero: zero + 25 * (r.started_s - zero))


@breaks("Q402", "Q906")  # such a repeat is faster than the others, too
def tokens_in_no_time(box: Box) -> None:
    rows = box.of("bf16", 1)
    fast = resent([replace(r, e2e_ms=(r.ttft_ms or 0) + 1.27, tpot_ms=0.01) for r in rows])
    sends = {r.index: r for r in fast}
    box.change(rows, e2e_ms=lambda r: sends[r.index].e2e_ms, tpot_ms=0.01, started_s=lambda r: sends[r.index].started_s)


@breaks("Q403", "Q1002")  # of so short a TTFT any lag is a large share
def a_first_token_in_no_time(box: Box) -> None:
    box.change(box.of("bf16", 1), ttft_ms=0.05, first_chunk_ms=0.04, tpot_ms=lambda r: ((r.e2e_ms or 0) - 0.05) / 127)


@breaks("Q404")
def milliwatts(box: Box) -> None:
    box.sample(3, power_w=4200.0)


@breaks("Q405")
def more_than_all(box: Box) -> None:
    box.sample(3, utilisation_pct=120.0)


@breaks("Q406")
def gigahertz(box: Box) -> None:
    box.sample(3, sm_clock_mhz=2.0)


@breaks("Q407")
def kelvin(box: Box) -> None:
    box.sample(3, temperature_c=330.0)


@breaks("Q408")
def millijoules(box: Box) -> None:
    box.telemetry = [replace(s, energy_j=1000 * (s.energy_j or 0)) for s in box.telemetry]
    box.save()


@breaks("Q409")
def gibibytes(box: Box) -> None:
    box.variant("fp8", vram_loaded_mib=125.8)


@breaks("Q410")
def cents(box: Box) -> None:
    box.study = replace(box.study, price=Price(usd_per_hour=900.0, source="made up", date="2026-11-21"))
    box.save()
