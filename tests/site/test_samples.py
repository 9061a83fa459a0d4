"""The samples browser's files and its block on the page."""

from __future__ import annotations

import html
import json
import re
import time
from pathlib import Path
from typing import Any

import markdown
from hypothesis import given
from hypothesis import strategies as st

from collector.bundle.answers import QualityItem, QualityRow
from collector.bundle.read import open_bundle
from collector.bundle.schema import Environment
from collector.bundle.write import BundleWriter
from collector.study import loads
from quantcase.catalog import Case
from quantcase.pages.samples import files, section, segments
from tests.makers import STUDY

SUITES = ('[[quality]]\nkind = "sanity"\n', '[[quality]]\nkind = "exact"\n', '[[quality]]\nkind = "likelihood"\n')
HOSTILE = [
    "<script>window.hacked=1</script>",
    "{{ 7*7 }}",
    "[x](javascript:alert(1))",
    "x" * 10_000,
    "safe \u202eevil txt.exe",
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600 fine",
    "</script><img src=x onerror=window.hacked=1>",
    '" onmouseover="window.hacked=1',
    "one\n\n\ttwo  spaces\n# three",
]


def asked(number: int, task: str = "dates", suite: str = "exact", **more: Any) -> QualityItem:
    given: dict[str, Any] = {"prompt": f"Question {number}?", "reference": "4", "scorer": "text", **more}
    return QualityItem(suite=suite, task=task, prompt_id=f"{suite}/{task}/{number}", prompt_sha256="0" * 64, **given)


def answered(
    item: QualityItem, variant: str, output: str | None, score: float | None = None, **more: Any
) -> QualityRow:
    return QualityRow(
        variant=variant, start=1, suite=item.suite, task=item.task, prompt_id=item.prompt_id,
        prompt_sha256=item.prompt_sha256, output=output, score=score, **more,
    )  # fmt: skip


def case_of(out: Path, items: list[QualityItem], rows: list[QualityRow], marks: str = "") -> Case:
    """A bundle of answers only, through the real writer."""
    study = loads(STUDY.format(weights="real") + "".join(SUITES), "test")
    writer = BundleWriter.create(
        out / "2026-11-21-answers", study, grade="measured", gpu=study.gpu, cells_planned=0,
        environment=Environment(gpu_asked=study.gpu),
    )  # fmt: skip
    for suite in dict.fromkeys(i.suite for i in items):
        writer.answers.add_items(suite, [i for i in items if i.suite == suite])
    for row in rows:
        writer.answers.add(row)
    if marks:
        (writer.folder / "marks.csv").write_text(f"variant,prompt_id,mark,remark\n{marks}", "utf-8")
    writer.close("complete")
    bundle = open_bundle(writer.folder)
    return Case(bundle, bundle.study(), [])


