"""A client's site: made by a command, held to its options, and without what the client keeps to itself."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from collector.bundle.answers import QualityItem, QualityRow
from collector.bundle.answers_write import ITEMS, ROWS
from collector.bundle.check import check
from collector.bundle.manifest import resources, write
from collector.bundle.read import QuantcaseError, open_bundle
from collector.bundle.redaction import Wish, read_redacted, redacted_copy
from quantcase import client
from quantcase.analysis.quality import qualities
from quantcase.build import generate
from quantcase.catalog import Case
from quantcase.new_client import files, new_client
from quantcase.pages.view import CaseView, Options
from quantcase.redaction import case_view, redacted
from tests.makers import make_bundle
from tests.project import put_project
from tests.site.test_mkdocs import mkdocs

ROOT = Path(__file__).parents[2]
MARK = "zanzibar7marker"  # letters and digits alone: text() leaves it as it is


def marked_bundle(results: Path) -> Path:
    """A sound bundle with the marker in prompts, references, answers, errors, logs, notes and remarks."""
    folder = make_bundle(results, weights="real")
    items = [
        QualityItem(
            suite="exact", task=f"t{i % 2}", prompt_id=f"exact/{i}", prompt_sha256=f"{i:064x}", scorer="number",
            prompt=f"What is {MARK} {i}?", reference=f"{MARK} {i}", choices=[MARK],
        )
        for i in range(60)
    ]  # fmt: skip
    rows = [
        QualityRow(
            variant=v, start=r, repeat=r, suite="exact", task=i.task, prompt_id=i.prompt_id, output_tokens=3,
            prompt_sha256=i.prompt_sha256, output=f"{MARK} {n}", parsed=f"{MARK} {n}", tokens=[MARK, str(n)],
            top=[[MARK]], score=float(v != "awq" or n > 5), error=f"{MARK} refused" if n == 3 else None,
        )
        for v, r in (("bf16", 1), ("bf16", 2), ("fp8", 1), ("awq", 1))
        for n, i in enumerate(items)
    ]  # fmt: skip
    for name, lines in ((ITEMS, items), (ROWS, rows)):
        (folder / name).write_bytes(b"".join(msgspec.json.encode(x) + b"\n" for x in lines))
    (folder / "notes.md").write_text(f"# Notes\n\nWe saw {MARK} twice.\n")
    (folder / "marks.csv").write_text(f"variant,prompt_id,mark,remark\nfp8,exact/1,minor,{MARK}\n")
    (folder / "logs" / "bf16-1.log.gz").write_bytes(gzip.compress(f"prompt: {MARK}\n".encode()))
    variants = folder / "variants.csv"
    found = list(csv.DictReader(io.StringIO(variants.read_text())))
    found[1]["error"] = f"{MARK} at start"
    out = io.StringIO()
    writer = csv.DictWriter(out, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    variants.write_text(out.getvalue())
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    bundle = open_bundle(folder)
    bundle.manifest.resources = resources(folder)
    write(folder, bundle.manifest)
    assert [f for f in check(folder) if f.level == "error"] == []


def holding(folder: Path, mark: str) -> list[str]:
    """Files below a folder that hold the marker, packed ones opened."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        if mark.encode() in data:
            found.append(path.relative_to(folder).as_posix())
    return found


# -- The command ------------------------------------------------------------------------------------------------------


def test_new_client_makes_a_folder_and_never_writes_over_one(tmp_path: Path) -> None:
    (tmp_path / "mkdocs.yml").write_text("site_name: x\n")
    folder = make_bundle(tmp_path / "results")
    run = CliRunner()
    done = run.invoke(new_client, ["acme-labs", "--project", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    config = (tmp_path / "clients" / "acme-labs" / "mkdocs.yml").read_text()
    assert "INHERIT: ../../mkdocs.yml" in config
    assert f"cases: [{folder.name}]" in config
    assert "Prepared for Acme Labs only" in config
    assert (tmp_path / "clients/acme-labs/docs/assets/logo.svg").read_text().startswith("<svg")
    (tmp_path / "clients/acme-labs/mkdocs.yml").write_text("mine")
    again = run.invoke(new_client, ["acme-labs", "--project", str(tmp_path)])
    assert isinstance(again.exception, QuantcaseError)
    assert "is there already" in str(again.exception)
    assert (tmp_path / "clients/acme-labs/mkdocs.yml").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "Acme", "../up", "a/b", "a b", "-a", "a-", "x" * 41, "con", ".git", "a\n"])
