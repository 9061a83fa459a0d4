"""Asking servers for the likelihood of texts: those that cannot, those that fail, and replies made by hand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from collector.bundle.answers import LikelihoodRow, QualityItem
from collector.quality import likelihood
from collector.quality.ask import Asker, Reply

IDS = [11, 12, 13]
ITEM = likelihood.item("likelihood", "made", 0, "a b c", IDS, 16)


@contextlib.asynccontextmanager
async def server(body: object, status: int = 200) -> AsyncIterator[tuple[Asker, list[Any]]]:
    """Answers every question alike; a `str` is sent as it stands. What was asked comes into the list."""
    asked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, await request.json()))
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    app.router.add_post("/tokenize", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Asker(f"http://127.0.0.1:{runner.addresses[0][1]}", "m") as asker:
            yield asker, asked
    finally:
        await runner.cleanup()


async def scored(body: object, status: int = 200) -> LikelihoodRow:
    async with server(body, status) as (asker, _):
        reply = await likelihood.score(asker, ITEM, timeout_s=20)
    return likelihood.read(reply, ITEM, variant="v", start=2, repeat=3)


def entry(logprob: object, rank: object) -> dict[str, object]:
    return {"logprob": logprob, "rank": rank, "decoded_token": "x"}


def positions() -> list[Any]:
    """The three tokens of `IDS`: the second is the likeliest, the third is none of the likeliest two."""
    return [
        None,
        {"12": entry(-0.25, 1), "40": entry(-2.5, 2)},
        {"13": entry(-9.0, 30), "50": entry(-0.5, 1), "51": entry(-1.5, 2)},
    ]


def choice(given: object) -> dict[str, Any]:
    return {"choices": [{"text": "x", "prompt_logprobs": given}]}


async def test_a_reply_is_taken_apart() -> None:
    row = await scored(choice(positions()))
    assert (row.status, row.error) == ("ok", None)
    assert (row.variant, row.start, row.repeat) == ("v", 2, 3)
    assert (row.prompt_id, row.prompt_sha256) == ("likelihood/made/0", hashlib.sha256(b"[11,12,13]").hexdigest())
    assert row.logprobs == [-0.25, -9.0]
    assert row.top == [[(12, -0.25), (40, -2.5)], [(50, -0.5), (51, -1.5)]]


async def test_token_ids_are_sent_and_as_many_likely_tokens_are_asked_as_servers_allow() -> None:
    async with server(choice(positions())) as (asker, asked):
        await likelihood.score(asker, ITEM, timeout_s=20)
    ((path, body),) = asked
    assert path == "/v1/completions"
    assert body == {"model": "m", "prompt": IDS, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 20}


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"text": "x", "logprobs": None}]},
        {"choices": [{"text": "x", "prompt_logprobs": None}]},
        {"choices": []},
        {"choices": None},
        {"choices": ["x"]},
        {},
    ],
)
async def test_a_server_without_prompt_logprobs_is_unsupported(body: object) -> None:
    row = await scored(body)
    assert (row.status, row.error) == ("unsupported", "the server gives no prompt log-probabilities")
    assert (row.logprobs, row.top) == ([], [])


@pytest.mark.parametrize(
    ("status", "becomes"),
    [(400, "unsupported"), (404, "unsupported"), (422, "unsupported"), (501, "unsupported"), (401, "error"),
     (429, "error"), (500, "error"), (503, "error")],
)  # fmt: skip
async def test_a_refusal_is_unsupported_and_a_failure_an_error(status: int, becomes: str) -> None:
    row = await scored({"error": {"message": "no\nprompt_logprobs here"}}, status)
    assert (row.status, row.error) == (becomes, f"HTTP {status}: no prompt_logprobs here")
    assert (row.logprobs, row.top) == ([], [])


async def test_minus_infinity_as_vllm_writes_it_is_kept_as_the_least() -> None:
    given = positions()
    given[2]["13"] = entry(-9999.0, 1024)
    given[2]["52"] = entry(-9999.0, 3)
    row = await scored(choice(given))
    assert (row.status, row.logprobs) == ("ok", [-0.25, -9999.0])
    assert row.top[1] == [(50, -0.5), (51, -1.5)]  # what is under 1e-6 is left out


async def test_top_holds_at_most_twenty_in_order_and_the_first_whatever_it_is() -> None:
    many = {str(100 + r): entry(-0.1 * r, r) for r in range(20, 0, -1)}
    given = [None, {"12": entry(-3.0, 21)} | many, {"13": entry(-20.0, 2), "50": entry(-14.5, 1)}]
    row = await scored(choice(given))
    assert [t for t, _ in row.top[0]] == list(range(101, 121))
    assert row.top[1] == [(50, -14.5)]
    assert math.log(1e-6) == likelihood.LEAST_LOGPROB > -14.5


async def test_a_hairs_breadth_above_nought_is_nought() -> None:
    given = positions()
    given[1]["12"] = entry(1e-7, 1)
    assert (await scored(choice(given))).logprobs == [0.0, -9.0]


def changed(position: int, value: object) -> list[Any]:
    given = positions()
    given[position] = value
    return given


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (positions()[:2], "ValueError 2 positions for 3 tokens"),
        ([*positions(), {"14": entry(-1.0, 1)}], "ValueError 4 positions for 3 tokens"),
        ([], "ValueError 0 positions for 3 tokens"),
        (changed(1, {"40": entry(-2.5, 1)}), "KeyError '12'"),  # the token that stands there is missing
        (changed(1, {}), "KeyError '12'"),
        (changed(1, None), "TypeError"),
        (changed(1, {"12": entry("nan", 1)}), "ValueError nan is no log-probability"),
        (changed(1, {"12": entry(0.7, 1)}), "ValueError 0.7 is no log-probability"),
        (changed(1, {"12": entry(None, 1)}), "TypeError"),
        (changed(1, {"12": entry(-1.0, None)}), "TypeError"),
        (changed(1, {"12": entry(-1.0, 1), "x": entry(-2.0, 2)}), "ValueError"),
        (changed(1, {"12": entry(-1.0, 1), "40": entry("nan", 2)}), "ValueError nan is no log-probability"),
        (changed(1, {"12": entry(-(10**400), 1)}), "OverflowError"),
        (changed(1, {"12": -1.0}), "TypeError"),
        (changed(1, [-1.0]), "TypeError"),
        ({"0": None, "1": None, "2": None}, ""),
        ("abc", "TypeError"),
        (5, "TypeError"),
    ],
)
async def test_what_cannot_be_read_is_an_error_with_its_reason(given: object, said: str) -> None:
    row = await scored(choice(given))
    assert row.status == "error"
    assert (row.error or "").startswith(f"its prompt log-probabilities cannot be read: {said}")
    assert (row.logprobs, row.top) == ([], [])


async def test_a_bare_nan_is_no_json() -> None:
    row = await scored(choice(changed(1, {"12": entry(math.nan, 1)})))  # as Python writes it
    assert row.status == "error"
    assert (row.error or "").startswith("the reply is no JSON")


async def test_a_server_that_is_gone_is_an_error() -> None:
    async with server({}) as (asker, _):
        url = asker.base_url
    async with Asker(url, "m") as asker:
        reply = await likelihood.score(asker, ITEM, timeout_s=20)
        assert (await likelihood.spell(asker, "a", timeout_s=20))[0] is None
    row = likelihood.read(reply, ITEM, variant="v", start=1)
    assert row.status == "error"
    assert row.error


async def test_a_timeout_stays_one() -> None:
    row = likelihood.read(Reply(status="timeout", error="no answer within 1 s"), ITEM, variant="v", start=1)
    assert (row.status, row.error) == ("timeout", "no answer within 1 s")


async def test_a_text_is_spelled_in_both_engines_words() -> None:
    async with server({"tokens": IDS, "count": 3}) as (asker, asked):
        assert await likelihood.spell(asker, "a b c", timeout_s=20) == (IDS, "")
    ((path, body),) = asked
    assert path == "/tokenize"
    assert body["prompt"] == body["content"] == "a b c"
    assert body["add_special_tokens"] is body["add_special"] is False


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"tokens": [{"id": 1, "piece": "a"}]}, 200, "its /tokenize gives no ids"),
        ({"tokens": "1 2"}, 200, "its /tokenize gives no ids"),
        ({}, 200, "its /tokenize gives no ids"),
        ({"error": "no"}, 404, "HTTP 404: no"),
    ],
)
async def test_a_server_that_cannot_spell_says_why(body: object, status: int, said: str) -> None:
    async with server(body, status) as (asker, _):
        assert await likelihood.spell(asker, "a", timeout_s=20) == (None, said)


def test_an_item_is_known_by_the_ids_of_its_window() -> None:
    whole: QualityItem = likelihood.item("likelihood", "made", 1, "a b c d", [*IDS, 14], 3)
    assert whole.token_ids == IDS
    assert whole.prompt_sha256 == ITEM.prompt_sha256
    assert (whole.prompt, whole.scorer, whole.api) == ("a b c d", "likelihood", "completions")
