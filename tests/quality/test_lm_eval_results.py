"""lm-evaluation-harness: its files.

`data/lm_eval` was written by lm-eval 0.4.13, started by `lm_eval.command` and `lm_eval.run` against a small server that
answers sums: `base` rightly, `quant` with a few faults; `plain` and `text` are tasks of other kinds. The samples are
byte for byte; `configs`, which names local paths, was taken out of the results.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.bundle.answers import QualityItem, QualityRow
from collector.errors import QuantcaseError
from collector.quality import lm_eval_files, lm_eval_results

DATA = Path(__file__).parent / "data" / "lm_eval"


def read(name: str, variant: str = "v", start: int = 1) -> tuple[list[QualityItem], list[QualityRow]]:
    return lm_eval_results.read(DATA / name, variant=variant, start=start)


def test_a_task_with_two_filters_gives_an_item_for_each() -> None:
    items, rows = read("base/chat", "bf16", 2)
    assert [i.task for i in items] == [
        "tiny_sums[exact_match,strict-match]",
        "tiny_sums[exact_match,strict-match]",
        "tiny_sums[exact_match,flexible-extract]",
        "tiny_sums[exact_match,flexible-extract]",
    ]
    assert items[0].prompt_id == "lm-eval/tiny_sums/6a9ce3b1c340-bc98aeddd10d/strict-match"
    assert items[0].prompt_sha256.startswith("bc98aeddd10d")
    assert items[0].document == items[2].document == "tiny_sums/6a9ce3b1c340"
    assert items[0].api == "chat"
    assert items[0].messages == [{"role": "user", "content": "What is 6 * 5? End with: The answer is N."}]
    assert items[0].scorer == "exact_match,strict-match"
    assert items[0].output_tokens == 32
    row = rows[0]
    assert (row.variant, row.start, row.status, row.score) == ("bf16", 2, "ok", 1.0)
    assert (row.output, row.parsed, row.reference) == ("The answer is 30.", "30", "30")
    assert [r.prompt_id for r in rows] == [i.prompt_id for i in items]
    assert len({r.prompt_id for r in rows}) == 4


def test_one_filter_leaves_no_mark_on_names() -> None:
    items, rows = read("plain")
    assert items[0].task == "tiny_plain"
    assert items[0].prompt_id == "lm-eval/tiny_plain/6a9ce3b1c340-652e08fc8397"
    assert (items[0].api, items[0].prompt, items[0].document) == ("completions", "6 * 5 =", None)
    assert [r.score for r in rows] == [1.0, 1.0]


def test_a_multiple_choice_answers_with_the_likeliest_index() -> None:
    items, rows = read("base/text")
    assert items[0].scorer == "acc,none"
    assert [(r.output, r.parsed, r.reference, r.score) for r in rows] == [("2", "2", "2", 1.0), ("0", "0", "0", 1.0)]
    _, worse = read("quant/text")
    assert [(r.output, r.score) for r in worse] == [("0", 0.0), ("0", 1.0)]


def test_a_metric_that_is_no_number_is_an_error_of_its_row() -> None:
    _, rows = read("text")
    assert [(r.status, r.score, r.error) for r in rows] == [("error", None, "word_perplexity is no number")]


def test_two_runs_pair() -> None:
    base_items, base = read("base", "bf16")
    quant_items, quant = read("quant", "int4")
    assert base_items == quant_items
    assert {r.task for r in base} == {
        "tiny_colours",
        "tiny_sums[exact_match,flexible-extract]",
        "tiny_sums[exact_match,strict-match]",
    }
    by_id = {r.prompt_id: r for r in quant}
    changed = {
        (r.task, r.reference, r.score, by_id[r.prompt_id].score) for r in base if r.score != by_id[r.prompt_id].score
    }
    assert changed == {
        ("tiny_colours", "2", 1.0, 0.0),
        ("tiny_sums[exact_match,strict-match]", "30", 1.0, 0.0),
        ("tiny_sums[exact_match,strict-match]", "18", 1.0, 0.0),  # right, but not in the form that was asked
        ("tiny_sums[exact_match,flexible-extract]", "30", 1.0, 0.0),
    }


def test_rows_travel_as_json() -> None:
    items, rows = read("base")
    assert msgspec.json.decode(msgspec.json.encode(rows), type=list[QualityRow]) == rows
    assert msgspec.json.decode(msgspec.json.encode(items), type=list[QualityItem]) == items


def test_the_newest_file_of_a_task_counts(tmp_path: Path) -> None:
    shutil.copytree(DATA / "quant" / "chat", tmp_path / "new")
    shutil.copytree(DATA / "base" / "chat", tmp_path / "old")  # older by a hundredth of a second
    _, rows = lm_eval_results.read(tmp_path, variant="v", start=1)
    assert rows == read("quant/chat")[1]


def test_samples_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    shutil.copytree(DATA / "base" / "chat", tmp_path / "a")
    shutil.copytree(DATA / "plain", tmp_path / "b")
    results = next((tmp_path / "b").rglob("results_*.json"))
    results.write_text(results.read_text().replace("tiny/model", "tiny/other"))
    with pytest.raises(QuantcaseError, match="several models: tiny/model, tiny/other"):
        lm_eval_results.read(tmp_path, variant="v", start=1)


# Damage


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A copy of `plain` to damage: the path of its samples file."""
    shutil.copytree(DATA / "plain", tmp_path / "plain")
    return next(tmp_path.rglob("samples_*.jsonl"))


