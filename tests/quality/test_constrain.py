"""Answers held to labels: what the engine honours is found out once, written down, and the same for every variant."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from collector.bundle.answers import QualityItem
from collector.bundle.read import open_bundle
from collector.bundle.schema import Environment
from collector.bundle.write import BundleWriter
from collector.engines.base import ServeRequest
from collector.engines.llamacpp import LlamaCpp
from collector.engines.process import free_port
from collector.quality import constrain, labels, suites
from collector.quality.ask import Asker
from collector.study import EngineSpec, QualitySuite, Study, Variant, loads
from tests.makers import STUDY
from tests.makers import study as made_study
from tests.quality.test_judge import Stub, judged

TWO = '[[quality]]\nkind = "labels"\nfile = "{file}"\nconcurrency = 1\n'
WILD = ["plain", 'say "hi"', "back\\slash", "größer", "笑 ✓ 😀", "a | b", "[x]", "#c", "two\tparts"]


def choices_in(body: dict[str, Any], field: str) -> list[str] | None:
    """What a server that knows only `field` reads out of a request."""
    if field not in body:
        return None
    if field == "structured_outputs":
        return list(body[field]["choice"])
    return list(body[field]) if field == "guided_choice" else re.findall(r'"([^"]*)"', body[field])


class Server:
    """Knows one field, or none, and refuses or ignores the others."""

    def __init__(self, knows: str = "", *, refuses: bool = False) -> None:
        self.knows, self.refuses = knows, refuses
        self.bodies: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        unknown = [f for f in constrain.FIELDS if f in body and f != self.knows]
        if unknown and self.refuses:
            return web.json_response({"error": {"message": f"unknown field {unknown[0]}"}}, status=400)
        choices = choices_in(body, self.knows) if self.knows else None
        text = choices[-1] if choices else "Paris, I think"
        choice = {"message": {"content": text}} if "messages" in body else {"text": text}
        return web.json_response({"choices": [choice | {"finish_reason": "stop"}]})

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/{path:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def settled(server: Server, **keys: Any) -> list[QualityItem]:
    suite = QualitySuite(kind="labels", items=23, **keys)
    study = msgspec.structs.replace(made_study(), quality=[suite])
    async with server.up() as url, Asker(url, "m") as asker:
        return await suites.build(suite, study, asker)


# What the engine honours


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses others", "ignores others"])
@pytest.mark.parametrize("knows", constrain.FIELDS)
async def test_the_first_field_that_the_server_honours_is_taken(knows: str, refuses: bool) -> None:
    server = Server(knows, refuses=refuses)
    made = await settled(server)
    assert {(i.answers, i.constraint, i.free_because) for i in made} == {("constrained", knows, "")}
    assert made[0].choices == sorted({i.reference for i in made if i.reference})
    assert len(server.bodies) == constrain.FIELDS.index(knows) + 1


async def test_a_server_that_honours_none_is_asked_freely_and_the_reasons_are_kept() -> None:
    (ignored, *_) = await settled(Server())
    (refused, *_) = await settled(Server(refuses=True))
    assert ignored.answers == refused.answers == "free"
    assert ignored.free_because == "; ".join(f"{f}: ignored, it answered 'Paris, I think'" for f in constrain.FIELDS)
    assert refused.free_because == "; ".join(f"{f}: HTTP 400: unknown field {f}" for f in constrain.FIELDS)
    assert constrain.fields(ignored) == {}
    assert "free, the engine holds none to labels (structured_outputs: ignored" in constrain.told([ignored])


async def test_a_study_that_wants_free_answers_tries_nothing() -> None:
    server = Server("grammar")
    (first, *_) = await settled(server, answers="free")
    assert (first.answers, first.free_because, server.bodies) == ("free", "", [])
    assert constrain.told([first]) == "answers are free, as the study asks"


async def test_the_prompts_are_the_same_whether_held_or_free() -> None:
    held, free = await settled(Server("grammar")), await settled(Server())
    assert [i.prompt_sha256 for i in held] == [i.prompt_sha256 for i in free]


async def test_a_base_models_choices_follow_its_answer_colon_with_a_blank() -> None:
    server = Server("structured_outputs")
    (first, *_) = await settled(server, api="completions")
    assert first.choices is not None
    assert all(re.fullmatch(r" \w+", c) for c in first.choices)
    assert (server.bodies[0]["prompt"], "messages" in server.bodies[0]) == ("The capital of France is", False)


async def test_the_longest_label_has_room_even_as_bytes() -> None:
    pairs = [("a", "x" * 90), ("b", "y")]
    async with Server("grammar").up() as url, Asker(url, "m") as asker:
        made = await constrain.settle(
            asker, labels.items("s", pairs), ["x" * 90, "y"], answers="constrained", timeout_s=5
        )
    assert {i.output_tokens for i in made} == {98}


# One way for all variants


def bundle(tmp_path: Path) -> tuple[Study, BundleWriter]:
    (tmp_path / "l.csv").write_text("text,label\nhi,greet\nbye,leave\n")
    study = loads(STUDY.format(weights="real") + TWO.format(file=tmp_path / "l.csv"), "test")
    writer = BundleWriter.create(
        tmp_path / "b", study, grade="measured", gpu="h200", cells_planned=0, environment=Environment(gpu_asked="h200")
    )
    return study, writer


async def test_what_the_first_server_settled_holds_for_all_and_after_a_break(tmp_path: Path) -> None:
    study, writer = bundle(tmp_path)
    first, second = Server("guided_choice"), Server("guided_choice")
    async with first.up() as url:
        said = await judged(study, writer, Stub(url))
    assert "bf16 quality labels: answers are held to 2 labels by the field guided_choice" in said
    lines = (writer.folder / "quality_items.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        assert (line["answers"], line["constraint"], line["choices"]) == (
            "constrained", "guided_choice", ["greet", "leave"],
        )  # fmt: skip
    writer.answers.close()
    again = BundleWriter.resume(writer.folder)
    async with second.up() as url:
        said = await judged(study, again, Stub(url), variant="awq")
    assert "held to" not in said  # nothing is tried again
    assert [b.get("guided_choice") for b in second.bodies] == [["greet", "leave"]] * 2
    again.answers.close()
    rows = {(r.variant, r.reference or r.prompt_id): r for r in open_bundle(writer.folder).quality()}
    assert {r.output for r in rows.values()} == {"leave"}
    assert sorted(r.score or 0 for r in rows.values()) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("refuses", "why"),
    [
        (True, "HTTP 400: unknown field guided_choice"),
        (False, "the server did not hold its answer to the labels (guided_choice): 'Paris, I think'"),
    ],
)
async def test_a_variant_that_cannot_be_asked_so_fails_and_is_not_asked_otherwise(
    tmp_path: Path, refuses: bool, why: str
) -> None:
    study, writer = bundle(tmp_path)
    async with Server("guided_choice").up() as url:
        await judged(study, writer, Stub(url))
    async with Server(refuses=refuses).up() as url:
        await judged(study, writer, Stub(url), variant="awq")
    writer.answers.close()
    rows = [r for r in open_bundle(writer.folder).quality() if r.variant == "awq"]
    assert [(r.status, r.error, r.score) for r in rows] == [("error", why, None)] * 2


async def test_a_bundle_of_old_goes_on_with_free_answers(tmp_path: Path) -> None:
    study, writer = bundle(tmp_path)
    async with Server().up() as url:
        await judged(study, writer, Stub(url))
    writer.answers.close()
    path = writer.folder / "quality_items.jsonl"
    old = [{k: v for k, v in json.loads(line).items() if k not in ("answers", "free_because")} for line in path.open()]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    server = Server("structured_outputs")
    again = BundleWriter.resume(writer.folder)
    async with server.up() as url:
        await judged(study, again, Stub(url), variant="awq")
    assert [[f for f in constrain.FIELDS if f in b] for b in server.bodies] == [[], []]


# Real llama.cpp


async def test_llama_cpp_answers_with_nothing_but_a_label(tmp_path: Path) -> None:
    """By the grammar, whatever characters the labels hold, and over both APIs."""
    spec = EngineSpec(name="llamacpp", args=["--cache-ram", "0", "-c", "1024", "-np", "2"])
    server = await LlamaCpp().start(
        ServeRequest(
            study=msgspec.structs.replace(made_study(), engine=spec, context_tokens=1024),
            variant=Variant(name="f16", model="trained:small", method="gguf:F16"),
            spec=spec, port=free_port(), log_path=tmp_path / "log", work=tmp_path,
        )
    )  # fmt: skip
    (tmp_path / "l.jsonl").write_text("".join(json.dumps({"text": f"t {w}", "label": w}) + "\n" for w in WILD))
    try:
        for api in ("chat", "completions"):
            suite = QualitySuite(kind="labels", file=str(tmp_path / "l.jsonl"), api=api)
            async with Asker(server.base_url, server.model) as asker:
                made = await suites.build(suite, made_study(), asker)
                for item in made:
                    assert (item.answers, item.constraint) == ("constrained", "grammar"), item.free_because
                    prompt = item.prompt or ""
                    reply = await asker.answer(
                        api, prompt, item.output_tokens, timeout_s=60, more=constrain.fields(item)
                    )
                    assert reply.text.strip() in WILD, reply
                    assert constrain.broken(item, reply) == ""
                for label in WILD:  # each of them can be said
                    only = msgspec.structs.replace(made[0], choices=[label])
                    reply = await asker.answer(api, "Hi", 64, timeout_s=60, more=constrain.fields(only))
                    assert reply.text.strip() == label
    finally:
        await server.stop()
