"""The items: the same bytes from the same seed, references worked out again by other means, files read or refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.bundle.answers import QualityItem
from collector.errors import UsageFault
from collector.quality import exact, intents, labels, likelihood, long_context, suites, texts
from collector.quality.ask import Asker
from collector.quality.items import as_completion, item
from collector.quality.scorers import Criterion, score
from collector.study import QualitySuite, Study
from tests.makers import study as made_study

ITEMS = exact.items("exact", 1000, 1)


def of_task(task: str) -> list[QualityItem]:
    return [i for i in ITEMS if i.task == task]


def said(i: QualityItem) -> str:
    assert i.prompt is not None
    return i.prompt


def numbers_in(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def study(*quality: QualitySuite, context_tokens: int = 4096, seed: int = 1) -> Study:
    return msgspec.structs.replace(made_study(), quality=list(quality), context_tokens=context_tokens, seed=seed)


@contextlib.asynccontextmanager
async def asker(tokens_per_word: float = 1.5, *, usage: bool = True, spells: bool = True) -> AsyncIterator[Asker]:
    """A server that counts words, and spells a text as the lengths of its words."""

    async def chat(request: web.Request) -> web.Response:
        text = (await request.json())["messages"][0]["content"]
        count = 11 + round(len(text.split()) * tokens_per_word)
        return web.json_response(
            {"choices": [{"message": {"content": "Hi"}}]} | ({"usage": {"prompt_tokens": count}} if usage else {})
        )

    async def tokenize(request: web.Request) -> web.Response:
        body = await request.json()
        assert body["prompt"] == body["content"]
        return web.json_response({"tokens": [len(w) for w in body["prompt"].split()]}, status=200 if spells else 404)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/tokenize", tokenize)
    async with TestServer(app) as server, Asker(str(server.make_url("/")), "m") as one:
        yield one


async def built(suite: QualitySuite, **settings: Any) -> list[QualityItem]:
    async with asker() as one:
        return await suites.build(suite, study(suite, **settings), one)


def written(path: Path, body: str | bytes) -> Path:
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return path


# Seeds


def test_the_items_of_seed_1_are_these_to_the_byte() -> None:
    """Whoever changes a pattern changes this on purpose: bundles made before are then no longer comparable."""
    everything = {
        "exact": exact.items("exact", 40, 1),
        "labels": labels.items("labels", labels.generated(40, 1)),
        "texts": [item("t", d, 0, texts.document(d, 0, 1), output_tokens=1) for d in texts.DOMAINS],
    }
    asked = {name: [(i.prompt_id, i.prompt_sha256, i.reference) for i in made] for name, made in everything.items()}
    digests = {name: hashlib.sha256(msgspec.json.encode(rows)).hexdigest()[:16] for name, rows in asked.items()}
    assert digests == {"exact": "d1afa72005a0c636", "labels": "40aec476876cd110", "texts": "b068e786cfe5f5c7"}


GENERATORS: dict[str, Callable[[int, int], list[QualityItem]]] = {
    "exact": lambda count, seed: exact.items("s", count, seed),
    "labels": lambda count, seed: labels.items("s", intents.texts(count, seed)),
    "long-context": lambda count, seed: long_context.items("s", count, seed, [512], 512),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_same_seed_gives_the_same_items_and_another_seed_others(name: str) -> None:
    make = GENERATORS[name]
    assert make(40, 5) == make(40, 5)
    assert {i.prompt_sha256 for i in make(40, 5)} != {i.prompt_sha256 for i in make(40, 6)}


@pytest.mark.parametrize("name", ["exact", "labels"])
@given(st.integers(25, 60), st.integers(0, 60), st.integers(0, 9))
@settings(max_examples=15)
def test_the_first_n_of_more_are_the_same_as_n_alone(name: str, n: int, more: int, seed: int) -> None:
    assert GENERATORS[name](n + more, seed)[:n] == GENERATORS[name](n, seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_prompt_and_no_id_stands_twice_in_1000_items(seed: int) -> None:
    made = exact.items("exact", 1000, seed)
    assert (
        len({said(i) for i in made}) == len({i.prompt_id for i in made}) == len({i.prompt_sha256 for i in made}) == 1000
    )
    assert set(Counter(i.task for i in made).values()) == {125}


def test_a_task_that_has_nothing_new_to_ask_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def coin(r: random.Random) -> tuple[str, str, str, int]:
        return r.choice(["Heads?", "Tails?"]), "yes", "text", 4

    monkeypatch.setattr(exact, "TASKS", {"coin": coin, "arithmetic": exact.TASKS["arithmetic"]})
    made = exact.items("s", 12, 1)
    assert len({said(i) for i in made}) == 12
    assert Counter(i.task for i in made) == {"coin": 2, "arithmetic": 10}


def test_a_longer_document_begins_with_the_shorter_one() -> None:
    for domain in texts.DOMAINS:
        assert texts.document(domain, 3, 1, sentences=20).startswith(texts.document(domain, 3, 1, sentences=9))
        assert texts.document(domain, 3, 1) != texts.document(domain, 4, 1) != texts.document(domain, 4, 2)


def test_the_hash_is_that_of_the_whole_conversation() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    made = [item("s", "t", 0, p, output_tokens=1) for p in ("a", "b", turns, turns[:1])]
    assert len({i.prompt_sha256 for i in made}) == 3  # one turn as text or as messages is the same prompt
    assert as_completion(made[0]).prompt_sha256 != made[0].prompt_sha256


# Sanity


async def test_sanity_has_forty_prompts_eight_of_each_kind_with_criteria_that_can_be_met() -> None:
    made = await built(QualitySuite(kind="sanity"))
    kinds = dict.fromkeys(["factual", "explanation", "reasoning", "code", "summarization"], 8)
    assert Counter(i.task for i in made) == kinds
    assert len({said(i) for i in made}) == 40
    for i in made:
        wanted = msgspec.json.decode(i.reference or "", type=Criterion)
        assert wanted != Criterion()
        re.compile(wanted.pattern)
        assert not (wanted.most_words and wanted.most_words < wanted.least_words)
        assert (
            score(
                "criterion", "I do not know, and I shall not say more than that to anybody at all.", i.reference or ""
            ).score
            == 0
        )
        if not wanted.pattern:
            words = [group[0] for group in wanted.all_of]
            filled = words + ["so"] * (wanted.least_words - len(" ".join(words).split()))
            assert score("criterion", " ".join(filled), i.reference or "").score == 1


# Long context


@pytest.mark.parametrize("rate", [1.0, 1.4, 2.0, 3.5, 5.0])
@pytest.mark.parametrize("context", [512, 1024, 4096, 16384])
def test_prompt_and_answer_stay_within_their_length_and_fill_most_of_it(rate: float, context: int) -> None:
    for i in long_context.items("s", 5, 1, [context], context, rate):
        text = i.prompt or " ".join(m["content"] for m in i.messages or [])
        used = len(text.split()) * rate + i.output_tokens
        assert used <= context
        assert used > (0.6 if context >= 4096 else 0.0) * context


def test_the_needle_stands_once_and_at_places_all_over_the_text() -> None:
    places = []
    for i in long_context.items("s", 40, 1, [4096], 4096):
        if i.task == "needle-4096":
            assert len(re.findall(rf"\b{i.reference}\b", said(i))) == 1
            assert said(i).count("The secret number of ") == 1
            places.append(said(i).index("The secret number of ") / len(said(i)))
    assert len(places) == 40
    assert min(places) < 0.2 < 0.8 < max(places)


def test_a_conversation_tells_the_fact_in_its_first_turn_and_asks_in_its_last() -> None:
    made = [i for i in long_context.items("s", 50, 1, [1024], 1024) if i.task == "turns-1024"]
    assert len(made) == 10
    for i in made:
        turns = i.messages or []
        assert [t["role"] for t in turns] == ["user", "assistant", "user", "assistant", "user"]
        assert score("contains", turns[0]["content"], i.reference or "").score == 1
        assert score("contains", turns[-1]["content"], i.reference or "").score == 0


def test_lengths_are_all_that_fit_and_the_context_itself() -> None:
    assert long_context.lengths(131072) == [4096, 8192, 16384, 32768, 65536, 131072]
    assert long_context.lengths(10000) == [4096, 8192, 10000]
    assert long_context.lengths(4096) == [1024, 2048, 4096]
    assert long_context.lengths(512) == [128, 256, 512]


async def test_how_long_words_are_is_asked_of_the_server() -> None:
    suite = QualitySuite(kind="long-context", items=2, lengths=[512, 1024, 99999])
    words: dict[float | None, int] = {}
    for rate in (1.0, 3.0):
        async with asker(rate) as one:
            made = await suites.build(suite, study(suite, context_tokens=1024), one)
        assert [i.length_tokens for i in made] == [512] * 3 + [1024] * 3
        words[rate] = len(said(made[3]).split())
    async with asker(usage=False) as one:
        words[None] = len(said((await suites.build(suite, study(suite, context_tokens=1024), one))[3]).split())
    guessed = long_context.items("s", 2, 1, [1024], 1024, long_context.TOKENS_PER_WORD)
    assert words[1.0] > words[None] > words[3.0]
    assert words[None] == len(said(guessed[0]).split())


# Likelihood


async def test_likelihood_texts_are_the_ids_of_the_first_server_cut_to_the_window() -> None:
    made = await built(QualitySuite(kind="likelihood", items=6, window_tokens=50))
    assert [i.task for i in made] == ["prose", "code", "chat"] * 2
    for i in made:
        assert i.token_ids == [len(w) for w in said(i).split()][:50]
    assert all(
        len(i.token_ids or []) == 19 for i in await built(QualitySuite(kind="likelihood", items=3), context_tokens=20)
    )


async def test_a_server_that_spells_nothing_leaves_the_texts_without_ids() -> None:
    suite = QualitySuite(kind="likelihood", items=2)
    async with asker(spells=False) as one:
        assert [i.token_ids for i in await suites.build(suite, study(suite), one)] == [[], []]
        assert await likelihood.spell(one, "x", timeout_s=5) == (None, "HTTP 404: {'tokens': [1]}")


async def test_likelihood_reads_a_persons_own_texts_and_leaves_out_what_is_too_short(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", '{"text": "a bb ccc", "domain": "law"}\n{"text": "one"}\n{"text": "a a"}\n')
    made = await built(QualitySuite(kind="likelihood", file=str(path)))
    assert [(i.task, i.token_ids) for i in made] == [("law", [1, 2, 3]), ("text", [1, 1])]
    written(path, '{"text": "a b"}\n\n{"txt": "a"}\n')
    with pytest.raises(UsageFault, match=r"^t\.jsonl cannot be read: line 3 is no object with `text`; one JSON object"):
        suites.check(study(QualitySuite(kind="likelihood", file=str(path))))


# A person's own suite


async def test_a_persons_own_suite(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"prompt": "1 + 1?", "reference": 2, "scorer": "number", "task": "sums", "document": "d"},
        {"messages": [{"role": "system", "content": "Be short."}], "reference": "yes"},
        {"prompt": "Who?", "scorer": "json", "reference": {"a": [1]}},
        {"prompt": "Why?", "scorer": "criterion", "criterion": {"all_of": [["sun"]]}},
        {"prompt": "Write a poem.", "scorer": ""},
    ]
    path = written(tmp_path / "own.jsonl", "\ufeff" + "\n\n".join(json.dumps(line) for line in lines))
    suite = QualitySuite(kind="file", name="mine", file=str(path), scorer="text", output_tokens=9)
    suites.check(study(suite))
    made = await built(suite)
    assert [i.scorer for i in made] == ["number", "text", "json", "criterion", ""]
    assert [i.reference for i in made] == ["2", "yes", '{"a": [1]}', '{"all_of": [["sun"]]}', None]
    assert [i.prompt_id for i in made] == ["mine/sums/0", *(f"mine/mine/{n}" for n in range(1, 5))]
    assert (made[0].document, made[1].document, made[1].prompt) == ("d", None, None)
    assert made[1].messages == lines[1]["messages"]
    assert {i.output_tokens for i in made} == {9}
    assert len(await built(msgspec.structs.replace(suite, items=2))) == 2


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "own.jsonl is empty; "),
        ("{", "own.jsonl cannot be read: line 1: "),
        ('{"prompt": "x"}\n\nx', "own.jsonl cannot be read: line 3: "),
        ("[1]", "own.jsonl cannot be read: line 1 is no object; "),
        ("[" * 100_000, "own.jsonl cannot be read: line 1: maximum recursion depth"),
        ('{"prompt": "\\ud800"}', "own.jsonl cannot be read: line 1: "),
        (b'{"prompt": "\xff"}', "own.jsonl is not UTF-8 text; "),
        ('{"prompt": "x"}\n\n{"question": "x"}', "own.jsonl line 3 has neither prompt nor messages; "),
        ('{"prompt": 5}', "own.jsonl line 1 has neither prompt nor messages; "),
        ('{"prompt": "x", "scorer": "bleu", "reference": "x"}', "own.jsonl line 1 names the scorer bleu; scorers: "),
        ('{"prompt": "x", "scorer": "text"}', "own.jsonl line 1 has a scorer and no reference; scorers: "),
        ('{"prompt": "x", "scorer": "number", "reference": "two"}', "own.jsonl line 1: the reference is none for"),
        ('{"prompt": "x", "scorer": "number", "reference": "nan"}', "own.jsonl line 1: the reference is none for"),
        ('{"prompt": "x", "scorer": "json", "reference": "{"}', "own.jsonl line 1: the reference is none for"),
        ('{"prompt": "x", "scorer": "json", "reference": 5}', "own.jsonl line 1: the reference is none for"),
        ('{"prompt": "x", "scorer": "text", "reference": " "}', "own.jsonl line 1: the reference is none for"),
        ('{"prompt": "x", "scorer": "criterion", "criterion": {"any": []}}', "own.jsonl line 1: the reference is none"),
        ('{"prompt": "x", "scorer": "criterion", "criterion": {"pattern": "("}}', "own.jsonl line 1: the reference"),
        (
            json.dumps({"prompt": "x", "scorer": "json", "reference": "[" * 100_000}),
            "own.jsonl line 1: the reference is none for the scorer json: maximum recursion depth",
        ),
    ],
)  # fmt: skip
def test_a_wrong_suite_of_ones_own_is_told_in_one_line(tmp_path: Path, body: str | bytes, problem: str) -> None:
    path = written(tmp_path / "own.jsonl", body)
    with pytest.raises(UsageFault) as fault:
        suites.check(study(QualitySuite(kind="file", file=str(path))))
    assert str(fault.value).startswith(problem)
    assert "\n" not in str(fault.value)
    assert fault.value.fix


async def test_what_is_left_out_is_the_usual_number() -> None:
    assert len(await built(QualitySuite(kind="exact"))) == 1000
    assert len(await built(QualitySuite(kind="labels"))) == 500
    assert await built(QualitySuite(kind="lm-eval", tasks=["gsm8k"])) == []


async def test_a_base_model_is_asked_by_texts_that_end_where_the_answer_begins() -> None:
    suite = QualitySuite(kind="exact", items=8, api="completions")
    made, chat = await built(suite), await built(QualitySuite(kind="exact", items=8))
    assert {i.api for i in made} == {"completions"}
    assert all(i.prompt == f"{c.prompt}\nAnswer:" for i, c in zip(made, chat, strict=True))
    assert [i.reference for i in made] == [c.reference for c in chat]
    assert not {i.prompt_sha256 for i in made} & {c.prompt_sha256 for c in chat}


def test_a_conversation_becomes_one_text_for_a_base_model() -> None:
    turns = [{"role": "user", "content": "I live in Rome."}, {"role": "assistant", "content": "Good."}]
    flat = as_completion(item("s", "t", 0, turns, reference="Rome", scorer="contains", output_tokens=8))
    assert (flat.prompt, flat.messages) == ("user: I live in Rome.\nassistant: Good.\nAnswer:", None)
