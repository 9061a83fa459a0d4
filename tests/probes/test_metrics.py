import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from collector.bundle.schema import EngineMetricRow
from collector.probes.metrics import MetricsScraper, kept, parse

# Lines as vLLM 0.26 and llama.cpp's server print them.
VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="/models/bf16"} 3.0
vllm:num_requests_waiting{engine="0",model_name="/models/bf16"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="/models/bf16"} 0.25
vllm:num_preemptions_total{engine="0",model_name="/models/bf16"} 14.0
vllm:num_preemptions_created{engine="0",model_name="m"} 1.7952216634045901e+09
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 99.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 0.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 99.0
vllm:generation_tokens_total{engine="0",model_name="m"} 5760.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
"""
LLAMACPP = """# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 24
llamacpp:prompt_tokens_cached_total 6
llamacpp:tokens_predicted_total 20
llamacpp:tokens_predicted_seconds_total 0.001928
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
llamacpp:n_busy_slots_per_decode 1
"""


def test_vllms_series_that_matter_are_kept_without_the_models_path() -> None:
    assert {s.key: s.value for s in kept(VLLM)} == {
        'vllm:num_requests_running{engine="0"}': 3,
        'vllm:num_requests_waiting{engine="0"}': 1,
        'vllm:kv_cache_usage_perc{engine="0"}': 0.25,
        'vllm:num_preemptions_total{engine="0"}': 14,
        'vllm:prefix_cache_queries_total{engine="0"}': 99,
        'vllm:prefix_cache_hits_total{engine="0"}': 0,
        'vllm:prompt_tokens_total{engine="0"}': 99,
        'vllm:generation_tokens_total{engine="0"}': 5760,
    }


def test_the_old_name_of_kv_use_is_kept_too() -> None:
    (series,) = kept('vllm:gpu_cache_usage_perc{model_name="m"} 0.5\n')
    assert series.key == "vllm:gpu_cache_usage_perc"


def test_llamacpps_series_are_kept() -> None:
    assert {s.key: s.value for s in kept(LLAMACPP)} == {
        "llamacpp:prompt_tokens_total": 24,
        "llamacpp:prompt_tokens_cached_total": 6,
        "llamacpp:tokens_predicted_total": 20,
        "llamacpp:requests_processing": 2,
        "llamacpp:requests_deferred": 1,
        "llamacpp:n_busy_slots_per_decode": 1,
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a 1", ("a", {}, 1.0)),
        ("a 1 1395066363000", ("a", {}, 1.0)),
        ('a{b="c d"} 1e3', ("a", {"b": "c d"}, 1000.0)),
        (r'a{b="q\"} 9",c="x\\"} +Inf', ("a", {"b": 'q"} 9', "c": "x\\"}, float("inf"))),
        ('a{b="one\\ntwo",} 2', ("a", {"b": "one\ntwo"}, 2.0)),
    ],
)
def test_text_format(line: str, expected: tuple[str, dict[str, str], float]) -> None:
    (series,) = parse(line)
    assert tuple(series) == expected


@pytest.mark.parametrize("line", ["", "# a comment", "a", "a x", "<html>", "a{b} "])
def test_what_is_no_series_is_passed_over(line: str) -> None:
    assert list(parse(line)) == []


def test_not_a_number_and_infinity_are_not_kept() -> None:
    assert kept("vllm:kv_cache_usage_perc NaN\nvllm:num_requests_running +Inf\n") == []


@pytest.fixture
async def engine() -> AsyncIterator[str]:
    """Answers every second scrape with an error, as an engine under load may."""
    turn = itertools.count()

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=VLLM) if next(turn) % 2 == 0 else web.Response(status=503)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    await runner.cleanup()


async def test_the_scraper_appends_rows_and_goes_on_after_a_failure(engine: str) -> None:
    rows: list[EngineMetricRow] = []
    async with MetricsScraper(engine, rows.append, variant="awq", start=2, clock=lambda: 7.0, hz=50) as scraper:
        while scraper.scrapes < 2:
            await asyncio.sleep(0.01)
    assert scraper.failures >= 1
    assert len(rows) == 8 * scraper.scrapes
    assert {(r.t_s, r.variant, r.start) for r in rows} == {(7.0, "awq", 2)}
    assert scraper.last['vllm:num_requests_running{engine="0"}'] == 3
    await scraper.stop()


async def test_an_engine_that_is_gone_is_counted_not_raised() -> None:
    rows: list[EngineMetricRow] = []
    async with MetricsScraper("http://127.0.0.1:9/metrics", rows.append, variant="a", start=1, hz=50) as scraper:
        while scraper.failures < 2:
            await asyncio.sleep(0.01)
    assert rows == []


async def test_a_failure_to_append_is_raised_at_the_end(engine: str) -> None:
    def full(_row: EngineMetricRow) -> None:
        raise OSError("no space left on device")

    scraper = await MetricsScraper(engine, full, variant="a", start=1, hz=50).__aenter__()
    while scraper.scrapes < 1:
        await asyncio.sleep(0.01)
    with pytest.raises(OSError, match="no space"):
        await scraper.stop()
