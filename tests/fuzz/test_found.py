"""What fuzzing has found, each as a case that must stay mended. The newest last."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.bundle import manifest
from collector.bundle.check import outcome
from collector.bundle.read import Bundle, open_bundle
from collector.bundle.schema import RequestRow, TelemetryRow
from collector.bundle.tables import header_line, row_line, rows_from_text
from collector.errors import QuantcaseError
from collector.load import stream
from collector.load.framing import Exchange
from collector.load.stream import read_exchange
from collector.study import loads, ready_studies
from quantcase import catalog
from quantcase.analysis.plan_answers import capacity
from quantcase.build import generate
from quantcase.pages import figures
from quantcase.pages.view import CaseView, Options
from quantcase.text import notes_html
from tests.fuzz.bundles import whole
from tests.fuzz.guard import one_line, time_limit
from tests.fuzz.small import seal

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PUBLISHED = 2  # the smallest of the whole bundles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small sound bundle, to be damaged."""
    source = whole()[PUBLISHED]
    return Path(shutil.copytree(source, tmp_path / "results" / source.name))


def reply(*payloads: bytes) -> Exchange:
    body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in payloads)
    return Exchange(0.0, [(1.0, HEAD + body + b"0\r\n\r\n")])


def content(text: bytes, rest: bytes = b"") -> bytes:
    return b'data: {"choices":[{"delta":{"content":"' + text + b'"}}]' + rest + b"}\n\n"


def both_ways(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> str:
    """The status of a reply, read the quick way; the careful way must say the same of it."""
    quick = read_exchange(exchange)
    monkeypatch.setattr(stream, "_usual", lambda _: None)
    monkeypatch.setattr(stream._Reader, "text", lambda _self, _data: "")
    assert read_exchange(exchange) == quick
    return quick.status


# -- streams -----------------------------------------------------------------------------------------------------------

LAST = content(b"b", b',"usage":{"prompt_tokens":1,"completion_tokens":2}') + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("what", "chunk"),
    [
        ("a field that is passed over and is no UTF-8", content(b"a", b',"model":"\xff"')),
        ("a field that is passed over and is no number", content(b"a", b',"created":179522e0591')),
        ("a control character in the text", content(b"a\x00")),
    ],
)
def test_the_quick_way_looks_as_closely_as_the_careful_way(
    what: str, chunk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a reply was `ok` one way and an error the other."""
    assert both_ways(reply(content(b"x"), content(b"y"), chunk, LAST), monkeypatch) == "error", what


def test_chunks_that_lie_about_their_size_do_not_go_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = HEAD + b"10\r\n%s\r\n" % content(b"a") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(LAST), LAST)
    assert stream._usual(Exchange(0.0, [(1.0, raw)])) is None
    assert both_ways(Exchange(0.0, [(1.0, raw)]), monkeypatch) == "error"


def test_a_header_with_a_control_character_stays_one_line() -> None:
    raw = b"HTTP/1.1 503 Busy\r\nretry-after: 5\r\x00content: \x0b 9\r\n\r\n"
    assert read_exchange(Exchange(0.0, [(1.0, raw)])).error == "HTTP 503:  (Retry-After: 5 content: 9)"


# -- documents ---------------------------------------------------------------------------------------------------------

DEEP = b'{"quantcase":' + b"[" * 100_000


def told(read: Callable[[], object]) -> str:
    """The one line in which something is refused."""
    with pytest.raises(QuantcaseError) as refused, time_limit(5):
        read()
    return one_line(refused.value)


@pytest.mark.parametrize("name", ["datapackage.json", "environment.json", "client.json", "quality_items.jsonl"])
def test_documents_nested_without_an_end_are_refused(folder: Path, name: str) -> None:
    bundle = open_bundle(folder)
    (folder / name).write_bytes(DEEP + b"\n")
    readers: dict[str, Callable[[], object]] = {
        "datapackage.json": lambda: manifest.read(folder),
        "environment.json": bundle.environment,
        "client.json": bundle.client,
        "quality_items.jsonl": bundle.quality_items,
    }
    assert name in told(readers[name])


def test_a_study_nested_without_an_end_is_refused() -> None:
    assert "nested too deep" in told(lambda: loads("a = " + "[" * 20_000, "x.toml"))


@pytest.mark.parametrize("name", ["study.toml", "datapackage.json"])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_not_waited_for(folder: Path, name: str) -> None:
    bundle = open_bundle(folder)
    for make in (os.mkfifo, os.mkdir):
        (folder / name).unlink() if (folder / name).is_file() or (folder / name).is_fifo() else None
        make(folder / name)
        assert name in told(bundle.study if name == "study.toml" else lambda: manifest.read(folder))


def test_a_bundle_is_called_by_its_folder_not_by_what_it_says_of_itself(folder: Path) -> None:
    found = manifest.read(folder)
    found.name = "a\nb"
    (folder / "study.toml").unlink()
    assert told(Bundle(folder, found).study).startswith(folder.name)


# -- the site ----------------------------------------------------------------------------------------------------------


def site(folder: Path) -> tuple[dict[str, str | bytes], list[tuple[str, str]]]:
    """Every file of the site that `folder`'s bundle gives, and the bundles that could not be read."""
    found, outputs = generate(folder.parent, Options())
    return {o.uri: o.data() for o in outputs}, found.unreadable


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("client.json", b"{"),
        ("environment.json", b"null"),
        ("telemetry.csv.gz", b""),
        ("engine_metrics.csv.gz", b"\n"),
        ("quality_items.jsonl", b"{\n"),
    ],
)
def test_a_bundle_with_a_file_that_cannot_be_read_is_listed_and_the_site_is_made(
    folder: Path, name: str, content: bytes
) -> None:
    """It was found out while pages were made, and one damaged bundle cost the whole site."""
    (folder / name).write_bytes(content)
    pages, unreadable = site(folder)
    assert "index.md" in pages
    assert [n for n, _ in unreadable] == [folder.name]
    one_line(unreadable[0][1])


