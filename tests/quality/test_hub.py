"""Data sets of the Hugging Face hub, over a real socket: a server that speaks the dataset viewer's API page by page."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from collector.engines.process import free_port
from collector.errors import QuantcaseError, UsageFault
from collector.quality import hub, suites
from collector.study import QualitySuite
from tests.quality.test_suites import asker, said, study

NAMES = ["cancel_order", "praise", "refund status", "track_order"]
SHA = "0f1e2d3c4b5a69788796a5b4c3d2e1f000112233"


class Hub(ThreadingHTTPServer):
    """`/splits` and `/rows` of one data set, as huggingface.co/docs/dataset-viewer describes them, and its troubles.

    Args:
        rows: rows of every split.
        faults: of each request in turn (status, body, headers) instead of its answer; None answers.
    """

    daemon_threads = True

    def __init__(self, *, rows: list[dict[str, Any]], features: list[dict[str, Any]], splits: dict[str, list[str]]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows, self.features, self.splits = rows, features, splits
        self.faults: list[tuple[int, bytes, dict[str, str]] | None] = []
        self.revisions: list[str] = []  # of each answer in turn; after the last SHA
        self.cut: list[str] = []
        self.short = 0  # rows that each page lacks
        self.asked: list[tuple[str, dict[str, str], str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if query["dataset"] != "shop/intents":
            return 404, {"error": "The dataset does not exist on the Hub."}
        if path == "/splits":
            entries = [
                {"dataset": "shop/intents", "config": c, "split": s} for c, ss in self.splits.items() for s in ss
            ]
            return 200, {"splits": entries, "pending": [], "failed": []}
        offset, length = int(query["offset"]), int(query["length"])
        if length > 100:
            return 422, {"error": "Parameter 'length' must not be greater than 100"}
        kept = list(enumerate(self.rows))[offset : offset + length]
        kept = kept[: len(kept) - self.short] if self.short and length > 1 else kept
        rows = [{"row_idx": i, "row": row, "truncated_cells": self.cut} for i, row in kept]
        return 200, {
            "features": self.features, "rows": rows, "num_rows_total": len(self.rows), "num_rows_per_page": 100,
            "partial": False,
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.server.asked.append((parts.path, query, self.headers.get("Authorization")))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault is not None:
            status, body, headers = fault
        else:
            status, answer = self.server.answer(parts.path, query)
            revision = self.server.revisions.pop(0) if self.server.revisions else SHA
            body, headers = json.dumps(answer).encode(), {"X-Revision": revision}
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


def features(label: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    kinds = {
        "utterance": {"dtype": "string", "_type": "Value"},
        "intent": label or {"names": NAMES, "_type": "ClassLabel"},
    }
    return [{"feature_idx": i, "name": name, "type": kind} for i, (name, kind) in enumerate(kinds.items())]


@contextlib.contextmanager
def running(monkeypatch: pytest.MonkeyPatch, count: int = 8, **given: Any) -> Iterator[Hub]:
    """A hub whose rows are sorted by label, as many sets are."""
    rows = [{"utterance": f"text {n}", "intent": n * len(NAMES) // count} for n in range(count)]
    settings: dict[str, Any] = {"rows": rows, "features": features(), "splits": {"default": ["train", "test"]}} | given
    suites._from_hub.cache_clear()
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Hub(**settings) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def had(count: int = 500, dataset: str = "shop/intents") -> hub.Labelled:
    return hub.labelled(dataset, "utterance", "intent", count)


# What is read


def test_a_short_split_is_read_whole_and_class_numbers_become_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as server:
        found = had()
    assert found.pairs == [(f"text {n}", NAMES[n // 2]) for n in range(8)]
    assert found.names == NAMES
    assert found.source == f"shop/intents:default:test@{SHA}"
    assert [a[0] for a in server.asked] == ["/splits", "/rows", "/rows"]
    place = {"dataset": "shop/intents", "config": "default", "split": "test"}
    assert [a[1] for a in server.asked[1:]] == [
        place | {"offset": "0", "length": "1"}, place | {"offset": "0", "length": "8"},
    ]  # fmt: skip


def test_a_split_of_several_pages_comes_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, 250) as server:
        found = had(250)
    assert [text for text, _ in found.pairs] == [f"text {n}" for n in range(250)]
    assert [int(a[1]["length"]) for a in server.asked[2:]] == [83, 83, 84]


@pytest.mark.parametrize(("count", "of"), [(40, 5000), (500, 5000), (3000, 5000), (99, 100), (499, 500), (1, 9)])
def test_of_a_long_split_come_rows_from_all_over_it_none_twice(
    monkeypatch: pytest.MonkeyPatch, count: int, of: int
) -> None:
    with running(monkeypatch, of) as server:
        found = had(count)
    texts = [text for text, _ in found.pairs]
    assert len(texts) == len(set(texts)) == count
    assert texts == sorted(texts, key=lambda t: int(t.split()[1]))
    assert max(int(a[1]["length"]) for a in server.asked[1:]) <= 100
    assert len(server.asked) <= 62
    if count >= 500:  # sorted by label, and still every label comes about equally often
        shares = Counter(label for _, label in found.pairs)
        assert max(shares.values()) - min(shares.values()) <= 60 * count / 3000 + 20


@pytest.mark.parametrize(
    ("label", "value", "says"),
    [
        ({"dtype": "string", "_type": "Value"}, " refund ", "refund"),
        ({"dtype": "int64", "_type": "Value"}, 3, "3"),
        ({"dtype": "bool", "_type": "Value"}, True, "True"),
    ],
)
def test_a_label_that_is_a_plain_value_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, label: dict[str, Any], value: Any, says: str
) -> None:
    rows = [{"utterance": "a", "intent": value}]
    with running(monkeypatch, rows=rows, features=features(label)):
        assert had() == hub.Labelled([("a", says)], [], f"shop/intents:default:test@{SHA}")


@pytest.mark.parametrize(
    ("splits", "dataset", "read"),
    [
        ({"default": ["train", "validation", "test"]}, "shop/intents", ("default", "test")),
        ({"default": ["train", "validation"]}, "shop/intents", ("default", "validation")),
        ({"plain": ["train"]}, "shop/intents", ("plain", "train")),
        ({"a": ["train"], "default": ["train"]}, "shop/intents", ("default", "train")),
        ({"a": ["test"], "b": ["test"]}, "shop/intents:b", ("b", "test")),
        ({"a": ["test", "train"]}, "shop/intents:a:train", ("a", "train")),
    ],
)
def test_the_config_and_the_split_are_those_named_or_those_without_doubt(
    monkeypatch: pytest.MonkeyPatch, splits: dict[str, list[str]], dataset: str, read: tuple[str, str]
) -> None:
    with running(monkeypatch, splits=splits) as server:
        found = had(dataset=dataset)
    assert (server.asked[-1][1]["config"], server.asked[-1][1]["split"]) == read
    assert found.source == f"shop/intents:{read[0]}:{read[1]}@{SHA}"


def test_a_token_is_sent_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as server:
        had()
        monkeypatch.setenv("HF_TOKEN", "hf_x")
        had()
    assert [a[2] for a in server.asked] == [None] * 3 + ["Bearer hf_x"] * 3


def test_a_redirect_takes_no_token_along(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as other, contextlib.ExitStack() as stack:
        server = stack.enter_context(running(monkeypatch))
        monkeypatch.setenv("HF_TOKEN", "hf_x")
        server.faults = [(302, b"", {"Location": f"{other.url}/splits?dataset=shop%2Fintents"})]
        assert len(had().pairs) == 8
    assert [a[2] for a in other.asked] == [None]


# What goes wrong


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with running(monkeypatch) as server:
        server.faults = [(status, b"{}", {"Retry-After": "0"})] * 3
        assert len(had().pairs) == 8
    assert len(server.asked) == 6


REFUSALS: list[tuple[int, bytes, str, str]] = [
    (401, b'{"error": "The dataset does not exist, or is not accessible without authentication"}',
     "HTTP 401, The dataset does not exist, or is not accessible without authentication", "HF_TOKEN"),
    (403, b"", "HTTP 403", "HF_TOKEN"),
    (404, b'{"error": "The dataset does not exist on the Hub."}', "HTTP 404, The dataset does not exist", "owner/name"),
    (501, b'{"error": "The dataset viewer is disabled"}', "HTTP 501, The dataset viewer is disabled", "local `file`"),
    (503, b"<html>\n busy", "HTTP 503", "try again later, or name a local `file`"),
    (200, b"<html>", "the hub's answer is no JSON object", "local `file`"),
    (200, b"[" * 100_000, "the hub's answer is no JSON object", "local `file`"),
    (200, b"{}", "the hub's viewer lists no splits of it", "local `file`"),
    (200, b'{"splits": [3]}', "the hub's viewer lists no splits of it", "local `file`"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "problem", "fix"), REFUSALS)
def test_a_refusal_is_told_in_one_line_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, problem: str, fix: str
) -> None:
    with running(monkeypatch) as server:
        server.faults = [(status, body, {"Retry-After": "0"})] * 4
        with pytest.raises(QuantcaseError) as fault:
            had()
    assert fault.value.problem.startswith("data set shop/intents")
    assert problem in fault.value.problem
    assert fix in fault.value.fix
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("given", "dataset", "problem"),
    [
        ({"splits": {"a": ["test"], "b": ["test"]}}, "shop/intents", "has several configs; name one, "),
        ({}, "shop/intents:c", "has no config c; configs: default"),
        ({}, "shop/intents:default:dev", "has no split dev; splits: train, test"),
        ({"splits": {"default": ["en", "de"]}}, "shop/intents", "has several splits; name one, "),
        ({"rows": []}, "shop/intents", "default/test holds no rows"),
        ({"rows": [{"utterance": "a", "intent": -1}]}, "shop/intents", "row 1 has no label in intent; "),
        ({"rows": [{"utterance": "a", "intent": 4}]}, "shop/intents", "row 1 has no label in intent; "),
        ({"rows": [{"utterance": "a", "intent": None}]}, "shop/intents", "row 1 has no label in intent; "),
        ({"rows": [{"utterance": None, "intent": 1}]}, "shop/intents", "row 1 has no text in utterance; "),
        ({"features": features()[:1]}, "shop/intents", "has no column intent; set label_column; columns: utterance"),
    ],
)
def test_a_set_that_does_not_fit_is_told(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], dataset: str, problem: str
) -> None:
    with running(monkeypatch, **given), pytest.raises(UsageFault) as fault:
        had(dataset=dataset)
    assert problem in str(fault.value)


def test_rows_that_change_are_cut_or_lack_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as server:
        server.revisions = [SHA, SHA, "other"]
        with pytest.raises(QuantcaseError, match="changed while it was read; start the run again"):
            had()
        server.cut = ["utterance"]
        with pytest.raises(QuantcaseError, match="the hub cut the text of row 1"):
            had()
        server.cut, server.short = [], 2
        with pytest.raises(QuantcaseError, match="6 of 8 rows came from row 1 on"):
            had()


def test_a_machine_that_is_offline_is_told_to_name_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as server:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(QuantcaseError, match="HF_HUB_OFFLINE is set; name a local `file`"):
            had()
        assert server.asked == []
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(QuantcaseError, match=r"cannot be had from 127\.0\.0\.1: .*; is this machine online\?"):
            had()
        monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
        with pytest.raises(UsageFault, match="HF_ENDPOINT is no http address"):
            had()


@pytest.mark.parametrize(
    ("endpoint", "viewer"),
    [
        ("", "https://datasets-server.huggingface.co"),
        ("https://hub.example/", "https://datasets-server.hub.example"),
        ("http://localhost:5", "http://localhost:5"),
        ("http://10.0.0.1:5", "http://10.0.0.1:5"),
    ],
)
def test_the_viewer_stands_beside_its_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, viewer: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert hub._viewer() == viewer


# As a suite


async def test_a_suite_asks_for_all_labels_of_the_set_and_fetches_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = QualitySuite(kind="labels", dataset="shop/intents", text_column="utterance", label_column="intent", items=2)
    with running(monkeypatch) as server:
        suites.check(study(suite))
        before = len(server.asked)
        async with asker() as one:
            made = await suites.build(suite, study(suite), one)
        assert len(server.asked) == before
    assert [i.reference for i in made] == ["cancel_order"] * 2  # two rows of a sorted set: one label
    assert all(f"Labels: {', '.join(NAMES)}\n" in said(i) for i in made)
    assert {i.source for i in made} == {f"shop/intents:default:test@{SHA}"}
