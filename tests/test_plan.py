import json
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from collector import gpus, shapes, study
from collector.bundle.planned import Estimate, Plan, TimeLine, VariantPlan
from collector.cli import main
from collector.errors import QuantcaseError, UsageFault
from collector.plan import for_profile, gates, plan
from collector.plan_page import GROUP, check, write
from collector.plan_quality import asked
from collector.plan_table import plan_table
from collector.quality import exact, long_context
from collector.stress import ladders
from collector.study import LoadTest, QualitySuite, Variant

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
    for name in ("rtx2000", "t4", "a100", "l4", "h200", "h200-shape", "h200-long-context", "gh200"):
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
    s = msgspec.structs.replace(s, workloads=[chat], starts=1, repeats=1, variants=[s.variant("bf16")], quality=[])
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


def parts(p: Plan) -> dict[str, TimeLine]:
    return {line.what: line for line in p.times}


def minutes_of(line: TimeLine) -> Estimate:
    assert line.minutes is not None
    return line.minutes


def on_h200(**changes: object) -> Plan:
    """One variant, one start, one repeat of the h200 study, and what is changed in it."""
    s = study.load("h200")
    small = {"variants": [s.variant("bf16")], "starts": 1, "repeats": 1, "quality": [], **changes}
    return plan(msgspec.structs.replace(s, **small), gpus.get("h200"))


def test_every_part_of_the_time_has_its_line_its_assumption_and_its_place_in_the_total() -> None:
    p = plan(study.load("h200"), gpus.get("h200"))
    suites = ["quality sanity", "quality exact", "quality long-context", "quality likelihood"]
    assert list(parts(p)) == ["server starts", "load points", *suites, "stress"]
    assert all(line.assumption for line in p.times)
    counted = sum((minutes_of(x) for x in p.times if x.counted), Estimate(0, 0, 0))
    assert p.minutes == counted
    assert not parts(p)["stress"].counted
    assert sum(v.minutes.mid for v in p.variants if v.minutes) == pytest.approx(counted.mid)
    assert p.notes[0] == "time leaves out downloads"


def test_the_stress_counts_when_it_is_asked_for() -> None:
    s, card = study.load("h200"), gpus.get("h200")
    without, within = plan(s, card), plan(s, card, stress=True)
    assert without.minutes is not None
    assert within.minutes is not None
    stress = minutes_of(parts(within)["stress"])
    assert within.minutes.high == pytest.approx(without.minutes.high + stress.high)
    assert "not in the total" in parts(without)["stress"].assumption
    inside = [x for ladder in ladders(s).values() for x in ladder if x.input_tokens <= s.context_tokens]
    assert f"{len(inside)} steps on two ladders" in parts(within)["stress"].assumption
    # No step is longer than ten minutes, and two further starts are the most.
    assert stress.high <= len(s.variants) * (10 * len(inside) + 2 * 5)


def test_the_load_test_takes_its_steps_once_a_variant_and_never_of_the_control() -> None:
    test = LoadTest(users_from=10, users_to=50, users_step=10, step_s=60)
    one = minutes_of(parts(on_h200(loadtest=test))["load test"])
    assert (one.low, one.mid, one.high) == pytest.approx((5 + 5 / 60, 5.25, 6))
    s = study.load("h200")
    pair = [s.variant("bf16"), msgspec.structs.replace(s.variant("bf16"), name="again")]
    both = on_h200(loadtest=test, variants=pair, control="again")
    assert minutes_of(parts(both)["load test"]) == one
    assert "load test" not in [x.what for x in by_name(both)["again"].times]


def test_quality_is_asked_twice_of_the_baseline_and_never_of_dummy_weights() -> None:
    exact_suite = [QualitySuite(kind="exact", items=100)]
    p = on_h200(quality=exact_suite)
    assert minutes_of(parts(p)["server starts"]).mid == pytest.approx(2 * 2)  # a second start for the second pass
    other = msgspec.structs.replace(study.load("h200").variant("bf16"), name="other")
    pair = on_h200(quality=exact_suite, variants=[*study.load("h200").variants[:1], other])
    base, rest = (
        minutes_of({x.what: x for x in v.times}["quality exact"]) for v in (pair.variants[0], pair.variants[1])
    )
    assert base.mid == pytest.approx(2 * rest.mid)
    dummy = on_h200(quality=exact_suite, weights="dummy")
    assert "quality exact" not in parts(dummy)
    assert "dummy weights" in dummy.notes[1]


def test_an_exact_suite_by_hand() -> None:
    """A quarter, half, all of the tokens that answers may hold, 16 at a time, each step at the middle speed about
    15 GB of weights over 80 % of 4.8 TB/s and 2 ms; a prefill reads the weights, too.
    """
    suite = QualitySuite(kind="exact", items=160)
    s = msgspec.structs.replace(study.load("h200"), quality=[suite])
    (known,) = asked(s)
    items = exact.items("exact", 160, s.seed)
    assert known.output_tokens == [i.output_tokens for i in items]
    assert sum(known.input_tokens) == pytest.approx(sum(len(i.prompt or "") for i in items) / 4, rel=0.02)
    step = 15.01e9 / (0.8 * 4.8e12) + 0.002
    seconds = 0.5 * sum(known.output_tokens) / 16 * step + 160 * step
    found = minutes_of(parts(on_h200(quality=[suite]))["quality exact"])
    assert found.mid == pytest.approx(2 * seconds / 60, rel=0.05)