def test_a_name_that_is_no_folder_and_no_address_is_refused(name: str) -> None:
    with pytest.raises(QuantcaseError, match="cannot be a client's name"):
        files(name, [])


def test_the_example_is_what_the_command_makes() -> None:
    for path, content in files("example", ["2026-11-21-h200-h200-shape"]).items():
        assert (ROOT / "clients" / "example" / path).read_text() == content


# -- The options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prices": {"h200": "free"}}, "prices.h200 must be USD per hour"),
        ({"prices": {"h200": True}}, "prices.h200 must be USD per hour"),
        ({"prices": {"h2000": 3.0}}, "prices.h2000: no GPU profile"),
        ({"currency": "EUR"}, "currency.EUR needs its rate"),
        ({"currency": {"code": "EUR", "rate": 0.92}}, "source and date"),
        ({"currency": {"code": "euro"}}, "currency"),
        ({"currency": {"code": "EUR", "rate": -1}}, "currency.rate"),
        ({"currency": {"code": "USD", "rate": 2}}, "rate of USD is 1"),
        ({"currency": {"code": "EUR", "rate": float("inf"), "source": "ECB", "date": "d"}}, "currency.rate"),
        ({"numbers": "it"}, "numbers"),
        ({"redact": ["prompts"]}, "redact"),
        ({"colours": {"primary": "red;} body{"}}, "no colour"),
        ({"colours": {"ink": "#000000"}}, "colours"),
        ({"leave_out": ["index.md"]}, "cannot be left out"),
        ({"leave_out": "guide/*"}, "leave_out"),
        ({"clinet": "x"}, "clinet"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(options: dict[str, Any], says: str) -> None:
    with pytest.raises(QuantcaseError) as e:
        client.settings(options)
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def test_options_are_read_as_they_are_written() -> None:
    made = client.settings(
        {"redact": True, "confidential": True, "currency": {"code": "EUR", "rate": 0.92, "source": "ECB", "date": "d"}}
    )
    assert made.redact == ["texts", "logs", "notes"]
    assert made.confidential_line == "Confidential. Not to be passed on without leave."
    assert "0&#46;92 EUR for 1 USD" in made.currency.words()
    assert client.settings({"currency": "USD"}).currency.words() == ""
    assert client.settings({}).confidential_line == ""
    line = client.confidential_html(client.settings({"client": "A<b>", "confidential": "Only  for you\n"}))
    assert line == '<p class="qc-confidential">For A&#60;b&#62;&#46; Only for you</p>'.replace("&#46; Only", ". Only")


@pytest.mark.parametrize(("colour", "words"), [("#12344a", "#ffffff"), ("#ffe08a", "#000000")])
def test_words_on_the_clients_colour_are_legible(colour: str, words: str) -> None:
    assert f"--md-primary-bg-color: {words}" in client.brand_css(client.settings({"colours": {"primary": colour}}))


# -- Redaction --------------------------------------------------------------------------------------------------------


def test_a_redacted_copy_is_sound_and_holds_no_word_of_it(tmp_path: Path) -> None:
    folder = marked_bundle(tmp_path / "results")
    assert len(holding(folder, MARK)) == 6
    copy = redacted(folder, client.KINDS, tmp_path / "home")
    assert [f for f in check(copy) if f.level == "error"] == []
    assert holding(tmp_path / "home", MARK) == []
    assert redacted(folder, client.KINDS, tmp_path / "home") == copy  # kept
    other = redacted(folder, client.KINDS, tmp_path / "elsewhere")
    for path in sorted(copy.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (other / path.relative_to(copy)).read_bytes(), path
    kept = redacted(folder, ["logs"], tmp_path / "home")
    assert holding(kept, MARK) == ["marks.csv", "notes.md", "quality.jsonl", "quality_items.jsonl"]
    assert holding(redacted(folder, ["texts"], tmp_path / "home"), MARK) == ["notes.md"]


def test_there_is_one_way_to_take_texts_out(tmp_path: Path) -> None:
    """The copy is one of `collect redact`: it says so, and a copy of it lacks what it lacks."""
    folder = marked_bundle(tmp_path / "results")
    copy = redacted(folder, client.KINDS, tmp_path / "home")
    said = read_redacted(copy)
    assert said is not None
    assert said.source_manifest_sha256 == open_bundle(folder).info.manifest_sha256
    own, _ = redacted_copy(folder, tmp_path / "own", Wish(texts=True, columns=("cells.ttft_ms_p99",)))
    again = read_redacted(redacted(own, ["logs"], tmp_path / "home"))
    assert again is not None
    assert (again.texts, again.columns) == (True, ["cells.ttft_ms_p99"])


def test_the_salt_is_nowhere_and_other_bytes_give_other_marks(tmp_path: Path) -> None:
    folder = marked_bundle(tmp_path / "results")
    before = sorted(Path(tempfile.gettempdir()).glob("quantcase-salt-*"))
    first = redacted(folder, ["texts"], tmp_path / "home")
    assert sorted(Path(tempfile.gettempdir()).glob("quantcase-salt-*")) == before
    (folder / "notes.md").write_text("another word")
    seal(folder)
    second = redacted(folder, ["texts"], tmp_path / "home")
    marks = [{r.output for r in open_bundle(copy).quality()} for copy in (first, second)]
    assert len(marks[0]) == len(marks[1]) == 60
    assert not marks[0] & marks[1]


def test_what_is_equal_stays_equal_and_every_figure_stays(tmp_path: Path) -> None:
    folder = marked_bundle(tmp_path / "results")
    whole = open_bundle(folder)
    before = CaseView(Case(whole, whole.study(), []), Options())
    copy = open_bundle(redacted(folder, client.KINDS, tmp_path / "home"))
    case = Case(copy, copy.study(), [])
    after = case_view(case, Options(site=client.settings({"redact": True})))
    assert after.quality == before.quality
    assert after.quality_verdicts == before.quality_verdicts
    assert after.points == before.points
    rows = case.answers["fp8", 1]
    assert rows["exact/1"].output == case.answers["awq", 1]["exact/1"].output != rows["exact/2"].output
    assert rows["exact/1"].parsed == case.quality_items["exact/1"].reference
    assert [q.accuracy for q in qualities(case)] == [q.accuracy for q in before.quality]


def test_a_bundle_with_faults_is_not_redacted(tmp_path: Path) -> None:
    folder = marked_bundle(tmp_path / "results")
    (folder / "notes.md").write_text("changed")
    with pytest.raises(QuantcaseError, match="cannot be redacted"):
        redacted(folder, client.KINDS, tmp_path / "home")
    open_run = marked_bundle(tmp_path / "others")
    bundle = open_bundle(open_run)
    bundle.manifest.quantcase.status = "interrupted"
    write(open_run, bundle.manifest)
    with pytest.raises(QuantcaseError, match="its run is not finished") as e:
        redacted(open_run, client.KINDS, tmp_path / "home")
    assert "leave it out with `cases:`" in e.value.fix


def test_no_generated_file_holds_what_is_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    marked_bundle(tmp_path / "results")
    shown = [o for o in generate(tmp_path / "results", Options())[1] if MARK in str(o.data())]
    assert len(shown) > 3  # the marker is found where nothing is withheld
    for output in generate(tmp_path / "results", Options(site=client.settings({"redact": True})))[1]:
        data = output.data()
        raw = data.encode() if isinstance(data, str) else data
        assert MARK.encode() not in (gzip.decompress(raw) if output.uri.endswith(".gz") else raw), output.uri
        assert "/samples/" not in output.uri
        if output.uri.endswith("/quality/index.md"):
            assert str(data).count("The texts were taken out: prompts, references and answers are not shown") == 1
            assert "qc-samples" not in str(data)


def test_the_built_site_of_a_client_holds_nothing_of_it_and_says_for_whom_it_is(tmp_path: Path) -> None:
    folder = marked_bundle(tmp_path / "results")
    put_project(tmp_path)
    CliRunner().invoke(new_client, ["acme", "--project", str(tmp_path)], catch_exceptions=False)
    made = mkdocs("build", "--strict", "-f", "clients/acme/mkdocs.yml", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    site = tmp_path / "public" / "clients" / "acme"
    assert holding(site, MARK) == []
    assert not (site / "guide").exists()
    assert not (site / "cases" / folder.name / "notes").exists()
    pages = [p for p in site.rglob("*.html") if p.name != "404.html"]
    assert len(pages) > 8
    for page in pages:
        assert (
            "Confidential&#46; Prepared for Acme only" in page.read_text()
            or "Prepared for Acme only" in page.read_text()
        )
    assert "--md-primary-fg-color: #12344a" in (site / "assets" / "brand.css").read_text()
    assert "assets/logo.svg" in (site / "index.html").read_text()


def test_the_new_clients_config_is_read_by_the_options() -> None:
    config = yaml.safe_load(files("acme", ["a-case"])["mkdocs.yml"])
    made = client.settings(config["plugins"]["quantcase"])
    assert (made.client, made.cases, made.redact) == ("Acme", ["a-case"], list(client.KINDS))