def read(case: Case) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The index, and all items of all chunks."""
    made = {name: json.loads(words) for name, words in files(case)}
    return made.pop("index.json"), [item for n in range(len(made)) for item in made[f"{n}.json"]]


def own(answer: dict[str, Any]) -> str:
    return "".join(piece for op, piece in answer["segments"] if op != "-")


def test_the_index_says_what_differs_is_lost_gained_failed_and_marked(tmp_path: Path) -> None:
    items = [asked(n) for n in range(4)]
    rows = [
        answered(items[0], "bf16", "4", 1), answered(items[0], "fp8", "4", 1), answered(items[0], "awq", "5", 0),
        answered(items[1], "bf16", "5", 0), answered(items[1], "fp8", "4", 1), answered(items[1], "awq", "6", 0),
        answered(items[2], "bf16", "4", 1), answered(items[2], "fp8", None, status="timeout", error="300 s"),
        answered(items[3], "bf16", None, status="error", error="HTTP 500"), answered(items[3], "fp8", "4", 1),
        answered(items[0], "bf16", "no control pass", 0, repeat=2),
    ]  # fmt: skip
    index, found = read(case_of(tmp_path, items, rows, 'awq,exact/dates/0,bad,"off, by one"\n'))
    assert (index["baseline"], index["variants"], index["chunk"]) == ("bf16", ["fp8", "awq"], 25)
    lists = ("differs", "lost", "gained", "failed", "marked")
    assert [tuple(i[k] for k in lists) for i in index["items"]] == [
        (["awq"], ["awq"], [], [], ["awq"]),
        (["fp8", "awq"], [], ["fp8"], [], []),
        ([], [], [], ["fp8"], []),
        ([], [], [], ["bf16"], []),
    ]
    assert [set(i) for i in index["items"]] == [{"id", "suite", "task", *lists}] * 4
    base, _, awq = found[0]["answers"]
    assert base == {
        "variant": "bf16", "right": True, "status": "ok", "error": None, "problem": "", "parsed": None, "mark": None,
        "remark": "", "segments": [["=", "4"]],
    }  # fmt: skip
    assert (awq["right"], awq["mark"], awq["remark"], awq["segments"]) == (
        False, "bad", "off, by one", [["-", "4"], ["+", "5"]],
    )  # fmt: skip
    failed = found[2]["answers"][1]
    assert (failed["right"], failed["status"], failed["error"], failed["segments"]) == (None, "timeout", "300 s", [])
    assert found[3]["answers"][1]["segments"] == [["+", "4"]]  # nothing to compare with
    assert (found[0]["prompt"], found[0]["reference"], found[0]["id"]) == ("Question 0?", "4", "exact/dates/0")


def test_items_stand_in_the_order_of_the_study_and_in_small_files(tmp_path: Path) -> None:
    items = [asked(n) for n in (*range(40), 100)] + [asked(0, "tone", "sanity"), asked(3, "x" + "9" * 5000)]
    items += [asked(0, "text", "likelihood", scorer="likelihood"), asked(7, "nobody answered")]
    case = case_of(tmp_path, items, [answered(i, "bf16", "4", 1) for i in items[:-1]])
    made = dict(files(case))
    assert list(made) == ["index.json", "0.json", "1.json"]
    index, found = read(case)
    ids = [f["id"] for f in found]
    assert ids[:4] == ["sanity/tone/0", "exact/dates/0", "exact/dates/1", "exact/dates/2"]
    assert ids[-2] == "exact/dates/100"
    assert ids == [i["id"] for i in index["items"]]
    assert len(ids) == 43
    assert index["variants"] == []
    assert len(json.loads(made["0.json"])) == 25


def test_equal_bundles_give_equal_files(tmp_path: Path) -> None:
    items = [asked(n) for n in range(30)]
    rows = [answered(i, v, f"{v} says {n}", 1) for n, i in enumerate(items) for v in ("bf16", "fp8", "awq")]
    one, two = case_of(tmp_path / "a", items, rows), case_of(tmp_path / "b", items[::-1], rows[::-1])
    assert list(files(one)) == list(files(two))
    assert section(one) == section(two)


def test_segments_tell_word_by_word_what_changed() -> None:
    assert segments("It is in Paris", "It is in Paris") == [("=", "It is in Paris")]
    assert segments("It is in Paris now", "It is near Paris now") == [
        ("=", "It is"), ("-", " in"), ("+", " near"), ("=", " Paris now"),
    ]  # fmt: skip
    assert segments("Paris", "Paris, France") == [("-", "Paris"), ("+", "Paris, France")]
    assert segments("Paris", "Paris in France") == [("=", "Paris"), ("+", " in France")]
    assert segments("", "") == []
    assert segments("a b", "") == [("-", "a b")]


@given(st.text("ab \n", max_size=60), st.text("ab \n", max_size=60))
def test_segments_spell_both_texts(baseline: str, answer: str) -> None:
    found = segments(baseline, answer)
    assert "".join(piece for op, piece in found if op != "-") == answer
    assert "".join(piece for op, piece in found if op != "+") == baseline


def test_long_and_repeated_texts_are_compared_at_once() -> None:
    long = " ".join(f"w{n}" for n in range(5000))
    began = time.process_time()
    assert segments(f"a {long} z", f"b {long} z") == [("-", "a"), ("+", "b"), ("=", f" {long} z")]
    assert [op for op, _ in segments(f"a {long} z", f"b {long} y")] == ["-", "+"]  # too long to be matched inside
    assert segments("x " + "the " * 400 + "y", "the a " * 390 + "y")[-1] == ("=", " y")
    segments(" ".join("ab"[n % 2] for n in range(1900)), " ".join("ba"[n % 2] for n in range(1900)))
    assert time.process_time() - began < 1


def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    item = asked(1, prompt="p" * 9000 + " What is it?")
    rows = [answered(item, "bf16", "word " * 1000, 1), answered(item, "fp8", "other " * 1000, 1)]
    rows.append(answered(item, "awq", "short", 1))
    _, (found,) = read(case_of(tmp_path, [item], rows))
    assert found["cut"] is True
    assert len(found["prompt"]) <= 4000
    assert found["prompt"].endswith(" What is it?")  # its end is kept: there stands the question
    base, fp8, awq = found["answers"]
    assert [len(own(a)) for a in (base, fp8, awq)] == [4000, 4000, 5]
    assert [a.get("cut") for a in (base, fp8)] == [True, True]
    assert all(len(piece) <= 4000 for a in found["answers"] for _, piece in a["segments"])


def test_a_conversation_reads_as_lines(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "And"}, {"type": "image_url", "image_url": {"url": "x"}}]
    talk = [{"role": "user", "content": "Hi\nthere"}, {"role": "assistant", "content": None}]
    item = asked(1, prompt=None, messages=[*talk, {"role": "user", "content": parts}])
    _, (found,) = read(case_of(tmp_path, [item], [answered(item, "bf16", "x")]))
    assert found["prompt"] == "user: Hi\nthere\nassistant: \nuser: And[image_url]"
    assert found["answers"][0]["right"] is None


def test_the_first_token_that_differs(tmp_path: Path) -> None:
    items = [asked(n, "tone", "sanity") for n in range(4)]
    said = [
        (["It", " is", " \U0001f600", " Paris"], "It is \U0001f600 Paris"),
        (["It", " is", " \U0001f600", " Pa", "ra"], "It is \U0001f600 Para"),
    ]
    rows = []
    for item, other in zip(items, [said[1][0], said[0][0][:3], said[0][0], None], strict=True):
        rows.append(answered(item, "bf16", said[0][1], tokens=said[0][0]))
        rows.append(answered(item, "fp8", "".join(other or ["x"]), tokens=other))
    _, found = read(case_of(tmp_path, items, rows))
    assert [f["answers"][1].get("first") for f in found] == [
        {"position": 3, "token": " Pa", "at": 7}, {"position": 3, "token": ""}, None, None,
    ]  # fmt: skip
    assert all("first" not in f["answers"][0] for f in found)


def hostile_case(out: Path, marks: str = "", plain: int = 30) -> Case:
    """Every hostile text as prompt, reference, task, answer and error, and more of the harmless kind."""
    items, rows = [], []
    for n, words in enumerate(HOSTILE):
        item = asked(n, words[:80], prompt=words, reference=words)
        items.append(item)
        rows.append(answered(item, "bf16", f"The answer: {words}", 1, parsed=words))
        rows.append(answered(item, "fp8", f"An answer: {words}", 0, problem="invalid"))
        rows.append(answered(item, "awq", None, status="error", error=words))
    for n in range(plain):
        item = asked(n, "numbers", prompt="\n".join(f"line {i} of question {n}" for i in range(9)))
        items.append(item)
        rows += [answered(item, "bf16", f"It is {n}.", 1), answered(item, "awq", f"It is {n}.", 1)]
        rows.append(answered(item, "fp8", f"It is {n + n % 3}.", float(n % 3 == 0)))
    for n in range(3):
        item = asked(n, "tone", "sanity", reference=None, scorer="")
        items.append(item)
        rows.append(answered(item, "bf16", "Yes, gladly so", tokens=["Yes", ",", " gladly", " so"]))
        rows.append(answered(item, "fp8", "Yes, \U0001f600 so", tokens=["Yes", ",", " \U0001f600", " so"]))
    return case_of(out, items, rows, marks)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    case = hostile_case(tmp_path, plain=0)
    block = section(case)
    assert "\n" not in block
    assert "<script" not in block
    assert "{{" not in block
    assert not re.search(r"[\u202e\U0001f600]", block)
    page = markdown.markdown(f"before\n\n{block}\n\nafter", extensions=["tables", "attr_list", "md_in_html", "toc"])
    assert block in page  # Markdown left it alone
    tags = set(re.findall(r"<(\w+)", block))
    assert tags == {"div", "p", "article", "header", "a", "bdi", "section", "strong", "span", "ins", "del", "mark"}
    assert set(re.findall(r' ([\w-]+)="', block)) <= {"class", "data-src", "id", "href", "dir"}
    assert set(re.findall(r'href="([^"]{9})', block)) == {"&#35;samp"}
    shown = html.unescape(re.sub(r"<[^>]*>", "", block))
    for words in HOSTILE:
        assert words[:900] in shown  # as it came, with every space and line
    _, found = read(case)
    by_prompt = {f["prompt"]: f for f in found}
    for words in HOSTILE:
        if len(words) < 4000:
            assert own(by_prompt[words]["answers"][0]) == f"The answer: {words}"


def test_the_block_holds_twelve_samples_those_that_differ_first(tmp_path: Path) -> None:
    items = [asked(n) for n in range(40)]
    rows = [answered(i, "bf16", "four 4", 1) for i in items]
    rows += [answered(i, "fp8", "four 5" if n in (20, 30) else "four 4", float(n < 20)) for n, i in enumerate(items)]
    block = section(case_of(tmp_path, items, rows))
    ids = [html.unescape(i) for i in re.findall(r'<article class="qc-sample" id="sample=([^"]*)"', block)]
    assert ids == [f"exact/dates/{n}" for n in (20, 30, *range(10))]
    assert "12 of 40 samples" in block
    assert '<span class="qc-says qc-wrong">✗ wrong</span>' in block
    assert '<span class="qc-says qc-right">✓ right</span>' in block
    assert "four<del> 4</del><ins> 5</ins>" in block
    assert block.count("= the same as the baseline") == 10
    assert block.startswith('<div class="qc-samples" data-src="samples/">')


def test_a_static_sample_marks_where_it_leaves_the_baseline(tmp_path: Path) -> None:
    item = asked(1)
    rows = [answered(item, "bf16", "It is so", tokens=["It", " is", " so"])]
    rows.append(answered(item, "fp8", "It was so", tokens=["It", " was", " so"]))
    rows.append(answered(item, "awq", None, status="refused", error="content filter"))
    block = section(case_of(tmp_path, [item], rows, "fp8,exact/dates/1,minor,tense\n"))
    assert "It<del> is</del><ins><mark> was</mark></ins> so" in block
    assert "Leaves the baseline at token 2." in block
    assert "! failed: <bdi>content filter</bdi>" in block
    assert "Marked minor: <bdi>tense</bdi>" in block


def test_without_answers_a_sentence_says_so(tmp_path: Path) -> None:
    case = case_of(tmp_path, [], [])
    assert section(case).startswith('<p class="qc-none">')
    assert [name for name, _ in files(case)] == ["index.json"]


def test_three_thousand_items_are_quick(tmp_path: Path) -> None:
    items = [asked(n) for n in range(3000)]
    words = [f"word{n % 97}" for n in range(60)]
    rows = []
    for n, item in enumerate(items):
        for shift, variant in enumerate(("bf16", "fp8", "awq")):
            changed = [*words[: 10 + n % 40], f"{variant}{n}", *words[12 + shift :]]
            rows.append(answered(item, variant, " ".join(changed), float(n % 5 != shift)))
    case = case_of(tmp_path, items, rows)
    assert len(case.quality_items) == 3000
    assert len(case.answers) == 3
    began = time.process_time()
    made = dict(files(case))
    assert section(case)
    assert time.process_time() - began < 5
    assert len(made) == 1 + 3000 // 25
    assert max(len(v) for k, v in made.items() if k != "index.json") < 200_000
