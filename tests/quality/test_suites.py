"""The items: the same bytes from the same seed, references worked out again by other means, files read or refused."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import itertools
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
from collector.quality.items import as_completion, item, read_object
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


# References, worked out again


def test_sums_are_right() -> None:
    for i in of_task("arithmetic"):
        asked = re.fullmatch(r"What is ([\d +*-]+)\? Reply with the number only\.", said(i))
        assert asked is not None
        assert eval(asked[1]) == int(i.reference or "")  # noqa: S307


def test_dates_are_right_by_the_calendar() -> None:
    for i in of_task("dates"):
        first, *last = [datetime.date.fromisoformat(d) for d in re.findall(r"\d{4}-\d\d-\d\d", said(i))]
        if last:
            assert last[0].toordinal() - first.toordinal() == int(i.reference or "")
        else:
            step = int(said(i).split()[3])
            assert datetime.date.fromordinal(first.toordinal() + step).isoformat() == i.reference


def test_what_is_extracted_stands_in_the_note() -> None:
    note = re.compile(
        r"Order (?P<number>\d+): (?P<name>\w+) from (?P<city>\w+) bought \d+ of the article (?P<article>\w+) "
        r"for (?P<price>\d+) dollars each and pays by card\.\nWhat is the (?P<what>.+)\? Reply with that only\."
    )
    kinds = {"customer's name": "name", "order number": "number", "price of one article in dollars": "price"}
    for i in of_task("extraction"):
        found = note.fullmatch(said(i))
        assert found is not None
        assert found[kinds.get(found["what"], found["what"])] == i.reference


def test_json_says_what_the_sentence_says_with_the_keys_that_were_asked_for() -> None:
    for i in of_task("json"):
        found = re.match(r"(\w+) is (\d+) years old, lives in (\w+) and is (not )?a member\.", said(i))
        assert found is not None
        whole = {"name": found[1], "age": int(found[2]), "city": found[3], "member": found[4] is None}
        keys = re.findall(r'"(\w+)" \(', said(i))
        assert json.loads(i.reference or "") == {k: whole[k] for k in keys}


def test_formats_hold_the_three_words_in_their_form() -> None:
    for i in of_task("format"):
        words = re.findall(r"\w+", said(i).split("Write ")[1])[:3]
        one, two, three = words
        forms = {
            "capital": f"{one.upper()}\n{two.upper()}\n{three.upper()}",
            "numbered": f"1. {one}\n2. {two}\n3. {three}",
            "semicolon": f"{one};{two};{three}",
            "dash": f"- {one}\n- {two}\n- {three}",
        }
        (kind,) = [k for k in forms if k in said(i)]
        assert i.reference == forms[kind]


def test_lists_are_sorted_reversed_and_counted_rightly() -> None:
    for i in of_task("lists"):
        given_numbers = numbers_in(said(i))
        wanted = numbers_in(i.reference or "")
        if said(i).startswith("Sort"):
            assert Counter(wanted) == Counter(given_numbers)
            assert all(a < b for a, b in itertools.pairwise(wanted))
        elif "largest" in said(i):
            assert wanted[0] in given_numbers
            assert not any(n > wanted[0] for n in given_numbers)
        elif said(i).startswith("How many"):
            assert wanted == [said(i).count(",") + 1]
        else:
            assert list(reversed(wanted)) == given_numbers


def test_letters_are_taken_turned_and_joined_rightly() -> None:
    for i in of_task("strings"):
        word, *other = re.findall(r'"(\w+)"', said(i))
        kinds = {
            "Join": "-".join([word, *other]),
            "What is letter number": word[(numbers_in(said(i)) or [1])[0] - 1],
            "Write the letters": "".join(reversed(word)),
            "How many letters": str(sum(1 for _ in word)),
            "What is the last": word[len(word) - 1],
            "Spell": re.sub(r"(?<=\w)(?=\w)", "-", word),
        }
        (kind,) = [k for k in kinds if said(i).startswith(k)]
        assert i.reference == kinds[kind]


def test_code_prints_its_reference_when_it_is_run() -> None:
    for i in of_task("code"):
        program = (
            said(i).removeprefix("What does this Python program print?\n").removesuffix("\nReply with the output only.")
        )
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, {})  # noqa: S102
        assert out.getvalue().strip() == i.reference


def test_every_answer_has_room_for_its_reference() -> None:
    for i in ITEMS:
        assert len(i.reference or "") / 2 < i.output_tokens, i  # two characters a token is a bad tokenizer


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


# Labels


def test_the_intents_come_in_turn_and_every_label_stands_in_every_prompt() -> None:
    pairs = labels.generated(46, 1)
    assert Counter(label for _, label in pairs) == dict.fromkeys(intents.INTENTS, 2)
    for i, (text, label) in zip(labels.items("s", pairs), pairs, strict=True):
        assert f"Labels: {', '.join(sorted(intents.INTENTS))}\nMessage: {text}\n" in said(i)
        assert (i.reference, i.scorer) == (label, "label")
        assert "{" not in text


def written(path: Path, body: str | bytes) -> Path:
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return path


CSV = 'text,label,other\n"Hi, there",greet,1\n"two\nlines",ask,2\nBye, greet ,3\n'
JSONL = """{"text": "Hi, there", "label": "greet"}

