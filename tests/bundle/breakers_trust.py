"""What breaks the rules about comparability, sufficiency, the client, the machine and the grade (Q8xx to Q12xx)."""

from __future__ import annotations

import math

from msgspec.structs import replace

from collector.bundle.imported import DOCUMENT, TABLE, ImportedDocument, ImportedRow, PointCounts
from collector.bundle.schema import RequestRow
from collector.bundle.tables import header_line, row_line
from tests.bundle.breaking import Box, breaks, resent


@breaks("Q801")
def longer_prompts(box: Box) -> None:
    box.change(box.of("fp8"), input_tokens=lambda r: math.ceil(1.1 * r.input_tokens))


@breaks("Q802")
def a_load_point_that_one_lacks(box: Box) -> None:
    chat = replace(box.study.workloads[0], concurrency=[16, 32])
    box.study = replace(box.study, workloads=[chat])
    box.copy(box.of("bf16"), load="c32")


@breaks("Q803")
def no_baseline(box: Box) -> None:
    other = replace(box.study.variants[0], name="unmeasured")
    box.study = replace(box.study, variants=[*box.study.variants, other], baseline="unmeasured")
    box.save()


@breaks("Q804")
def another_engine(box: Box) -> None:
    box.variant("fp8", engine="llamacpp")


@breaks("Q805")
def another_version(box: Box) -> None:
    box.variant("fp8", engine_version="0.27.0")


@breaks("Q806")
def another_power_limit(box: Box) -> None:
    box.card(1, power_limit_w=500.0)


@breaks("Q807")
def another_driver(box: Box) -> None:
    box.card(1, driver="590.1")


@breaks("Q808")
def another_card(box: Box) -> None:
    box.card(1, uuid_sha256="another")


@breaks("Q809")
def another_torch(box: Box) -> None:
    box.session(1, software={"vllm": "0.27.0"})


@breaks("Q810")
def another_gpu(box: Box) -> None:
    box.environment.gpu_found = "NVIDIA A10"
    box.save()


@breaks("Q811")
def more_sequences(box: Box) -> None:
    box.variant("fp8", argv='["vllm", "serve", "model", "--max-num-seqs", "256"]')


@breaks("Q812")
def guesses_ahead(box: Box) -> None:
    box.variant("fp8", argv='["vllm", "serve", "model", "--speculative-config={}"]')


@breaks("Q813")
def prompts_from_the_cache(box: Box) -> None:
    box.client = [replace(c, engine_prefix_hit_tokens=20_000.0) for c in box.client]
    box.save()


@breaks("Q814")
def a_prompt_left_out(box: Box) -> None:
    box.answers.pop()
    box.save()


@breaks("Q815")
def not_applied(box: Box) -> None:
    box.variant("fp8", kernel_class="not_applied")


@breaks("Q816")
def twice_the_gpus(box: Box) -> None:
    box.variants = [replace(v, gpus=1 + (v.variant == "fp8")) for v in box.variants]
    box.save()


@breaks("Q817")
def one_repeat_in_company(box: Box) -> None:
    box.cells[0] = replace(box.cells[0], co_located=1)
    box.save()


def keep(box: Box, n: int, repeats: tuple[int, ...] = (1, 2, 3)) -> None:
    """Only the first n requests of some repeats of fp8."""
    kept = [r for r in box.requests if r.variant != "fp8" or (r.repeat in repeats and r.index < n)]
    box.requests = kept
    box.save(settle=True)


@breaks("Q901", "Q902")  # so few are too few for a p99, too
def few_requests(box: Box) -> None:
    keep(box, 20)


@breaks("Q902")
def not_enough_requests(box: Box) -> None:
    keep(box, 112)


@breaks("Q903", "Q902")  # one repeat has a third of the requests
def one_repeat(box: Box) -> None:
    keep(box, 128, (1,))


@breaks("Q904")
def failed_requests(box: Box) -> None:
    failed = {"ttft_ms": None, "tpot_ms": None, "e2e_ms": None, "first_chunk_ms": None, "output_tokens": None}
    box.change([r for r in box.of("fp8") if r.index in (40, 41)], **failed, chunks=0, status="error", error="made up")