def change(path: Path, line: int, what: Callable[[dict[str, Any]], object]) -> None:
    lines = path.read_text().splitlines()
    value = json.loads(lines[line - 1])
    what(value)
    lines[line - 1] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")


def again(path: Path) -> tuple[list[QualityItem], list[QualityRow]]:
    return lm_eval_results.read(path.parent.parent, variant="v", start=1)


def test_a_cut_last_line_is_named(samples: Path) -> None:
    samples.write_bytes(samples.read_bytes()[:-40])
    with pytest.raises(QuantcaseError, match=r"samples_tiny_plain_.*\.jsonl line 2: the file is cut off"):
        again(samples)


def test_a_file_cut_between_lines_is_known_by_its_results(samples: Path) -> None:
    samples.write_text(samples.read_text().splitlines()[0] + "\n")
    with pytest.raises(QuantcaseError, match="holds 1 of 2 samples"):
        again(samples)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resps": "text"}, r"line 2: Expected `array`, got `str` - at `\$.resps`"),
        ({"resps": []}, "line 2: resps holds neither"),
        ({"resps": [5]}, "line 2: resps holds neither"),
        ({"resps": [["a"], [["-1.0", "True"]]]}, "line 2: resps holds neither"),
        ({"resps": [[["x", "True"]], [["-1.0", "True"]]]}, "line 2: resps holds neither"),
        ({"metrics": {"acc": 1}}, "line 2: Expected `array`"),
        ({"filter": 3}, "line 2: Expected `str`"),
        ({"target": {}}, "line 2: Expected"),
        ({"doc_hash": 5}, "line 2: Expected `str`.*doc_hash"),
        ({"doc_hash": "../../etc"}, "line 2: doc_hash is no hash"),
        ({"prompt_hash": ""}, "line 2: prompt_hash is no hash"),
    ],
)
def test_a_wrong_type_is_named_with_its_line(samples: Path, changes: dict[str, Any], said: str) -> None:
    change(samples, 2, lambda v: v.update(changes))
    with pytest.raises(QuantcaseError, match=said):
        again(samples)


@pytest.mark.parametrize("name", ["doc_hash", "prompt_hash"])
def test_samples_without_hashes_cannot_be_paired(samples: Path, name: str) -> None:
    change(samples, 1, lambda v: v.pop(name))
    with pytest.raises(QuantcaseError, match=f"line 1: .*`{name}`.*; samples without hashes cannot be paired"):
        again(samples)


@pytest.mark.parametrize("line", ["[]", "null", "{", '{"a": ' * 5000, "\xff"])
def test_a_line_that_is_no_object_is_named(samples: Path, line: str) -> None:
    samples.write_bytes(line.encode("latin-1") + b"\n" + samples.read_bytes())
    with pytest.raises(QuantcaseError, match="line 1: is no JSON object"):
        again(samples)


@pytest.mark.parametrize(
    ("value", "score", "error"),
    [
        (True, 1.0, None),
        (0.5, 0.5, None),
        (float("nan"), None, "exact_match is nan, which is no share between 0 and 1"),
        (float("inf"), None, "exact_match is inf, which is no share between 0 and 1"),
        (37.5, None, "exact_match is 37.5, which is no share between 0 and 1"),
        (10**400, None, "exact_match is 10000000000000000000, which is no share between 0 and 1"),
        ("1.0", None, "exact_match is no number"),
        (None, None, "exact_match is no number"),
    ],
)
def test_scores_are_shares(samples: Path, value: object, score: float | None, error: str | None) -> None:
    change(samples, 2, lambda v: v.update(exact_match=value))
    row = again(samples)[1][1]
    assert (row.score, row.status, row.error) == (score, "error" if error else "ok", error)


def test_a_missing_metric_is_an_error_of_its_row(samples: Path) -> None:
    change(samples, 2, lambda v: v.pop("exact_match"))
    assert again(samples)[1][1].error == "exact_match is missing"


