"""llms.txt and the published schema: what they promise is what the site writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from quantcase.analysis.figures import case_document
from quantcase.catalog import load
from quantcase.pages import llms
from quantcase.pages.case import case_json
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle
from tests.real import RESULTS
from tests.site.test_history import small

ENTRY = re.compile(r"- \[((?:\\.|[^\]\\])+)\]\(([^()\s]+)\): \S.*")


@pytest.fixture(scope="module")
def real() -> list[CaseView]:
    """The project's own bundles."""
    return [CaseView(c, Options()) for c in load(RESULTS).cases]


def document(view: CaseView) -> dict[str, Any]:
    """case.json as it stands on the site."""
    made = case_document(view.case, view.points, view.quality, view.quality_verdicts)
    read = json.loads(case_json(made))
    assert isinstance(read, dict)
    return read


def closed(schema: Any) -> Any:
    """The same schema, refusing every key that it does not describe."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {k: closed(v) for k, v in schema.items()}
    return {"additionalProperties": False, **inner} if "properties" in inner and "required" in inner else inner


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json.loads(llms.schema()))


def test_every_real_case_json_is_valid_and_holds_no_key_that_the_schema_does_not_describe(real: list[CaseView]) -> None:
    strict = Draft202012Validator(closed(llms.case_schema()))
    assert len(real) >= 3
    for view in real:
        made = document(view)
        assert [e.message for e in strict.iter_errors(made)] == [], view.case.id
        assert set(made) == set(llms.case_schema()["properties"])
    assert any(document(v)["quality"] for v in real)  # the CPU bundle's answers were judged: verdicts are checked, too


@pytest.mark.parametrize(
    ("change", "where"),
    [({"grade": "invented"}, "grade"), ({"figures": [{"key": "x"}]}, "figures"), ({"weights": 3}, "weights"),
     ({"generated_from": {}}, "generated_from")],
)  # fmt: skip
def test_the_schema_refuses_what_is_no_case_json(real: list[CaseView], change: dict[str, Any], where: str) -> None:
    errors = list(Draft202012Validator(llms.case_schema()).iter_errors({**document(real[0]), **change}))
    assert errors
    assert {e.absolute_path[0] for e in errors} == {where}


def test_a_later_key_breaks_no_reader(real: list[CaseView]) -> None:
    made = {**document(real[0]), "later": 1}
    assert Draft202012Validator(llms.case_schema()).is_valid(made)


def test_llms_txt_has_the_form_of_llmstxt_org(real: list[CaseView]) -> None:
    lines = llms.page(real, Options()).splitlines()
    assert lines[0] == "# Quantcase"
    assert sum(line.startswith("# ") for line in lines) == 1
    assert next(line for line in lines[1:] if line).startswith("> ")
    assert [line for line in lines if line.startswith("## ")] == [
        "## Cases", "## Figures as JSON", "## How to read them", "## Optional",
    ]  # fmt: skip
    entries = [line for line in lines[lines.index("## Cases") :] if line and not line.startswith("## ")]
    assert all(ENTRY.fullmatch(line) for line in entries)


def test_every_case_its_figures_and_the_schema_are_linked(real: list[CaseView]) -> None:
    page = llms.page(real, Options())
    links = [m[2] for m in map(ENTRY.fullmatch, page.splitlines()) if m]
    for view in real:
        assert f"cases/{view.case.id}/" in links
        assert f"cases/{view.case.id}/case.json" in links
    assert "schema/case-1.json" in links
    grades = {v.case.id: v.case.bundle.info.grade for v in real}
    for case, grade in grades.items():
        assert re.search(rf"\(cases/{case}/\): {grade}, ", page)


def test_a_hostile_title_makes_no_link_heading_or_line(tmp_path: Path) -> None:
    bad = "x](https://evil.example) \u202e<script>\x00\n# New heading\n- [a](b): c " + "y" * 500
    make_bundle(tmp_path, asked=msgspec.structs.replace(small(), title=bad))
    (case,) = load(tmp_path).cases
    page = llms.page([CaseView(case, Options())], Options())
    (line,) = (x for x in page.splitlines() if "evil" in x)
    match = ENTRY.fullmatch(line)
    assert match is not None
    assert match[2] == f"cases/{case.id}/"
    assert "\u202e" not in page
    assert "\x00" not in page
    assert len(match[1]) < 300


def test_the_client_and_an_empty_site_are_told() -> None:
    page = llms.page([], Options(client="Acme [Ltd]", confidential=True))
    assert r"Prepared for Acme \[Ltd\]. Confidential." in page
    assert "There is no case yet." in page
