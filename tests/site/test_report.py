"""The report: a real PDF, opened again; what it holds, where its links lead, and that it asks nobody for anything."""

from __future__ import annotations

import csv
import importlib
import io
import os
import re
import socket
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from pypdf import PdfReader

from collector.bundle import manifest
from collector.bundle.manifest import MANIFEST, file_sha256
from collector.bundle.read import QuantcaseError, open_bundle
from collector.study import Study, Variant
from quantcase.analysis.points import pick
from quantcase.html import Column, table
from quantcase.pages.view import CaseView, Options
from quantcase.report import command
from quantcase.report import pdf as pdf_module
from quantcase.report.command import report
from quantcase.report.document import html_document, open_case, sections
from quantcase.report.fit import fit, fit_tables
from quantcase.report.pdf import DEBIAN_PACKAGES, pdf
from quantcase.text import number
from tests.makers import make_bundle, study

SECTIONS = [
    "Answer", "Trust", "Setup", "VRAM", "Chat", "Batch", "Quality", "Cost", "Recommendations", "Methodology",
    "Next steps", "What I learned", "Quality rules", "Appendix",
]  # fmt: skip
HOSTILE = (
    "</style><script>alert(1)</script><img src=http://127.0.0.1:9/a.png><link rel=stylesheet href=file:///etc/passwd> "
    "# Heading {{ 7*7 }} | a | `b` [x](http://127.0.0.1:9/) url(http://127.0.0.1:9/u) \u202eabc &lt; {: #appendix }"
)


@pytest.fixture(scope="module", autouse=True)
def pango() -> None:
    """WeasyPrint's system libraries: skipped without them, but never in CI."""
    try:
        pdf_module._engine()
    except QuantcaseError as e:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(e))


def small() -> Study:
    """Two variants, one load point of each workload: enough for every section."""
    s = study("real")
    workloads = [msgspec.structs.replace(w, concurrency=w.concurrency[-1:]) for w in s.workloads]
    return msgspec.structs.replace(s, variants=s.variants[:2], workloads=workloads, repeats=2)


def hostile_bundle(out: Path) -> Path:
    s = small()
    s = msgspec.structs.replace(s, workloads=s.workloads[:1])
    variants = [*s.variants, Variant(name="l" * 40, model="m/" + "x" * 300, method="fp8")]
    s = msgspec.structs.replace(
        s, title=f"Title {HOSTILE}", base_model=HOSTILE, next_steps=[HOSTILE, "w" * 400], variants=variants
    )
    folder = make_bundle(out, name="hostile", asked=s, only=("bf16", "fp8"), status="interrupted")
    path = folder / "variants.csv"
    with path.open(newline="") as f:
        head, *rows = csv.reader(f)
    broken = dict(zip(head, rows[1], strict=True)) | {"exit_state": "crash"}
    broken |= {"variant": "l" * 40, "start": "1", "error": f"{HOSTILE} {'e' * 3000}", "kernel_path": HOSTILE}
    broken |= {"evidence": HOSTILE}
    with path.open("w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([head, *rows, [broken[name] for name in head]])
    (folder / "notes.md").write_text(f"# Mine\n\nSeen. {HOSTILE}\n\n![i](http://127.0.0.1:9/n.png)\n")
    bundle = open_bundle(folder)
    bundle.manifest.resources = manifest.resources(folder)
    manifest.write(folder, bundle.manifest)
    return folder


def view(folder: Path, client: str = "") -> CaseView:
    return CaseView(open_case(folder), Options(client=client))


def words(reader: PdfReader) -> str:
    """All text of a PDF in one line."""
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


class Made:
    """A report and what it was made of; `asked` is whatever it wanted fetched."""

    def __init__(self, folder: Path, client: str) -> None:
        self.folder = folder
        self.view = view(folder, client)
        self.asked: list[str] = []
        self.document = html_document(self.view)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pdf_module, "refuse", self._refuse)
            patch.setattr(socket.socket, "connect", self._refuse)
            self.data = pdf(self.document)
        self.reader = PdfReader(io.BytesIO(self.data))
        self.pages = [" ".join(page.extract_text().split()) for page in self.reader.pages]
        self.text = " ".join(self.pages)

    def _refuse(self, *url: object, **_: object) -> None:
        self.asked.append(str(url))
        raise ValueError(url)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(make_bundle(tmp_path_factory.mktemp("made"), asked=small()), "Example GmbH")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(hostile_bundle(tmp_path_factory.mktemp("hostile")), f"Client {HOSTILE}")


