"""Studies: TOML in, typed objects out, errors that name the file, the key and what was expected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import UsageFault
from collector.study import Load, dumps, load, loads, ready_studies
from tests.makers import STUDY

GOOD = STUDY.format(weights="real")


def fault(text: str) -> str:
    with pytest.raises(UsageFault) as e:
        loads(text, "mine.toml")
    assert e.value.exit_code == 2
    assert "\n" not in str(e.value)
    return str(e.value)


def test_what_the_file_leaves_out_stands_in_the_object_and_in_the_dump() -> None:
    study = loads(GOOD)
    assert study.workload("chat").requests(Load.closed(16)) == 96
    assert study.workload("chat").requests(Load.closed(1)) == 24
    assert "seed = 1" in dumps(study)
    assert loads(dumps(study)) == study


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("repeats = 3", "repeat = 3", "mine.toml: unknown key `repeat`; did you mean `repeats`?"),
        ("concurrency = [1, 8, 16]", "concurency = [1]", "`workloads[0].concurency`; did you mean `concurrency`?"),
        ("repeats = 3", 'repeats = "three"', "key `repeats`: expected `int`, got `str`"),
        ("repeats = 3", "repeats = 0", "key `repeats`: expected `int` >= 1"),
        ('name = "vllm"', 'name = "vlm"', "key `engine.name`: invalid enum value 'vlm'"),
        ('baseline = "bf16"', "", "key `baseline` is missing"),
        ('baseline = "bf16"', 'baseline = "fp16"', "no variant is named fp16; variants: bf16, fp8, awq, bf16-fp8kv"),
        ('name = "awq"', 'name = "fp8"', "two variants are named fp8"),
        ('name = "awq"', 'name = "../awq"', "key `variants[2].name`"),
        ("concurrency = [16, 32]", "concurrency = [16, 16]", "names a concurrency twice"),
        ("input_tokens = 1024", "input_tokens = 4000", "needs 4256 tokens, context_tokens is 4096"),
        ("repeats = 3", "repeats = [", "mine.toml is not valid TOML"),
        ("usd_per_hour = 3.59", "usd_per_hour = -1", "key `price.usd_per_hour`: expected `float` > 0"),
    ],
)
def test_faults_name_the_file_the_key_and_what_was_expected(old: str, new: str, says: str) -> None:
    assert old in GOOD
    assert says in fault(GOOD.replace(old, new, 1))


def test_a_missing_study_names_what_is_near_or_there() -> None:
    with pytest.raises(UsageFault, match="did you mean rtx2000"):
        load("rtx200")
    with pytest.raises(UsageFault, match="ready studies: "):
        load("something else")


@pytest.mark.parametrize("name", ready_studies())
def test_every_ready_study_loads_and_round_trips(name: str) -> None:
    study = load(name)
    assert study.id == name
    assert loads(dumps(study)) == study


@given(st.text(max_size=200))
def test_no_text_makes_it_fail_other_than_with_a_fault(text: str) -> None:
    try:
        loads(text)
    except UsageFault as e:
        assert "\n" not in e.problem  # noqa: PT017
