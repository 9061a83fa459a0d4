"""The replay engine: a real server that keeps recorded times, graded `simulated`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from collector.engines.base import ServeRequest
from collector.engines.process import free_port
from collector.engines.recording import load, record
from collector.engines.replay import Replay
from collector.errors import QuantcaseError
from collector.load.measure import Client, calibrate
from collector.load.prompts import PromptMaker
from collector.study import EngineSpec, Load
from tests.makers import make_bundle, study


def test_a_recording_names_the_bundle_and_keeps_its_times(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16", "awq"))
    recording = record(folder)
    assert recording.bundle == folder.name
    assert len(recording.manifest_sha256) == 64
    assert set(recording.variants) == {"bf16", "awq"}
    assert {(r.workload, r.concurrency) for r in recording.variants["awq"].loads} == {
        ("chat", 1), ("chat", 8), ("chat", 16), ("batch", 16), ("batch", 32),
    }  # fmt: skip


def test_only_measured_bundles_are_recorded(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="grade simulated"):
        record(make_bundle(tmp_path, grade="simulated"))


def test_a_source_that_is_none_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="no bundle or recording at"):
        load(str(tmp_path / "nothing"))
    (tmp_path / "bad.json.gz").write_bytes(b"no gzip")
    with pytest.raises(QuantcaseError, match="is no recording"):
        load(str(tmp_path / "bad.json.gz"))


async def test_what_is_measured_on_it_is_what_was_recorded(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16", "awq"))
    spec = EngineSpec(name="replay", source=str(folder))
    asked = msgspec.structs.replace(study(), engine=spec)
    engine = Replay()
    assert engine.grade == "simulated"
    with pytest.raises(QuantcaseError, match="has no variant fp8"):
        engine.check(asked)
    server = await engine.start(
        ServeRequest(
            study=asked,
            variant=asked.variant("awq"),
            spec=spec,
            port=free_port(),
            log_path=tmp_path / "l",
            work=tmp_path,
        )
    )
    try:
        client = Client(server.base_url, server.model)
        maker = PromptMaker(asked, await calibrate(client, asked))
        workload = msgspec.structs.replace(asked.workload("chat"), requests_per_stream=2, min_requests=2)
        got = await client.repeat(
            maker, workload, Load.closed(8), variant="awq", start=1, repeat=1, zero=0.0, prompts_of=1
        )
    finally:
        await server.stop()
    recorded = next(r for r in record(folder).variants["awq"].loads if (r.workload, r.concurrency) == ("chat", 8))
    tpots = sorted(t for _, t in recorded.timings_ms)
    assert tpots[0] * 0.95 < (got.cell.tpot_ms_p50 or 0) < tpots[-1] * 1.3
    assert server.facts().weights_gib == pytest.approx(5.37)
    assert "replayed from" in server.facts().evidence["kernel_path"].text
    assert not server.alive()