def outline(reader: PdfReader) -> Iterator[tuple[int, str, int]]:
    """(level, title, page counted from 1) of every bookmark."""

    def walk(items: list[Any], level: int) -> Iterator[tuple[int, str, int]]:
        for item in items:
            if isinstance(item, list):
                yield from walk(item, level + 1)
            else:
                page = reader.get_destination_page_number(item)
                assert page is not None
                yield level, str(item.title), page + 1

    return walk(reader.outline, 1)


def test_the_title_page_says_what_for_whom_when_and_on_what_evidence(made: Made) -> None:
    first = made.pages[0]
    info = made.view.case.bundle.info
    assert "BF16 against FP8" in first
    assert "Yes, if its quality holds" in first
    assert "! caution" in first
    assert "Example GmbH" in first
    assert made.view.case.bundle.created().date().isoformat() in first
    assert f"{info.grade} weights {info.weights}" in first.lower()
    assert made.reader.metadata is not None
    assert made.reader.metadata.title == made.view.case.title


def test_the_sections_stand_in_the_case_pages_order(made: Made) -> None:
    assert [title for level, title, _ in outline(made.reader) if level == 1] == ["Contents", *SECTIONS]
    below = [title for level, title, _ in outline(made.reader) if level == 2]
    assert {"Hardware", "Variants", "Operating points", "Bundle", "Files", "Environment"} <= set(below)
    pages = [page for _, _, page in outline(made.reader)]
    assert pages == sorted(pages)


@pytest.mark.parametrize("which", ["made", "hostile"])
def test_the_contents_give_the_page_on_which_each_heading_stands(which: str, request: pytest.FixtureRequest) -> None:
    report_: Made = request.getfixturevalue(which)
    reader = report_.reader
    contents = next(page for _, title, page in outline(reader) if title == "Contents")
    answer = next(page for _, title, page in outline(reader) if title == "Answer")
    printed = " ".join(report_.pages[contents - 1 : answer - 1])
    found = re.findall(r"([^.]+?) (?:\. )+(\d+)", printed.removeprefix("Contents"))
    stated = {title.strip(): int(page) for title, page in found}
    for _, title, page in outline(reader):
        if title != "Contents":
            assert stated[title] == page, title
            assert title in report_.pages[page - 1]


def test_figures_are_those_of_the_rows(made: Made) -> None:
    for w in ("chat", "batch"):
        load = made.view.case.loads(w)[-1].name
        for variant in ("bf16", "fp8"):
            point = pick(made.view.points, variant, w, load, "throughput_tok_s")
            assert point is not None
            assert f"{number(point.value, 4)} ({number(point.low, 4)}–{number(point.high, 4)})" in made.text
    assert "3.59 USD an hour, made up for a test" in made.text
    assert "Quality was not measured in this run" in made.text


def test_the_appendix_names_the_bundle_to_the_byte(made: Made) -> None:
    page = next(p for _, title, p in outline(made.reader) if title == "Appendix")
    appendix = "".join(made.pages[page - 1 :]).replace(" ", "")
    assert file_sha256(made.folder / MANIFEST) in appendix
    for resource in made.view.case.bundle.manifest.resources:
        assert resource.path in appendix
        assert resource.hash.removeprefix("sha256:") in appendix


def test_every_page_but_the_first_has_its_number_and_running_title(made: Made) -> None:
    count = len(made.reader.pages)
    assert 8 <= count <= 20
    for n, shown in enumerate(made.pages, 1):
        assert (f"{n} of {count}" in shown) == (n > 1)
        assert ("Example GmbH ·" in shown) == (n > 1)


def test_links_stay_inside_and_lead_somewhere(made: Made, hostile: Made) -> None:
    for report_ in (made, hostile):
        places = set(report_.reader.named_destinations)
        seen = 0
        for page in report_.reader.pages:
            for reference in page.get("/Annots", []):
                note = reference.get_object()
                assert "/A" not in note or "/URI" not in note["/A"]
                assert note["/Dest"] in places
                seen += 1
        assert seen > len(SECTIONS)
        assert 'href="http' not in report_.document
        assert not re.findall(r"index\.md|case\.json\"", report_.document)


def test_nothing_is_fetched(made: Made, hostile: Made) -> None:
    assert made.asked == hostile.asked == []


