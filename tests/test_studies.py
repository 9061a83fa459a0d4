import pytest

from collector import gpus, study

READY = sorted(study.ready_studies())
OURS = ["a100", "gh200", "h200", "h200-pair", "h200-pair-70b", "h200-shape", "l4", "rtx2000", "t4"]


def points(s: study.Study) -> list[tuple[str, int, int]]:
    return [(w.name, c.concurrency or 0, w.output_tokens) for w, c in s.cells()]


@pytest.mark.parametrize("name", READY)
def test_a_ready_study_loads_and_survives_the_round_trip(name: str) -> None:
    s = study.load(name)
    assert s.id == name
    assert study.loads(study.dumps(s)) == s
    assert s.baseline in [v.name for v in s.variants]


@pytest.mark.parametrize("name", OURS)
def test_a_gpu_study_has_a_card_a_dated_price_and_next_steps(name: str) -> None:
    s = study.load(name)
    figure = gpus.get(s.gpu).price_usd_per_hour
    assert figure is not None
    assert s.price is not None
    assert s.price.usd_per_hour == figure.value  # one price for a card, wherever it stands
    assert s.price.date
    assert s.next_steps
    assert "--gpu-memory-utilization" in s.engine.args


@pytest.mark.parametrize("name", [n for n in OURS if not n.startswith("h200-pair")])
def test_every_variant_names_its_bits_and_each_runs_the_same_load(name: str) -> None:
    s = study.load(name)
    assert all(v.bits for v in s.variants)
    assert points(s) == [
        ("chat", 1, 128),
        ("chat", 8, 128),
        ("chat", 16, 128),
        ("batch", 16, 256),
        ("batch", 32, 256),
    ]


def test_the_pairs_run_fewer_load_points_because_their_servers_start_slowly() -> None:
    few = [study.load(n) for n in ("h200-pair", "h200-pair-70b")]
    assert all(v.bits for s in few for v in s.variants)
    assert points(few[0]) == [("chat", 1, 128), ("chat", 8, 128), ("chat", 16, 128), ("batch", 32, 256)]
    assert points(few[1]) == [("chat", 1, 128), ("chat", 16, 128), ("batch", 32, 256)]


def test_rtx2000_is_the_issues_study() -> None:
    s = study.load("rtx2000")
    assert [(v.name, v.model) for v in s.variants] == [
        ("bf16", "Qwen/Qwen2.5-3B-Instruct"),
        ("awq", "Qwen/Qwen2.5-3B-Instruct-AWQ"),
        ("gptq", "Qwen/Qwen2.5-3B-Instruct-GPTQ-Int4"),
    ]
    assert s.price is not None
    assert (s.price.usd_per_hour, s.price.source) == (0.25, "project brief")
    assert s.context_tokens == 4096
    assert [w.e2e_limit_ms for w in s.workloads] == [3000, 6000]
    for word in ("A100/H100", "FP8", "eval benchmark", "longer contexts"):
        assert any(word in step for step in s.next_steps)


def test_the_shape_study_asks_nothing_of_the_network_and_is_short() -> None:
    s = study.load("h200-shape")
    assert s.weights == "dummy"
    assert all(v.model.startswith("/tmp/models/") for v in s.variants)
    assert (s.prompts.kind, s.prompts.vocabulary) == ("id_words", 120000)
    assert s.engine.env == {"VLLM_USE_FLASHINFER_SAMPLER": "0", "HF_HUB_OFFLINE": "1"}
    assert s.engine.args[:2] == ["--load-format", "dummy"]
    assert [v.name for v in s.variants] == ["bf16", "fp8", "awq", "gptq", "w8a8-int8", "bf16-fp8kv"]
    assert s.variant("fp8").args == ["--quantization", "fp8"]
    assert s.variant("bf16-fp8kv").kv_dtype == "fp8"
    assert [w.requests(c) for w, c in s.cells()] == [12, 48, 96, 96, 192]


def test_no_format_is_asked_of_a_card_that_has_none_of_it() -> None:
    assert not any(v.method == "fp8" for v in study.load("a100").variants)
    assert not any(v.method == "w8a8-int8" for v in study.load("gh200").variants)
    assert "half" in study.load("t4").engine.args


def test_the_pairs_ask_whether_quantization_saves_a_gpu() -> None:
    for name in ("h200-pair", "h200-pair-70b"):
        s = study.load(name)
        assert s.variant(s.baseline).gpus == 2
        assert [(v.name, v.gpus) for v in s.variants] == [("bf16-two", 2), ("bf16", 1), ("fp8", 1), ("fp8-two", 2)]
