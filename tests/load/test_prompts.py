"""Prompts are repeatable, unique, and of the calibrated length."""

import itertools
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import UsageFault
from collector.load.prompts import Calibration, PromptMaker, load_jsonl
from collector.study import Workload
from tests.makers import study


def workload(**more: object) -> Workload:
    given = {"name": "w", "input_tokens": 400, "output_tokens": 50, "concurrency": [4], **more}
    return msgspec.convert(given, Workload)


def maker() -> PromptMaker:
    return PromptMaker(study(), Calibration(0.0, 1.0))


def test_words_are_what_they_always_were() -> None:
    """A bundle that is resumed by a newer collector must ask the same."""
    w = workload()
    made = maker().prompts(w, "c4", 3, 5, width=4)
    assert made == [maker().prompt(w, "c4", 3, i) for i in range(5)]
    assert str(made[0]).startswith("music make do different open add find lose game road")


def test_token_ids_are_exact_and_unique() -> None:
    w = workload(token_ids=True, api="completions")
    made = [p for n in (1, 2) for p in maker().prompts(w, "c4", n, 20)]
    assert {len(p) for p in made} == {400}
    assert len({tuple(p[:16]) for p in made}) == 40
    assert all(isinstance(i, int) and i >= 16 for p in made for i in p)


@pytest.mark.parametrize("ids", [False, True])
def test_a_shared_prefix_is_shared_by_its_group_alone_and_by_every_repeat(ids: bool) -> None:
    w = workload(prompts="shared_prefix", prefix_tokens=300, prefix_groups=2, token_ids=ids, api="completions")

    def units(prompt: object) -> list[object]:
        assert isinstance(prompt, str | list)
        return list(prompt.split() if isinstance(prompt, str) else prompt)

    made = [units(p) for n in (1, 2) for p in maker().prompts(w, "c4", n, 6)]
    assert {len(p) for p in made} == {400}
    even, odd = made[0::2], made[1::2]
    assert len({tuple(p[:300]) for p in even}) == len({tuple(p[:300]) for p in odd}) == 1
    assert even[0][:300] != odd[0][:300]
    assert len({tuple(p[300:320]) for p in made}) == len(made)


def test_conversations_grow_turn_by_turn_and_a_turn_waits_for_the_one_before() -> None:
    w = workload(prompts="multi_turn", turns=3)
    made = maker().prompts(w, "c4", 1, 24, width=4)
    for block in (made[:12], made[12:]):
        for talk in range(4):
            turns = block[talk::4]  # the same conversation, a width apart
            assert [len(t) for t in turns] == [1, 3, 5]
            for shorter, longer in itertools.pairwise(turns):
                assert longer[: len(shorter)] == shorter
            last = msgspec.convert(turns[-1], list[dict[str, str]])
            assert [m["role"] for m in last] == ["user", "assistant", "user", "assistant", "user"]
            length = sum(len(m["content"].split()) for m in last)
            assert length == pytest.approx(400, abs=4)
    first = [str(t[0]) for t in made if len(t) == 1]
    assert len(set(first)) == len(first)


def test_a_file_is_gone_through_set_by_set(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    lines = [{"prompt": f"question {i}"} for i in range(4)] + [{"messages": [{"role": "user", "content": "hello"}]}]
    file.write_text("\n\n".join(msgspec.json.encode(x).decode() for x in lines))
    w = workload(prompts="jsonl", prompts_file=str(file))
    m = maker()
    made = m.prompts(w, "c4", 1, 3) + m.prompts(w, "c4", 2, 3)
    assert made[:4] == [f"question {i}" for i in range(4)]
    assert made[4] == [{"role": "user", "content": "hello"}]
    assert made[5] == "question 0"
    assert "question 0" not in str(m.prompts(w, "c4", 0, 3, warmup=True))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "holds no prompt"),
        (b'{"prompt": "a"}\nnonsense', "line 2"),
        (b'{"text": "a"}', "line 1 has neither"),
        (b'{"prompt": "a", "messages": []}', "line 1 has neither or both"),
        (b'{"messages": [{"role": "user"}]}', "line 1"),
        (b'{"prompt": 5}', "line 1"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(text)
    with pytest.raises(UsageFault, match=words):
        load_jsonl(file)
    with pytest.raises(UsageFault, match="No such file"):
        load_jsonl(tmp_path / "none")


def test_a_long_context_is_made_quickly() -> None:
    begun = time.perf_counter()
    (prompt,) = maker().prompts(workload(input_tokens=16384), "c1", 1, 1)
    assert len(str(prompt).split()) == 16384
    assert time.perf_counter() - begun < 0.5


def test_the_same_study_gives_the_same_prompts_and_no_two_are_alike() -> None:
    s = study()
    made = [
        PromptMaker(s, Calibration()).prompt(w, c.name, repeat, i, warmup=warmup)
        for w, c in s.cells()
        for repeat in (1, 2)
        for i in range(w.requests(c))
        for warmup in (False, True)
    ]
    again = PromptMaker(s, Calibration()).prompt(s.workloads[0], "c1", 1, 0)
    assert made[0] == again
    assert len(set(made)) == len(made)
    # No shared beginning that a prefix cache of 16-token blocks could answer from.
    assert len({p[:60] for p in made}) == len(made)


@given(st.floats(0, 60), st.floats(0.2, 4), st.integers(80, 4000))
def test_calibration_finds_the_words_that_make_the_tokens(fixed: float, per_word: float, tokens: int) -> None:
    def count(words: int) -> int:
        return round(fixed + per_word * words)

    got = Calibration.of((16, count(16)), (400, count(400)))
    assert abs(count(got.words(tokens)) - tokens) <= max(3, 0.02 * tokens + per_word)
