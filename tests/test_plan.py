import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from collector import gpus, shapes, study
from collector.plan import Estimate, Plan, VariantPlan, for_profile, gates, plan, plan_table
from collector.study import Variant

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def by_name(p: Plan) -> dict[str, VariantPlan]:
    return {v.variant: v for v in p.variants}


def planned(name: str, card: str) -> dict[str, VariantPlan]:
    return by_name(plan(study.load(name), gpus.get(card)))


def llama() -> shapes.ModelShape:
    shape = shapes.find(LLAMA)
    assert shape is not None
    return shape


@pytest.mark.parametrize(
    ("method", "gb"),
    # 16.06 and 5.73 are the reference's; 9.08 is the size of RedHatAI's published w8a8 files.
    [("none", 16.06), ("awq", 5.73), ("w8a8-int8", 9.08), ("fp8", 9.08), ("gguf:Q8_0", 8.53)],
)
def test_weights_of_llama_8b(method: str, gb: float) -> None:
    size = llama().weight_bytes(method)
    assert size is not None
    assert size / 1e9 == pytest.approx(gb, abs=0.005)


def test_parameters_kv_and_streamed_bytes_of_llama_8b() -> None:
    shape = llama()
    assert shape.parameters == 8_030_261_248
    assert shape.kv_bytes_per_token() == 131_072
    assert shape.kv_bytes_per_token("fp8_e4m3") == 65_536
    assert shape.kv_bytes_per_token("turbo") is None
    assert shape.streamed_bytes("none") == pytest.approx(15.0e9, rel=0.001)
    assert shape.streamed_bytes("awq") == pytest.approx(4.7e9, rel=0.01)
    assert shape.weight_bytes("newest-method") is None
    assert shape.weight_bytes("newest-method", 4.0) is not None


def test_a_tied_embedding_counts_once() -> None:
    shape = shapes.find("Qwen/Qwen2.5-3B-Instruct")
    assert shape is not None
    assert shape.parameters == 3_085_938_688
    assert shape.streamed_bytes("none") == shape.weight_bytes("none")


def test_the_estimate_agrees_with_a_real_start(tmp_path: Path) -> None:
    """vLLM 0.26 on an H200, a Qwen2.5-7B shape, 8,192 context: 14.29 GiB of weights, 2,063,088 tokens in 110.18 GiB."""
    config = {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    base = study.load("h200-shape")
    one = msgspec.structs.replace(
        base,
        variants=[Variant(name="bf16", model=str(tmp_path))],
        engine=msgspec.structs.replace(base.engine, args=["--gpu-memory-utilization", "0.9"]),
    )
    (v,) = plan(one, gpus.get("h200")).variants
    assert v.weights_gib == pytest.approx(14.29, abs=0.15)  # parameters alone: 14.19
    assert v.kv_pool_gib == pytest.approx(110.18, rel=0.02)
    assert v.kv_pool_tokens == pytest.approx(2_063_088, rel=0.02)


def test_llama_8b_in_bf16_does_not_fit_16_gb_and_awq_does() -> None:
    found = planned("l4", "rtx2000")
    assert found["bf16"].verdict == "does not fit"
    assert "weights alone are 15.0 GiB" in found["bf16"].reason
    assert found["bf16"].minutes is None
    assert found["awq"].verdict == "fits"
    assert found["awq"].weights_gib == pytest.approx(5.73e9 / 1024**3, abs=0.01)


def test_a_heaviest_load_that_does_not_fit_is_tight() -> None:
    assert planned("l4", "l4")["bf16"].verdict == "tight"


def test_no_room_for_one_full_request_does_not_fit() -> None:
    s = msgspec.structs.replace(study.load("rtx2000"), context_tokens=400_000)
    assert "no room for one request of 400000 tokens" in by_name(plan(s, gpus.get("rtx2000")))["bf16"].reason


def test_kv_need_is_the_heaviest_load_point_in_whole_blocks() -> None:
    v = planned("h200", "h200")["bf16"]
    assert v.kv_gib == pytest.approx(32 * 1280 * 131_072 / 1024**3)
    assert planned("h200", "h200")["fp8-fp8kv"].kv_gib == pytest.approx(v.kv_gib / 2)  # type: ignore[operator]


def test_every_ready_gpu_study_fits_its_card() -> None:
    for name in ("rtx2000", "t4", "a100", "l4", "h200", "h200-shape", "gh200"):
        s = study.load(name)
        for v in plan(s, gpus.get(s.gpu)).variants:
            assert v.verdict in ("fits", "tight"), (name, v.variant, v.reason)


def test_the_drivers_memory_overrides_the_profiles() -> None:
    assert plan(study.load("rtx2000"), gpus.get("rtx2000"), memory_gib=4.0).variants[0].verdict == "does not fit"


def test_an_unknown_model_has_no_number() -> None:
    s = study.load("rtx2000")
    s = msgspec.structs.replace(
        s, base_model="who/knows", variants=[msgspec.structs.replace(s.variants[0], model="who/knows")]
    )
    p = plan(s, gpus.get("rtx2000"))
    (v,) = p.variants
    assert v.verdict == "unknown"
    assert v.reason == "cannot estimate, no shape for who/knows"
    assert (v.weights_gib, v.minimum_gib, v.minutes, p.minutes, p.cost_usd) == (None,) * 5


def test_experts_and_latent_attention_are_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_local_experts": 8, "hidden_size": 4096}))
    assert shapes.find(str(tmp_path), LLAMA) is None
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 4096}))
    assert shapes.find(str(tmp_path), LLAMA) is None