def test_a_document_that_asks_for_something_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret.svg"
    secret.write_text('<svg xmlns="http://www.w3.org/2000/svg"><text y="9">secret</text></svg>')
    calls: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *a: calls.append(a))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: calls.append(a))
    data = pdf(f'<p>kept</p><img src="{secret.as_uri()}"><img src="http://example.com/a.png">')
    assert words(PdfReader(io.BytesIO(data))) == "kept"
    assert calls == []


def test_hostile_words_are_printed_and_do_nothing(hostile: Made) -> None:
    assert "<script>alert(1)</script>" in hostile.text
    assert "{{ 7*7 }} | a | `b` [x](http://127.0.0.1:9/)" in hostile.text
    assert "49 | a" not in hostile.text
    assert "<script" not in hostile.document
    assert not re.search(r"<img|<link|<base|<iframe|<object", hostile.document)
    assert [t for level, t, _ in outline(hostile.reader) if level == 1] == ["Contents", *SECTIONS]
    ids = re.findall(r'<h[23] id="([^"]*)"', hostile.document)
    assert len(ids) == len(set(ids))


def test_no_word_leaves_its_page_and_charts_stay_whole(hostile: Made) -> None:
    engine = pdf_module._engine()
    source = engine.HTML(string=hostile.document, url_fetcher=pdf_module.nobody(engine))
    charts = 0
    for page in source.render().pages:
        for box in page._page_box.descendants():
            chart = (box.element_tag or "").endswith("svg")
            if chart or getattr(box, "text", "").strip():
                assert 0 <= box.position_x <= box.position_x + box.width <= page.width, box
                assert 0 <= box.position_y <= box.position_y + box.height <= page.height, box
            charts += chart
    assert charts == hostile.document.count("<svg") >= 4


def test_charts_wear_the_light_colours_without_variables(made: Made) -> None:
    charts = re.findall(r"<svg\b.*?</svg>", made.document, flags=re.S)
    assert len(charts) >= 5
    assert all("var(" not in chart and 'font-family="inherit"' not in chart for chart in charts)
    css = resources.files("quantcase").joinpath("assets", "quantcase.css").read_text("utf-8")
    light = re.findall(r"--qc-series-0: (#\w+);", css)[0]
    assert any(light in chart for chart in charts)
    assert all("<title>" in chart for chart in charts)


def test_the_same_bundle_gives_the_same_text(hostile: Made) -> None:
    assert html_document(view(hostile.folder, f"Client {HOSTILE}")) == hostile.document
    one, other = (pdf("<title>t</title><p>same</p>") for _ in range(2))
    assert one == other


def wide(columns: int, cell: str = "1,234,567.89") -> str:
    heads = [Column(f"Column{n:02}", True) for n in range(columns)]
    return table("wide", heads, [[f"row{r:03}", *[cell] * (columns - 1)] for r in range(40)])


def test_a_table_shrinks_before_its_page_is_turned() -> None:
    seen = list(dict.fromkeys(fit(wide(n)) for n in range(3, 20)))
    assert seen == [("m", False), ("s", False), ("xs", False), ("m", True), ("s", True), ("xs", True)]


def test_a_wide_table_gets_a_turned_page_on_which_its_head_repeats() -> None:
    css = resources.files("quantcase").joinpath("assets", "report.css").read_text("utf-8")
    data = pdf(f"<style>{css}</style><main><p>before</p>{fit_tables(wide(14))}<p>after</p></main>")
    pages = PdfReader(io.BytesIO(data)).pages
    turned = [p for p in pages if p.mediabox.width > p.mediabox.height]
    assert len(turned) >= 2
    assert len(pages) == len(turned) + 2  # what stands before and after stays upright
    for page in turned:
        shown = page.extract_text()
        assert all(f"Column{n:02}" in shown for n in range(14))
    assert sum(p.extract_text().count("row") for p in turned) == 40


def test_long_words_of_a_cell_may_break_and_entities_stay_whole() -> None:
    cell = "Linux 6&#46;18&#46;44&#45;fc&#45;version&#45;long"
    made_ = fit_tables(table("t", [Column("A")], [[cell]]))
    assert 'Linux <span class="qc-long">6&#46;18&#46;44&#45;fc&#45;version&#45;long</span>' in made_
    assert "qc-long" not in fit_tables(table("t", [Column("A")], [["short&#45;name"]]))


