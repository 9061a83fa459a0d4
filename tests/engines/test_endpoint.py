"""Attaching to servers that answer, refuse, or are none: real ones, on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from collector.engines.base import ServeRequest
from collector.engines.endpoint import Endpoint, EndpointServer
from collector.engines.process import free_port
from collector.errors import QuantcaseError
from collector.study import EngineSpec, Variant
from tests.makers import study


@contextlib.asynccontextmanager
async def server(status: int = 200, body: str = '{"data": [{"id": "a"}, {"id": "b"}]}') -> AsyncIterator[str]:
    async def models(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="vllm:num_requests_running 0\n")

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": "0.26.0"})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/version", version)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def attach(url: str, tmp_path: Path, model: str = "b") -> EndpointServer:
    spec = EngineSpec(name="endpoint", url=url)
    variant = Variant(name="v", model=model)
    return await Endpoint().start(
        ServeRequest(study=study(), variant=variant, spec=spec, port=0, log_path=tmp_path / "l", work=tmp_path)
    )


async def test_it_finds_the_model_and_what_the_server_is(tmp_path: Path) -> None:
    async with server() as url:
        found = await attach(url + "/v1/", tmp_path)
        assert (found.base_url, found.model, found.metrics_path) == (url, "b", "/metrics")
        assert (found.facts().engine, found.facts().version) == ("vllm", "0.26.0")
        assert (await attach(url, tmp_path, model="other")).model == "a"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, "boom", "answers HTTP 500: boom; look at the server's log"),
        (401, "{}", "refuses with HTTP 401; set QUANTCASE_API_KEY"),
        (403, "{}", "refuses with HTTP 403; set QUANTCASE_API_KEY"),
        (404, "not\nhere", "answers HTTP 404: not here"),
        (200, "", "names no model"),
        (200, "null", "names no model"),
        (200, '{"data": [{"name": "x"}]}', "names no model"),
        (200, '{"data": "abc"}', "names no model"),
        (200, "<html>", "answers with no JSON"),
        (200, '{"data": []}', "names no model"),
        (200, "[]", "names no model"),
    ],
)
async def test_servers_that_will_not_do(tmp_path: Path, status: int, body: str, says: str) -> None:
    async with server(status, body) as url:
        with pytest.raises(QuantcaseError) as e:
            await attach(url, tmp_path)
    assert says in str(e.value)


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="cannot be reached"):
        await attach(f"http://127.0.0.1:{free_port()}", tmp_path)


@pytest.mark.parametrize("url", ["", "host:8000", "ftp://host", "http://user:secret@host"])
async def test_addresses_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(QuantcaseError) as e:
        await attach(url, tmp_path)
    assert "secret" not in str(e.value)