{"text": "two\\nlines", "label": "ask"}
{"text": "Bye", "label": "greet"}"""


@pytest.mark.parametrize(
    ("name", "body"),
    [("a.csv", CSV), ("a.csv", "\ufeff" + CSV), ("a.CSV", CSV.replace("\n", "\r\n").replace("two\r\n", "two\n")),
     ("a.jsonl", JSONL), ("a.jsonl", "\ufeff" + JSONL), ("a.ndjson", JSONL)],
)  # fmt: skip
async def test_labels_are_read_from_a_file(tmp_path: Path, name: str, body: str) -> None:
    path = written(tmp_path / name, body)
    wanted = [("Hi, there", "greet"), ("two\nlines", "ask"), ("Bye", "greet")]
    assert labels.from_file(path, "text", "label", 9) == wanted
    assert labels.from_file(path, "text", "label", 2) == wanted[:2]
    suite = QualitySuite(kind="labels", file=str(path))
    suites.check(study(suite))
    assert [i.reference for i in await built(suite)] == ["greet", "ask", "greet"]


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("a.csv", "txt,label\nHi,x\n", "a.csv has no column text; columns: txt, label"),
        (
            "a.csv",
            '"no\nheader",but,"two\nrows"\nHi,x\n',
            "a.csv has no column text; columns: no header, but, two rows",
        ),
        ("a.csv", ",".join(map(str, range(5000))) + "\n1\n", "a.csv has no column text; columns: 0, 1, 2, 3"),
        ("a.csv", "", "a.csv holds no rows; a CSV with a header"),
        ("a.csv", "\ufeff", "a.csv holds no rows; a CSV with a header"),
        ("a.csv", "text,label\n", "a.csv holds no rows; a CSV with a header"),
        ("a.csv", "text,label\nHi,x\nyou\n", "a.csv: row 2 has no label; label it"),
        ("a.csv", "text,label\n" + "y" * 200_000 + ",x\n", "a.csv cannot be read: field larger than field limit"),
        ("a.csv", b"text,label\nGr\xfc\xdfe,x\n", "a.csv is not UTF-8 text; save it as UTF-8"),
        ("a.csv", "text,label\nHi,x\n".encode("utf-16"), "a.csv is not UTF-8 text; save it as UTF-8"),
        ("a.jsonl", "\n\n", "a.jsonl holds no rows; "),
        ("a.jsonl", '{"text": "Hi", "label": null}', "a.jsonl: row 1 has no label; label it"),
        ("a.jsonl", '{"text": "Hi", "label": "x"}\n\n["Hi"]', "a.jsonl cannot be read: line 3 is no object; "),
        ("a.jsonl", '{"text": "Hi", "label": "x"}\n\n{"text"', "a.jsonl cannot be read: line 3: "),
        ("a.jsonl", '{"text": "\\ud800", "label": "x"}', "a.jsonl cannot be read: line 1: "),
        ("a.jsonl", "[" * 100_000, "a.jsonl cannot be read: line 1: maximum recursion depth"),
        ("a.jsonl", b'{"text": "\xff"}', "a.jsonl is not UTF-8 text; save it as UTF-8"),
        (
            "a.csv",
            "text,label\nHi,x\nYo,x\n",
            "suite labels: the set has 1 labels, 2 to 200 can be asked; check label_column",
        ),
        ("a.csv", "text,label\n" + "".join(f"Hi,{n}\n" for n in range(201)), "suite labels: the set has 201 labels"),
    ],
)
def test_a_wrong_file_of_labels_is_told_in_one_line(tmp_path: Path, name: str, body: str | bytes, problem: str) -> None:
    path = written(tmp_path / name, body)
    with pytest.raises(UsageFault) as fault:
        suites.check(study(QualitySuite(kind="labels", file=str(path))))
    assert str(fault.value).startswith(problem)
    assert "\n" not in str(fault.value)
    assert len(str(fault.value)) < 300
    assert fault.value.fix


@pytest.mark.parametrize("kind", ["labels", "file", "likelihood"])
def test_a_file_that_is_not_there_or_a_folder_is_told(tmp_path: Path, kind: Any) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageFault, match=r"^no file .*; check `file` of the suite$"):
            suites.check(study(QualitySuite(kind=kind, file=str(path))))


@given(st.text(max_size=80))
def test_any_line_is_an_object_or_a_fault_with_its_number(line: str) -> None:
    problem = ""
    try:
        assert isinstance(read_object(line, 7), dict)
    except ValueError as e:
        problem = str(e)
    assert problem.startswith("line 7") or not problem


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