def test_long_context_counts_as_many_questions_as_are_made() -> None:
    s = study.load("h200-long-context")
    suite = QualitySuite(kind="long-context", items=5, lengths=[1024, 4096, 99_999])
    (known,) = asked(msgspec.structs.replace(s, quality=[suite]))
    made = long_context.items("long-context", 5, s.seed, suite.lengths, s.context_tokens)
    assert len(known.input_tokens) == len(made) == 12
    assert sorted(known.input_tokens) == sorted(int(0.9 * (i.length_tokens or 0)) for i in made)
    assert known.output_tokens == [i.output_tokens for i in made]


def test_what_nobody_can_know_before_is_left_out_and_named(tmp_path: Path) -> None:
    suites = [
        QualitySuite(kind="lm-eval", tasks=["gsm8k"]),
        QualitySuite(kind="file", name="own", file=str(tmp_path / "none.jsonl")),
        QualitySuite(kind="exact", items=10),
    ]
    p = on_h200(quality=suites)
    assert p.minutes is not None
    assert parts(p)["quality lm-eval"].minutes is None
    assert "no file" in parts(p)["quality own"].assumption
    assert p.notes[0] == "time leaves out downloads, quality lm-eval, quality own"


def test_own_files_are_counted(tmp_path: Path) -> None:
    own, texts, table = (tmp_path / n for n in ("own.jsonl", "texts.jsonl", "labels.csv"))
    own.write_text("".join(json.dumps({"prompt": "x" * 400}) + "\n" for _ in range(7)))
    texts.write_text(json.dumps({"text": "y" * 4000}) + "\n\n" + json.dumps({"text": "z" * 40}) + "\n")
    table.write_text("text,label\ngood,yes\nbad,no\n")
    suites = [
        QualitySuite(kind="file", name="own", file=str(own), output_tokens=50),
        QualitySuite(kind="likelihood", file=str(texts), window_tokens=256),
        QualitySuite(kind="labels", file=str(table)),
        QualitySuite(kind="lm-eval", file=str(tmp_path)),
    ]
    mine, likely, labelled = asked(msgspec.structs.replace(study.load("h200"), quality=suites))
    assert (mine.input_tokens, mine.output_tokens) == ([100] * 7, [50] * 7)
    assert likely.input_tokens == [256, 10]
    assert len(labelled.input_tokens) == 2


def test_only_a_start_that_was_timed_has_a_number() -> None:
    s = study.load("h200")
    llamacpp = on_h200(engine=msgspec.structs.replace(s.engine, name="llamacpp"))
    assert parts(llamacpp)["server starts"].minutes is None
    assert "server starts" in llamacpp.notes[0]
    endpoint = on_h200(engine=msgspec.structs.replace(s.engine, name="endpoint", url="http://127.0.0.1:1"))
    assert minutes_of(parts(endpoint)["server starts"]).high == 0
    assert plan(study.load("cpu"), gpus.get("cpu")).minutes is None
    assert [x.what for x in plan(study.load("demo"), gpus.get("demo")).times] == ["server starts", "load points"]


def test_the_long_context_study_holds_its_prompts_and_asks_where_a_cache_loses() -> None:
    s = study.load("h200-long-context")
    assert [(w.name, w.input_tokens) for w in s.workloads] == [
        ("long-4k", 4096), ("long-8k", 8192), ("long-16k", 16384),
    ]  # fmt: skip
    assert len({tuple(w.concurrency) for w in s.workloads}) == 1  # the same loads: length alone differs
    assert all(w.input_tokens + w.output_tokens < 0.95 * s.context_tokens for w in s.workloads)
    assert [(v.name, v.method, v.kv_dtype) for v in s.variants] == [
        ("bf16", "none", "auto"), ("fp8", "fp8", "auto"), ("bf16-fp8kv", "none", "fp8"), ("fp8-fp8kv", "fp8", "fp8"),
    ]  # fmt: skip
    assert [q.lengths for q in s.quality if q.kind == "long-context"] == [[4096, 8192, 16384]]
    assert all(w.requests(load) * s.repeats * s.starts >= 100 for w, load in s.cells())  # a p95 everywhere
    assert s.price == study.load("h200").price
    p = plan(s, gpus.get("h200"))
    assert by_name(p)["bf16"].kv_tokens == 16 * (16384 + 128)
    longer = [plan(msgspec.structs.replace(s, workloads=[w], quality=[]), gpus.get("h200")) for w in s.workloads]
    mids = [x.minutes.mid for x in longer if x.minutes]
    assert mids == sorted(mids)


def page_package(folder: Path, target: str) -> None:
    """An installed package that brings plan pages, as its metadata lies on a disk."""
    info = folder / "planpage-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planpage\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nsite = {target}\n")


def test_a_page_is_made_by_whoever_brings_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page_package(tmp_path / "installed", "quantcase.pages.plan_file:write")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    out = tmp_path / "new" / "plan.md"
    main(["plan", "h200-long-context", "--gpu", "h200", "--page", str(out)])
    assert out.read_text().startswith("# Comparison plan: ")
    assert [p.name for p in out.parent.iterdir()] == ["plan.md"]
    with pytest.raises(QuantcaseError, match="is there already; give another name, or --force"):
        check(out, force=False)
    check(out, force=True)
    with pytest.raises(UsageFault, match="neither Markdown nor HTML"):
        check(tmp_path / "plan.pdf", force=True)


def test_without_the_site_the_page_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s, card = study.load("h200-long-context"), gpus.get("h200")
    made = plan(s, card)
    page_package(tmp_path / "installed", "a_site_that_is_not_here:write")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "installed"), *sys.path])
    with pytest.raises(QuantcaseError, match=r"a_site_that_is_not_here is missing.*quantcase\[site\]"):
        write(tmp_path / "plan.md", s, card, made)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(QuantcaseError, match="they are not installed"):
        write(tmp_path / "plan.md", s, card, made)
    assert not (tmp_path / "plan.md").exists()
