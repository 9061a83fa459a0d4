"""One pass over a server that answers, refuses, stalls and breaks: every prompt becomes a row, and none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web
from rich.console import Console

from collector.bundle.read import open_bundle
from collector.bundle.schema import Environment
from collector.bundle.write import BundleWriter
from collector.engines.base import Server
from collector.errors import QuantcaseError
from collector.progress import View
from collector.quality.judge import Judge, passes_due, passes_wanted
from collector.study import QualitySuite, Study, loads
from tests.makers import STUDY

STUDY_TEXT = STUDY.format(weights="real") + '[[quality]]\nkind = "file"\nname = "own"\nfile = "{file}"\n'


class Stub:
    """What a judge needs to know of a server."""

    metrics_path = None

    def __init__(self, base_url: str) -> None:
        self.base_url, self.model = base_url, "m"
        self.lives = True

    def alive(self) -> bool:
        return self.lives


@contextlib.asynccontextmanager
async def server(answers: dict[str, Any]) -> AsyncIterator[str]:
    """Answers by the last word of the prompt."""

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        what = answers.get(body["messages"][-1]["content"].split()[-1], "4")
        if what == "stall":
            await asyncio.sleep(30)
        if isinstance(what, int):
            return web.json_response({"error": {"message": "out of luck"}}, status=what)
        if what == "garbage":
            return web.Response(text="<html>", content_type="text/html")
        message = {"content": None, "refusal": "I will not"} if what == "refuse" else {"content": what}
        usage = {"prompt_tokens": 5, "completion_tokens": 1}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def made(tmp_path: Path, words: list[str]) -> tuple[Study, BundleWriter]:
    lines = [json.dumps({"prompt": f"say {w}", "reference": "4", "scorer": "number"}) for w in words]
    (tmp_path / "own.jsonl").write_text("\n".join(lines) + "\n")
    study = loads(STUDY_TEXT.replace("{file}", str(tmp_path / "own.jsonl")), "test")
    writer = BundleWriter.create(
        tmp_path / "b", study, grade="measured", gpu="h200", cells_planned=0, environment=Environment(gpu_asked="h200")
    )
    return study, writer


async def judged(study: Study, writer: BundleWriter, server: Stub, number: int = 1, variant: str = "bf16") -> str:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with View(console, 0) as view:
        await Judge(
            study=study, variant=variant, start=number, number=number, server=cast(Server, server), writer=writer,
            view=view, extra_body=None, api_key=None,
        ).judge()  # fmt: skip
    return console.export_text()


async def test_every_failure_is_a_row_with_its_status(tmp_path: Path) -> None:
    words = ["right", "wrong", "refuse", "stall", "broken", "garbage", "empty"]
    study, writer = made(tmp_path, words)
    study = msgspec.structs.replace(
        study, quality=[msgspec.structs.replace(study.quality[0], request_timeout_s=1.0, concurrency=4)]
    )
    replies: dict[str, Any] = {
        "right": "4", "wrong": "5", "refuse": "refuse", "stall": "stall", "broken": 500, "garbage": "garbage",
        "empty": "",
    }  # fmt: skip
    async with server(replies) as url:
        said = await judged(study, writer, Stub(url))
    writer.answers.close()
    rows = dict(zip(words, _rows(writer), strict=True))
    assert {w: r["status"] for w, r in rows.items() if "status" in r} == {
        "refuse": "refused", "stall": "timeout", "broken": "error", "garbage": "error",
    }  # fmt: skip
    assert (rows["right"]["score"], rows["wrong"]["score"], rows["empty"]["score"]) == (1.0, 0.0, 0.0)
    assert rows["empty"]["problem"] == "empty"
    assert "HTTP 500: out of luck" in rows["broken"]["error"]
    assert "1 of 7 right, 4 without an answer" in said


def _rows(writer: BundleWriter) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (writer.folder / "quality.jsonl").read_text().splitlines()]


async def test_a_pass_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    study, writer = made(tmp_path, [str(n) for n in range(9)])
    async with server({}) as url:
        await judged(study, writer, Stub(url))
        assert passes_due(study, writer, "bf16", grade="measured") == [2]
        lines = (writer.folder / "quality.jsonl").read_text().splitlines(keepends=True)
        (writer.folder / "quality.jsonl").write_text("".join(lines[:5]))
        again = BundleWriter.resume(writer.folder)
        assert passes_due(study, again, "bf16", grade="measured") == [1, 2]
        await judged(study, again, Stub(url))
    counted = Counter(r["prompt_id"] for r in _rows(again))
    assert set(counted.values()) == {1}
    assert len(counted) == 9


async def test_an_engine_that_died_leaves_no_rows_that_are_its_fault(tmp_path: Path) -> None:
    study, writer = made(tmp_path, ["a", "b"])
    async with server({"a": 500, "b": 500}) as url:
        stub = Stub(url)
        stub.lives = False
        with pytest.raises(QuantcaseError, match="the engine died"):
            await judged(study, writer, stub)
    assert not (writer.folder / "quality.jsonl").exists()


def test_the_baseline_is_asked_twice_and_dummies_and_replays_never() -> None:
    study = loads(STUDY.format(weights="real"), "test")
    assert passes_wanted(study, "bf16", grade="measured") == 0  # no suites
    study = msgspec.structs.replace(study, quality=[QualitySuite(kind="sanity")])
    assert [passes_wanted(study, v.name, grade="measured") for v in study.variants] == [2, 1, 1, 1]
    assert passes_wanted(study, "bf16", grade="simulated") == 0
    assert passes_wanted(msgspec.structs.replace(study, weights="dummy"), "bf16", grade="measured") == 0
    assert passes_wanted(msgspec.structs.replace(study, control="fp8"), "fp8", grade="measured") == 0


async def test_an_engine_that_dies_while_it_scores_texts_is_not_asked_for_them_again(tmp_path: Path) -> None:
    """Log-probabilities are a known way to run out of memory; a resumed run would only die again."""
    study, writer = made(tmp_path, ["a"])
    study = msgspec.structs.replace(study, quality=[QualitySuite(kind="likelihood", items=3)])
    async with server({}) as url:
        stub = Stub(url)
        stub.lives = False
        with pytest.raises(QuantcaseError, match="the engine died during likelihood"):
            await judged(study, writer, stub)
    assert passes_due(study, writer, "bf16", grade="measured") == [2]
    writer.answers.close()
    assert {r.error for r in open_bundle(writer.folder).likelihood()} <= {
        "the engine died while it scored texts", "the engine's /tokenize gives no ids",
    }  # fmt: skip