def test_a_metric_that_is_better_when_lower_is_no_score(samples: Path) -> None:
    results = next(samples.parent.glob("results_*.json"))
    summary = json.loads(results.read_text())
    summary["higher_is_better"]["tiny_plain"]["exact_match"] = False
    results.write_text(json.dumps(summary))
    assert [r.error for r in again(samples)[1]] == ["exact_match is better when lower"] * 2


def test_predictions_alone_are_no_fault(samples: Path) -> None:
    for line in (1, 2):
        change(samples, line, lambda v: v.update(metrics=["bypass"], bypass=999))
    assert [(r.status, r.score) for r in again(samples)[1]] == [("ok", None)] * 2


def test_an_empty_answer_is_marked(samples: Path) -> None:
    change(samples, 1, lambda v: v.update(resps=[[""]]))
    assert again(samples)[1][0].problem == "empty"


def test_half_a_character_and_unknown_keys_do_no_harm(samples: Path) -> None:
    change(samples, 1, lambda v: v.update(resps=[["\ud800"]], more={"a": [1]}, arguments=[3]))
    items, rows = again(samples)
    assert rows[0].output == "?"
    msgspec.json.encode((items, rows))


def test_the_same_document_twice_stays_two(samples: Path) -> None:
    first = samples.read_text().splitlines()[0]
    samples.write_text(samples.read_text() + first + "\n")
    items, _ = again(samples)
    assert items[2].prompt_id == items[0].prompt_id + "#2"


def test_sizes_are_limited(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval_files, "MAX_SAMPLES", 1)
    with pytest.raises(QuantcaseError, match="line 2: more than 1 samples"):
        again(samples)
    monkeypatch.setattr(lm_eval_files, "MAX_BYTES", 100)
    with pytest.raises(QuantcaseError, match="bytes, more than 100"):
        again(samples)


@pytest.mark.parametrize("call", [lambda f: lm_eval_results.read(f, variant="v", start=1), lm_eval_results.facts])
def test_a_folder_without_files_says_what_to_do(tmp_path: Path, call: Callable[[Path], object]) -> None:
    with pytest.raises(QuantcaseError, match=r"holds no .*--log_samples"):
        call(tmp_path)
    with pytest.raises(QuantcaseError, match="holds no"):
        call(tmp_path / "missing")


# Facts


def test_facts_say_how_results_came_about() -> None:
    facts = lm_eval_results.facts(DATA / "base")
    assert facts["lm_eval_version"] == "0.4.13"
    assert facts["task_versions"] == {"tiny_colours": 0.0, "tiny_sums": 1.5}
    assert facts["n_samples"] == {
        "tiny_colours": {"original": 3, "effective": 2},
        "tiny_sums": {"original": 4, "effective": 2},
    }
    assert facts["num_fewshot"] == {"tiny_colours": 0, "tiny_sums": 0}
    assert facts["model_name"] == "tiny/model"
    arguments = facts["model_args"]
    assert isinstance(arguments, dict)
    assert arguments["max_length"] == 4096
    assert arguments["tokenizer_backend"] == "remote"
    msgspec.json.encode(facts)


SECRETS = {
    "auth_token": "Zq1",
    "api_key": "Zq2",
    "apiKey": "Zq3",
    "token": "Zq4",
    "header": {"X-Any": "Zq5"},
    "nested": {"hf_token": "Zq6", "password": "Zq7"},
    "base_url": "http://user:Zq8@example.org/v1",
}


@pytest.mark.parametrize("as_text", [False, True])
def test_facts_hold_no_secrets(samples: Path, as_text: bool) -> None:
    results = next(samples.parent.glob("results_*.json"))
    summary = json.loads(results.read_text())
    kept = {"max_tokens": 5, "add_bos_token": True, "think_end_token": "</think>"}
    arguments: Any = SECRETS | kept
    if as_text:
        del arguments["nested"]
        arguments = ",".join(f"{k}={v}" for k, v in arguments.items())
    summary["config"]["model_args"] = arguments
    results.write_text(json.dumps(summary))
    facts = lm_eval_results.facts(samples.parent)
    assert "Zq" not in json.dumps(facts)
    left = facts["model_args"]
    assert isinstance(left, dict)
    assert {k: str(v) for k, v in left.items() if k in kept} == {k: str(v) for k, v in kept.items()}


@pytest.mark.parametrize("text", ["", "[]", '{"config": 5}', '{"versions": []}', '{"a": 1'])
def test_damaged_results_are_named(samples: Path, text: str) -> None:
    results = next(samples.parent.glob("results_*.json"))
    results.write_text(text)
    with pytest.raises(QuantcaseError, match="results_"):
        lm_eval_results.facts(samples.parent)
    with pytest.raises(QuantcaseError, match="results_"):
        again(samples)
