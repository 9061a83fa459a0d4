"""A site's number language and currency: every figure of a page in its signs, money converted, machines untouched."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path

import pytest

from quantcase import build, client, workers
from quantcase.build import generate
from quantcase.catalog import load
from quantcase.money import DOLLARS, Money
from quantcase.pages.view import CaseView, Options
from quantcase.report.document import html_document
from quantcase.signs import language, localized, signed, written_in
from quantcase.text import fixed, load_words, number, percent, plain, said, signed_percent, signed_percents, span
from tests import sites
from tests.makers import make_bundle

EUR = {"code": "EUR", "rate": 0.5, "source": "ECB", "date": "2026-11-20"}
RATE = "Amounts in EUR at 0&#44;5 EUR for 1 USD &#40;ECB&#44; 2026&#45;11&#45;20&#41;"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("money") / "results", weights="real")


def pages(results: Path, **options: object) -> dict[str, str]:
    made = client.settings(options)
    return sites.pages(results, Options.of(made))


@pytest.fixture(scope="module")
def german(folder: Path) -> dict[str, str]:
    return pages(folder.parent, numbers="de", currency=EUR)


@pytest.fixture(scope="module")
def english(folder: Path) -> dict[str, str]:
    return pages(folder.parent)


# -- Signs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "figures"),
    [
        ("en", ["12,345.6", "1.2 × 10⁻⁷", "+36.3 %", "2,655 <small>(2,590–2,720)</small>", "12.3 %", "4.25"]),
        ("de", ["12.345,6", "1,2 × 10⁻⁷", "+36,3 %", "2.655 <small>(2.590–2.720)</small>", "12,3 %", "4,25"]),
        ("fr", ["12\u202f345,6", "1,2 × 10⁻⁷", "+36,3 %", "2\u202f655 <small>(2\u202f590–2\u202f720)</small>",
                "12,3 %", "4,25"]),
    ],
)  # fmt: skip
def test_every_way_to_write_a_figure_has_the_signs_of_the_language(chosen: str, figures: list[str]) -> None:
    with written_in(chosen):
        assert [
            fixed(12345.6, 1), number(1.2e-7, 2), signed_percent(1.363), span(2655, 2590, 2720, 4), percent(0.123),
            plain(4.25),
        ] == figures  # fmt: skip
    assert language() == "en"


@pytest.mark.parametrize(("chosen", "zero"), [("en", "0.0 %"), ("de", "0,0 %")])
def test_a_change_that_rounds_to_zero_has_no_sign(chosen: str, zero: str) -> None:
    with written_in(chosen):
        assert [signed_percent(x) for x in (1.0, 0.9996, 1.0004)] == [zero] * 3
        assert signed_percents(0.9996, 1.012) == f"{zero.removesuffix(' %')} to {signed_percent(1.012)}"
    assert [signed_percent(x) for x in (0.9994, 1.0006, 13.345)] == ["−0.1 %", "+0.1 %", "+1,234.5 %"]


def test_a_language_ends_with_its_block_whatever_happens() -> None:
    with written_in("de"):
        assert signed("1,234.5") == "1.234,5"
        with written_in("en"):
            assert number(0.5) == "0.500"
        with pytest.raises(ZeroDivisionError), written_in("fr"):
            1 / 0  # noqa: B018
        assert number(0.5) == "0,500"
    assert number(0.5) == "0.500"
    with pytest.raises(KeyError), written_in("it"):
        pass


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("12,345.6 (1,000–2,000.5) at 0.25, 2026-11-21", "12.345,6 (1.000–2.000,5) at 0,25, 2026-11-21"),
        ("-0.5 points (-1.2 to +0.3), recovery 99.2%", "-0,5 points (-1,2 to +0,3), recovery 99,2%"),
        ("Llama-3.1-8B with vLLM 0.20.2 at /v1/2.5", "Llama-3.1-8B with vLLM 0.20.2 at /v1/2.5"),
        ("1234.5 MiB; a list: 1, 2, 3.", "1234,5 MiB; a list: 1, 2, 3."),
    ],
)
def test_sentences_of_ours_have_them_too_and_names_do_not_change(words: str, shown: str) -> None:
    assert localized(words, "de") == shown
    assert localized(words, "en") == words


def test_load_points_are_figures(folder: Path) -> None:
    with written_in("de"):
        assert load_words("r2.5") == "2&#44;5 requests&#47;s"
        assert said("0.5 points") == "0&#44;5 points"
        assert load_words("0.5x") == "0&#46;5x"  # no load point: somebody's text, as it is


# -- Money -------------------------------------------------------------------------------------------------------------


def test_dollars_are_left_alone_and_another_currency_says_its_rate() -> None:
    assert (DOLLARS.sign, DOLLARS.hourly, DOLLARS.note(), DOLLARS.number(2.0)) == ("$", "$", "", "2.00")
    euros = Money(client.settings({"currency": EUR}).currency)
    assert (euros.sign, euros.hourly, euros.number(2.0), euros.number(None)) == ("EUR", "USD", "1.00", "–")
    assert euros.span(2.0, 1.0, 3.0) == "1.00 <small>(0.50–1.50)</small>"
    assert "0&#46;5 EUR for 1 USD" in euros.note()


def test_each_page_with_money_converts_it_and_says_the_rate_once(
    folder: Path, german: dict[str, str], english: dict[str, str]
) -> None:
    case = f"cases/{folder.name}"
    for uri in ("index.md", "cases/index.md", "costs/index.md", f"{case}/index.md", f"{case}/log/index.md"):
        assert german[uri].count(RATE) == 1, uri
        assert "$" not in re.sub(r"<script.*?</script>|data-spec='[^']*'", "", german[uri], flags=re.S), uri
        assert "for 1 USD" not in english[uri], uri
    view = CaseView(load(folder.parent).cases[0], Options())
    known = {(p.variant, p.workload, p.load): p for p in view.points if p.metric == "usd_per_1m_output_tokens"}
    p = known["fp8", "chat", f"c{max(int(load[1:]) for _, w, load in known if w == 'chat')}"]
    with written_in("de"):
        shown = span(p.value / 2, p.low / 2, p.high / 2)
    assert "," in shown
    assert shown in german[f"{case}/index.md"]
    assert "EUR / 1M output tokens" in german[f"{case}/index.md"]
    assert "EUR per 1K requests" in german[f"{case}/log/index.md"]
    assert "EUR per million output tokens" in german[f"{case}/index.md"]  # the chart's axis
    assert "USD an hour" in german[f"{case}/index.md"]  # a quoted price stays as it was quoted


def test_every_page_reads_the_same_but_for_the_signs(folder: Path, english: dict[str, str]) -> None:
    """Word by word, cell by cell: what is a figure has German signs, and nothing else does.

    Rows as they stand in files (data) and what was given literally (arguments, times, quoted sources) stay.
    """
    german, seen = pages(folder.parent, numbers="de"), 0
    for uri in (u for u in english if u.endswith("index.md") and "/data/" not in u):
        ours, theirs = words(english[uri]), words(german[uri])
        assert len(ours) == len(theirs), uri
        wrong = [
            (a, b) for a, b in zip(ours, theirs, strict=True) if localized(a, "de") != b and not _LITERAL.search(a)
        ]
        assert wrong == [], uri
        seen += sum(a != b for a, b in zip(ours, theirs, strict=True))
    assert seen > 1000
    case = f"cases/{folder.name}/index.md"
    assert re.search(r">\d\.\d{3}</text>", german[case])  # an axis of a chart: 2.000 tok/s
    assert re.search(r">\d,\d{3}</text>", english[case])


_LITERAL = re.compile(r"^--|\d{4}-\d\d(-\d\dT|$)|vLLM \d|github|huggingface")


def words(page: str) -> list[str]:
    """The words of a page between its tags, with names as they were before text() made them safe."""
    plain_ = re.sub(r"<(script|code|pre|style|svg)\b.*?</\1>|`[^`]*`|\]\([^)]*\)", " ", page, flags=re.S)
    return [" ".join(html.unescape(x).split()) for x in re.split(r"<[^>]*>|\n", plain_)]


def test_what_machines_read_is_the_same_in_every_language(
    folder: Path, german: dict[str, str], english: dict[str, str]
) -> None:
    same = [u for u in english if u.endswith((".json", ".txt", ".js")) and "/samples/" not in u]
    assert f"cases/{folder.name}/case.json" in same
    assert f"cases/{folder.name}/cards/fp8/README.md.txt" in same
    for uri in same:
        assert german[uri] == english[uri], uri
    figures = json.loads(german[f"cases/{folder.name}/case.json"])["figures"]
    assert {f["unit"] for f in figures if "usd" in f["key"]} == {"USD/1M output tokens"}


def test_the_calculator_is_told_the_currency_of_the_page(german: dict[str, str], english: dict[str, str]) -> None:
    def data(page: str) -> dict[str, object]:
        match = re.search(r'id="costs-data">(.*?)</script>', page)
        assert match is not None
        return dict(json.loads(match[1]))

    ours, theirs = data(german["costs/index.md"]), data(english["costs/index.md"])
    assert (ours["currency"], ours["rate"]) == ("EUR", 0.5)
    assert (theirs["currency"], theirs["rate"]) == ("USD", 1.0)
    assert ours["cases"] == theirs["cases"]  # dollars: the rate is applied where they are shown


def test_cases_made_in_other_processes_have_the_same_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LEAST", 2)
    for i in range(2):
        make_bundle(tmp_path / "results", name=f"case-{i}", only=("bf16",), seed=i)
    site = client.settings({"numbers": "de"})
    with monkeypatch.context() as patch:
        patch.setattr(build, "make_case", None)  # this process makes none itself
        made = generate(tmp_path / "results", Options.of(site), cache=tmp_path / "cache", processes=2)[1]
    found = {o.uri: str(o.data()) for o in made if o.uri.endswith("/index.md") and o.uri.count("/") == 2}
    assert len(found) == 2
    for uri, page in found.items():
        assert re.search(r"<td class=.num.>\d+,\d+", page), uri
        assert not re.search(r"<td class=.num.>\d+\.\d{1,2}[ <]", page), uri
    assert language() == "en"


def test_the_report_of_a_site_has_its_currency(folder: Path) -> None:
    case = load(folder.parent).cases[0]
    made = Options.of(client.settings({"currency": EUR}))
    page = html_document(CaseView(case, made))
    assert page.count("0&#46;5 EUR for 1 USD") == 1 or page.count("0.5 EUR for 1 USD") == 1
    assert "EUR / 1M output tokens" in page


def test_a_figure_that_cannot_be_had_is_a_dash_in_every_language() -> None:
    with written_in("fr"):
        assert number(None) == number(math.nan) == "–"