def test_time_and_cost_have_bounds_and_follow_the_price() -> None:
    p = plan(study.load("rtx2000"), gpus.get("rtx2000"))
    assert p.minutes is not None
    assert p.cost_usd is not None
    assert p.minutes.low < p.minutes.mid < p.minutes.high
    assert p.cost_usd.mid == pytest.approx(p.minutes.mid / 60 * 0.25)
    repeats = 3 * 2 * 2  # variants x starts x repeats
    assert (p.cells, p.requests) == (5 * repeats, (24 + 48 + 96 + 96 + 192) * repeats)


def test_decode_time_follows_the_reference() -> None:
    """H100, Llama-3.1-8B BF16, concurrency 1: 6.44 ms a token measured; ours lies around it."""
    s = study.load("h200")
    chat = msgspec.structs.replace(
        s.workloads[0], concurrency=[1], requests_per_stream=1000, input_tokens=1, warmup_requests=1
    )
    s = msgspec.structs.replace(s, workloads=[chat], starts=1, repeats=1, variants=[s.variant("bf16")])
    minutes = plan(s, gpus.get("h100")).variants[0].minutes
    assert minutes is not None
    tokens = 1001 * 129  # a prefill costs about one step
    per_token = [60_000 * (m - start / 60) / tokens for m, start in ((minutes.low, 40), (minutes.high, 300))]
    assert per_token[0] < 6.44 < per_token[1]


def test_another_card_brings_its_own_price_and_name() -> None:
    s = for_profile(study.load("h200"), gpus.get("h100"))
    assert s.gpu == "h100"
    assert s.price is not None
    assert s.price.usd_per_hour == 4.76
    assert for_profile(study.load("h200"), gpus.get("cpu")).price is None


@pytest.mark.parametrize(
    ("method", "card", "level"),
    [
        ("fp8", "a100", "slower"),
        ("fp8", "l4", None),
        ("w8a8-int8", "b200", "refused"),
        ("w8a8-int8", "a100", None),
        ("gptq", "h200", "info"),
        ("none", "t4", "info"),
        ("none", "l4", None),
        ("none", "cpu", None),
    ],
)
def test_gates(method: str, card: str, level: str | None) -> None:
    found = gates(Variant(name="v", model="m", method=method), gpus.get(card))
    assert [x for x, _ in found] == ([level] if level else [])


def test_int8_on_blackwell_is_unsupported() -> None:
    v = planned("h200", "b200")["w8a8-int8"]
    assert v.verdict == "unsupported"
    assert v.minutes is None


@pytest.mark.parametrize(("name", "card"), [("rtx2000", "rtx2000"), ("h200", "b200"), ("h200", "t4"), ("l4", "gh200")])
def test_the_table_fits_80_columns(name: str, card: str) -> None:
    console = Console(width=80, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as out:
        console.print(plan_table(plan(study.load(name), gpus.get(card))))
    lines = out.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert "requests" in out.get()


def test_estimates_add_up() -> None:
    assert Estimate(1, 2, 3) + Estimate(1, 1, 1).times(2) == Estimate(3, 4, 5)