def test_a_bundle_that_was_created_at_no_time_is_listed(folder: Path) -> None:
    found = manifest.read(folder)
    found.created = ""
    manifest.write(folder, found)
    with pytest.raises(QuantcaseError, match="created"):
        catalog.read(folder)


def test_a_file_that_is_missing_is_named_and_not_offered(folder: Path) -> None:
    (folder / "notes.md").unlink()
    pages, unreadable = site(folder)
    assert not unreadable
    assert not [uri for uri in pages if uri.endswith("data/files/notes.md.txt")]
    assert "notes&#46;md" in str(pages[f"cases/{folder.name}/data/index.md"])


@pytest.mark.parametrize("path", ["/etc/hostname", "../../qcx", "..", 'x"><img src=x onerror=qcx()>'])
def test_a_manifest_that_points_elsewhere_offers_nothing_from_there(folder: Path, path: str) -> None:
    """A forged manifest had the publisher's own files copied into the site."""
    (folder.parent / "qcx").write_text("not of this bundle")
    found = manifest.read(folder)
    found.resources[0].path = path
    manifest.write(folder, found)
    pages, _ = site(folder)
    assert not [uri for uri in pages if "hostname" in uri or "qcx" in uri or ".." in uri]
    assert not [uri for uri, page in pages.items() if uri.endswith(".md") and "<img src=x" in str(page)]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", "\u202ex".encode()])
def test_file_names_that_cannot_be_printed_are_told_as_ascii(folder: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"x")
    faults = [f for f in outcome(folder).faults if f.rule == "Q204"]
    assert len(faults) == 1
    assert one_line(faults[0].problem).isascii()
    assert json.dumps(faults[0].problem)
    assert site(folder)[1][0][0] == folder.name


def test_answered_requests_without_times_leave_a_sentence_and_no_chart(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole()[0], tmp_path / "x"))
    rows = Bundle(folder, manifest.read(folder)).requests()
    for row in rows:
        row.ttft_ms = row.e2e_ms = None
    text = header_line(RequestRow) + "".join(map(row_line, rows))
    (folder / "requests.csv.gz").write_bytes(gzip.compress(text.encode()))
    view = CaseView(catalog.read(folder), Options())
    assert "how long it took" in figures.latencies(view, view.case.study.workloads[0].name)


def test_answered_requests_without_tokens_ask_for_no_cache(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole()[0], tmp_path / "x"))
    rows = Bundle(folder, manifest.read(folder)).requests()
    for row in rows:
        row.output_tokens = None
    text = header_line(RequestRow) + "".join(map(row_line, rows))
    (folder / "requests.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert capacity(catalog.read(folder)).asked_tokens is None


@pytest.mark.parametrize("number", ["9" * 40, "-" + "9" * 40])
def test_whole_numbers_beyond_64_bits_are_refused(number: str) -> None:
    """They were read, and no page or table behind them could hold them."""
    asked = ready_studies()["cpu"].read_text()
    assert "64 bits" in told(lambda: loads(re.sub(r"repeats = \d+", f"repeats = {number}", asked, count=1)))
    text = header_line(RequestRow) + f"bf16,{number}" + "," * (header_line(RequestRow).count(",") - 1) + "\n"
    assert told(lambda: rows_from_text(text, RequestRow, "x")) == "x line 2: column start: the number is too large"


def test_figures_whose_sums_would_overflow_are_refused() -> None:
    text = header_line(TelemetryRow) + "1e308,0" + "," * (header_line(TelemetryRow).count(",") - 1) + "\n"
    assert told(lambda: rows_from_text(text, TelemetryRow, "x")) == "x line 2: column t_s: the number is too large"


def test_a_page_of_html_in_a_bundle_is_offered_as_text(folder: Path) -> None:
    (folder / "evil.html").write_text("<script>qcx()</script>")
    seal(folder)
    pages, _ = site(folder)
    assert f"cases/{folder.name}/data/files/evil.html.txt" in pages
    assert f"cases/{folder.name}/data/files/evil.html" not in pages


def test_notes_with_halves_of_characters_are_shown() -> None:
    assert notes_html("a \udcff b") == "<p>a ? b</p>"


@pytest.mark.parametrize("number", [0, 3])
def test_a_pipe_in_place_of_any_file_is_told_and_not_waited_for(tmp_path: Path, number: int) -> None:
    """One in place of a load test's file was read, and what read it waited without an end."""
    source = whole()[number]
    for at in sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file()):
        folder = Path(shutil.copytree(source, tmp_path / "results" / source.name))
        (folder / at).unlink()
        os.mkfifo(folder / at)
        with time_limit(5):
            assert any(f.level == "error" for f in outcome(folder).faults), at
            for _, why in catalog.load(folder.parent).unreadable:
                one_line(why)
        shutil.rmtree(folder)


@pytest.mark.parametrize("line", ["a\rb,c\n", '"' + "x" * 200_000 + '"\n'])
def test_a_header_that_is_no_line_of_csv_is_sealed_and_told(folder: Path, line: str) -> None:
    """Sealing such a bundle raised what the csv module raises."""
    (folder / "variants.csv").write_text(line, newline="")
    seal(folder)
    assert {"Q301", "Q304"} & outcome(folder).broken