def test_a_cell_that_would_fill_a_page_is_cut_and_says_so(hostile: Made) -> None:
    assert "eee… (cut: 3," in hostile.text
    assert "characters in the bundle)" in hostile.text
    assert "e…</span> (cut: 600 characters" in fit_tables(table("t", [Column("A")], [["e" * 600]]))


def test_where_the_bundle_lies_is_not_told(hostile: Made) -> None:
    assert "collect run --resume results/hostile" in hostile.text
    assert str(hostile.folder.parent) not in hostile.text


def test_nothing_turns_the_direction_of_words(hostile: Made) -> None:
    assert "\u202e" in hostile.view.case.title
    assert "\u202e" not in hostile.document
    assert "&#8238;" not in hostile.document


def test_a_page_is_taken_apart_by_its_headings() -> None:
    assert sections("# T\n\nfirst\n\n## A\n\n### B\n\nx\n\n## C\n") == {
        "": "# T\n\nfirst", "A": "### B\n\nx", "C": "",
    }  # fmt: skip


def run(*arguments: object) -> Any:
    return CliRunner().invoke(report, [str(a) for a in arguments], catch_exceptions=True)


def test_the_command_writes_a_pdf_and_overwrites_only_when_told(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The printing itself is seen above: here it is enough that the same document comes to it.
    monkeypatch.setattr(command, "pdf", {made.document: made.data}.__getitem__)
    out = tmp_path / "new" / "report.pdf"
    assert run(made.folder, "-o", out, "--client", "Example GmbH").exit_code == 0
    assert out.read_bytes() == made.data
    assert run(made.folder, "-o", out, "--client", "Example GmbH", "--force").exit_code == 0
    out.write_text("mine")
    again = run(made.folder, "-o", out)
    assert isinstance(again.exception, QuantcaseError)
    assert "is there already" in str(again.exception)
    assert out.read_text() == "mine"
    assert [p.name for p in out.parent.iterdir()] == ["report.pdf"]


def test_a_clients_site_gives_the_report_its_currency_signs_and_what_it_takes_out(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def printed(page: str) -> bytes:
        seen.append(page)
        return b"%PDF"

    monkeypatch.setattr(command, "pdf", printed)
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        "INHERIT: ../../mkdocs.yml\nsite_url: !ENV [SITE_URL, '']\nplugins:\n  search: {}\n  quantcase:\n"
        "    client: Acme\n    numbers: de\n    currency: {code: EUR, rate: 0.5, source: ECB, date: 2026-11-20}\n"
        "    redact: true\n"
    )
    done = run(made.folder, "-o", tmp_path / "a.pdf", "--site", config)
    assert done.exit_code == 0, done.output
    (page,) = seen
    assert page.count("Amounts in EUR at 0&#44;5 EUR for 1 USD") == 1 or page.count("Amounts in EUR at 0,5 EUR") == 1
    assert "EUR / 1M output tokens" in page
    assert "redacted&#46;json" in page  # among the files of the copy that it was made of
    assert "Acme" in page
    for wrong, says in (("plugins: [search]\n", "has no options under"), ("plugins: [", "cannot be read"),
                        ("plugins: [quantcase: {numbers: it}]\n", "numbers")):  # fmt: skip
        config.write_text(wrong)
        refused = run(made.folder, "-o", tmp_path / "b.pdf", "--site", config).exception
        assert isinstance(refused, QuantcaseError)
        assert says in str(refused)


def test_an_unsound_folder_gets_no_report(tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert isinstance(run(empty, "-o", out).exception, QuantcaseError)
    folder = make_bundle(tmp_path, asked=small())
    assert "inside the bundle" in str(run(folder, "-o", folder / "report.pdf").exception)
    cells = folder / "cells.csv"
    cells.write_text(cells.read_text().replace("bf16,1,chat,c16,1,", "bf16,1,chat,c16,1,9", 1))
    refused = run(folder, "-o", out, "--force").exception
    assert isinstance(refused, QuantcaseError)
    assert "has faults" in str(refused)
    assert "collect check" in refused.fix
    assert not out.exists()


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (ImportError("no", name="weasyprint"), "pip install 'quantcase[report]'"),
        (OSError("cannot load library 'libpango-1.0-0'"), " ".join(DEBIAN_PACKAGES)),
    ],
)
def test_what_is_missing_is_named_with_its_mend(error: Exception, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, *_: object) -> Any:
        assert name == "weasyprint"
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(QuantcaseError) as seen:
        pdf("<p>x</p>")
    assert fix in seen.value.fix
