"""What breaks the rules about references, recomputation and physics (Q5xx to Q7xx)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from collector.bundle.answers import QualityRow
from collector.bundle.schema import EngineMetricRow
from collector.bundle.stress import StressRow, append_row
from tests.bundle.breaking import Box, breaks


@breaks("Q501")
def requests_of_a_ghost(box: Box) -> None:
    box.copy(box.of("fp8"), variant="ghost")


@breaks("Q502")
def requests_of_no_workload(box: Box) -> None:
    box.copy(box.of("fp8"), workload="ghost")


@breaks("Q503")
def requests_of_no_load(box: Box) -> None:
    box.copy(box.of("fp8"), load="c32")


@breaks("Q504")
def requests_of_no_start(box: Box) -> None:
    box.copy(box.of("fp8"), start=2)


@breaks("Q505")
def a_request_twice(box: Box) -> None:
    box.change(box.of("fp8", 3)[5:6], index=4)


@breaks("Q506")
def a_start_of_a_ghost(box: Box) -> None:
    box.variants.append(replace(box.variants[1], variant="ghost"))
    box.save()


@breaks("Q507")
def a_cell_twice(box: Box) -> None:
    box.cells.append(box.cells[0])
    box.save()


@breaks("Q508")
def a_cell_without_requests(box: Box) -> None:
    box.cells.append(replace(box.cells[0], repeat=4))
    box.save()


@breaks("Q509")
def requests_without_a_cell(box: Box) -> None:
    box.copy(box.of("fp8", 3), repeat=4)
    box.cells = [c for c in box.cells if c.repeat != 4]
    box.save()


@breaks("Q510")
def gaps_of_nothing(box: Box) -> None:
    box.gaps.append(replace(box.gaps[0], repeat=9))
    box.save()


@breaks("Q511")
def a_client_of_nothing(box: Box) -> None:
    box.client.append(replace(box.client[0], repeat=9))
    box.save()


@breaks("Q512")
def a_card_nobody_named(box: Box) -> None:
    box.sample(-1, gpu=7)


@breaks("Q513")
def a_scrape_of_a_ghost(box: Box) -> None:
    box.engine_metrics.append(EngineMetricRow(t_s=1.0, variant="ghost", start=1, series="x", value=1.0))
    box.save()


@breaks("Q514")
def a_prompt_twice(box: Box) -> None:
    box.items.append(box.items[0])
    box.save()


@breaks("Q515")
def answers_of_a_ghost(box: Box) -> None:
    box.answers += [replace(a, variant="ghost") for a in box.answers if a.variant == "fp8"]
    box.save()


def answer(box: Box, **more: Any) -> QualityRow:
    """The first answer, but for some fields."""
    return replace(box.answers[0], **more)


@breaks("Q516")
def an_answer_to_nothing(box: Box) -> None:
    box.answers.append(answer(box, prompt_id="exact/dates/99"))
    box.save()


@breaks("Q517")
def an_answer_to_another_text(box: Box) -> None:
    box.answers[0] = answer(box, prompt_sha256="f" * 64)
    box.save()


@breaks("Q518")
def an_answer_twice(box: Box) -> None:
    box.answers.append(answer(box))
    box.save()


@breaks("Q519")
def a_mark_of_nothing(box: Box) -> None:
    box.text("marks.csv", "variant,prompt_id,mark,remark\nfp8,exact/dates/99,good,\n")
    box.seal()


@breaks("Q520")
def a_prediction_of_a_ghost(box: Box) -> None:
    box.change_json("predictions.json", lambda d: d["answers"].update(variant="ghost"))
    box.seal()


@breaks("Q521")
def a_stressed_ghost(box: Box) -> None:
    step: dict[str, Any] = {"variant": "ghost", "start": 1, "ladder": "context", "step": 1, "concurrency": 1}
    counts: dict[str, Any] = {"input_tokens": 9, "output_tokens": 9, "n": 1, "ok": 1, "errors": 0, "timeouts": 0}
    append_row(box.folder, StressRow(**step, **counts, verdict="good"))
    box.seal()


@breaks("Q522")
def a_gpu_that_is_not_on_the_box(box: Box) -> None:
    box.variant("fp8", gpus=1, tensor_parallel=1, gpu_indices="3")


@breaks("Q601")
def a_better_cell(box: Box) -> None:
    box.cells[0] = replace(box.cells[0], throughput_tok_s=1.01 * (box.cells[0].throughput_tok_s or 0))
    box.save()


@breaks("Q602")
def a_tpot_of_its_own(box: Box) -> None:
    box.change(box.of("fp8", 1)[:1], tpot_ms=lambda r: r.tpot_ms + 0.5)


@breaks("Q603")
def a_gap_more(box: Box) -> None:
    box.gaps[0] = replace(box.gaps[0], count=box.gaps[0].count + 1)
    box.save()


@breaks("Q604")
def a_limit_struck_out(box: Box) -> None:
    box.seen(0, cpu_pct=97.0)


@breaks("Q605")
def a_token_more(box: Box) -> None:
    box.seen(0, usage_tokens=(box.client[0].usage_tokens or 0) + 1)


@breaks("Q701")
def no_first_token(box: Box) -> None:
    box.change(box.of("fp8", 1)[:1], ttft_ms=None, tpot_ms=None, first_chunk_ms=None)


@breaks("Q702")
def before_it_was_sent(box: Box) -> None:
    box.change(box.of("fp8", 1)[:1], first_chunk_ms=-1.0)


@breaks("Q703")
def the_first_after_the_last(box: Box) -> None:
    box.change(box.of("fp8", 1)[:1], ttft_ms=lambda r: r.e2e_ms + 5)


@breaks("Q704")
def text_before_its_chunk(box: Box) -> None:
    box.change(box.of("fp8", 1)[:1], first_chunk_ms=lambda r: r.ttft_ms + 5)


@breaks("Q705")
def more_than_the_context(box: Box) -> None:
    box.change([box.of("bf16", 1)[0], box.of("fp8", 1)[0]], input_tokens=5000)


def tokens(box: Box, n: int) -> None:
    """One answer of n tokens in the time that it took."""
    box.change(box.of("fp8", 1)[:1], output_tokens=n, chunks=n, tpot_ms=lambda r: (r.e2e_ms - r.ttft_ms) / (n - 1))


@breaks("Q706")
def longer_than_asked(box: Box) -> None:
    tokens(box, 140)


@breaks("Q707")
def shorter_than_asked(box: Box) -> None:
    tokens(box, 100)


@breaks("Q708")
def faster_than_memory(box: Box) -> None:
    box.variant("bf16", weights_gib=100.0)


@breaks("Q709")
def faster_than_any_model(box: Box) -> None:
    box.variant("bf16", weights_gib=9000.0, vram_loaded_mib=None)


@breaks("Q710")
def more_arithmetic_than_the_card(box: Box) -> None:
    box.variant("fp8", bits=0.01)


@breaks("Q711")
def more_memory_than_the_card(box: Box) -> None:
    box.sample(3, vram_used_mib=150_000.0)


@breaks("Q712")
def outside_the_session(box: Box) -> None:
    box.session(0, minutes=1.0)


@breaks("Q713")
def one_more_at_once(box: Box) -> None:
    middle = box.of("fp8", 1)[60]
    box.copy([middle], index=999)


@breaks("Q714")
def a_score_of_seven(box: Box) -> None:
    box.answers[0] = answer(box, score=7.0)
    box.save()