def slower(box: Box, by: float, per_request: float) -> None:
    """The second repeat of bf16, slower from the start by a share, and by so many ms more with each request."""

    def later(r: RequestRow) -> RequestRow:
        e2e = (r.e2e_ms or 0) * (1 + by) + per_request * r.index
        return replace(r, e2e_ms=round(e2e, 3), tpot_ms=(round(e2e, 3) - (r.ttft_ms or 0)) / 127)

    rows = resent([later(r) for r in box.of("bf16", 2)])
    box.requests = [r for r in box.requests if (r.variant, r.repeat) != ("bf16", 2)] + rows
    box.save(settle=True)


@breaks("Q905")
def ever_slower(box: Box) -> None:
    slower(box, 0.0, 1.2)


@breaks("Q906")
def one_slow_repeat(box: Box) -> None:
    slower(box, 0.3, 0.0)


@breaks("Q1001")
def a_busy_client(box: Box) -> None:
    box.seen(0, cpu_pct=97.0, client_limited=True, limited_by="97 % of a core used")


@breaks("Q1002")
def a_late_client(box: Box) -> None:
    box.seen(0, loop_lag_ms_p99=4.9)


@breaks("Q1003")
def a_silent_client(box: Box) -> None:
    box.client.pop()
    box.save()


@breaks("Q1004")
def another_client(box: Box) -> None:
    box.seen(0, engine_tokens=1.1 * (box.client[0].usage_tokens or 0))


@breaks("Q1005")
def two_tokens_a_chunk(box: Box) -> None:
    box.seen(0, tokens_per_chunk=2.0)


@breaks("Q1101")
def a_hot_card(box: Box) -> None:
    box.sample(3, throttle_reasons="sw_power_cap|hw_thermal_slowdown")


def with_fp8(box: Box, **more: object) -> None:
    """Telemetry of the second half, while fp8 was served, but for some fields."""
    half = len(box.telemetry) // 2
    box.telemetry[half:] = [replace(s, **more) for s in box.telemetry[half:]]
    box.save()


@breaks("Q1102")
def a_slow_clock(box: Box) -> None:
    with_fp8(box, sm_clock_mhz=1500.0)


@breaks("Q1103")
def a_power_cap(box: Box) -> None:
    with_fp8(box, throttle_reasons="sw_power_cap")


@breaks("Q1104")
def a_neighbour(box: Box) -> None:
    box.variant("fp8", vram_idle_mib=9000.0)


@breaks("Q1105")
def a_clock_that_was_set(box: Box) -> None:
    box.session(1, monotonic_s=box.environment.sessions[1].monotonic_s + 5)


@breaks("Q1106")
def a_session_before_the_first(box: Box) -> None:
    first = box.environment.sessions[0]
    box.session(1, wall_unix_s=first.wall_unix_s - 0.5, monotonic_s=first.monotonic_s - 0.5)


@breaks("Q1201")
def a_replay_that_claims(box: Box) -> None:
    box.variants = [replace(v, engine="replay") for v in box.variants]
    box.save()


@breaks("Q1202")
def published_without_a_source(box: Box) -> None:
    box.text("published.csv", "model,source\nModel,\n")
    box.seal(grade="published")


@breaks("Q1203")
def no_machine(box: Box) -> None:
    box.environment.sessions = []
    box.save()


@breaks("Q1204")
def answers_of_dummy_weights(box: Box) -> None:
    box.study = replace(box.study, weights="dummy")
    box.write()
    box.seal(weights="dummy")


@breaks("Q1205")
def figures_without_a_document(box: Box) -> None:
    row = ImportedRow(
        variant="fp8", workload="chat", load="c16", repeat=1, metric="tool.x", statistic="mean", value=1.0, unit="ms",
        definition="as the tool says", tool="tool 1.0",
    )  # fmt: skip
    box.text(TABLE, header_line(ImportedRow) + row_line(row))
    box.seal()


@breaks("Q1206")
def a_tool_whose_requests_failed(box: Box) -> None:
    point = PointCounts(variant="fp8", workload="chat", load="c16", repeat=1, requests=100, ok=80, failed=20)
    box.json(DOCUMENT, ImportedDocument(sources=[], points=[point]))
    box.seal()


@breaks("Q1207")
def a_tool_of_which_most_requests_failed(box: Box) -> None:
    point = PointCounts(variant="fp8", workload="chat", load="c16", repeat=1, requests=80, ok=7, failed=73)
    box.json(DOCUMENT, ImportedDocument(sources=[], points=[point]))
    box.seal()
