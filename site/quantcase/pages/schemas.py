"""The schemas of the bundle, published: a JSON Schema of every document, a Table Schema of every CSV.

Each has an address that stays: `schema/format-1/` and the file's own name without `.gz`, with `.json` behind it where
it does not end so. They are made from the types that this version reads and writes bundles with.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct

from collector.bundle import imported, published
from collector.bundle.answers import LikelihoodRow, Mark, QualityItem, QualityRow
from collector.bundle.co_location import CoLocation
from collector.bundle.manifest import table_schema
from collector.bundle.planned import Plan
from collector.bundle.predictions import Predictions
from collector.bundle.read import Study
from collector.bundle.redaction import Redacted
from collector.bundle.schema import FORMAT, TABLES, ClientFacts, Environment, Manifest
from collector.bundle.stress import StressRow
from quantcase.pages.view import render

__all__ = ["Schema", "documents", "files", "others", "page", "portable", "tables"]

_JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_TABLE_SCHEMA = "https://datapackage.org/profiles/2.0/tableschema.json"


@dataclass(frozen=True)
class Schema:
    """One published schema: of which file, what that holds in a sentence, and the schema itself."""

    file: str
    says: str
    schema: dict[str, Any]

    @property
    def address(self) -> str:
        """Where it stands, from `schema/` on."""
        name = self.file.removesuffix(".gz")
        return f"format-{FORMAT}/{name if name.endswith('.json') else f'{name}.json'}"


_DOCUMENTS: tuple[tuple[str, type[Struct], str], ...] = (
    ("datapackage.json", Manifest, "The manifest: format, grade, weights, status, and every file with its hash."),
    ("study.toml", Study, "What was asked: variants, workloads, quality suites, prices; the TOML read as an object."),
    ("environment.json", Environment, "Hardware and software of each session, without names or keys."),
    ("client.json", ClientFacts, "What the client saw of itself, one entry a cell and repeat."),
    ("quality_items.jsonl", QualityItem, "One line: one prompt of a suite, the same for every variant."),
    ("quality.jsonl", QualityRow, "One line: one answer of one server start to one item."),
    ("likelihood.jsonl.gz", LikelihoodRow, "One line: log-probabilities of one fixed text, in nats."),
    ("stress.jsonl", StressRow, "One line: one step of the stress test and what happened."),
    ("predictions.json", Predictions, "What a person expected of one variant before the run."),
    ("co_location.json", CoLocation, "One cell alone against the same cell beside other servers on the box."),
    ("planned.json", Plan, "The estimates of a study on a card before it is run: memory, time, cost."),
    ("imported.json", imported.ImportedDocument, "Which files of which tool were read, and what they do not say."),
    ("redacted.json", Redacted, "What a redacted copy lacks, and of which bundle it was made."),
)

_NUMBERS = {"Count": "integer", "Timestamp": "integer", "Occurrences": "integer", "%": "number"}
_LOCUST = {  # the columns that are read, of the many that Locust writes
    "loadtest_VARIANT_stats.csv": (
        "Locust's figures of a variant's load test, one row a step; times in ms.",
        ("Name", "Request Count", "Failure Count", "50%", "95%", "99%"),
    ),
    "loadtest_VARIANT_history.csv": (
        "Locust's counts of the load test, about one row a second.",
        ("Timestamp", "User Count", "Name", "Total Request Count", "Total Failure Count"),
    ),
    "loadtest_VARIANT_failures.csv": (
        "What went wrong in the load test, and how often.",
        ("Name", "Error", "Occurrences"),
    ),
}


def documents() -> list[Schema]:
    """The JSON Schemas of documents, and of one line of each JSONL file."""
    return [Schema(file, says, _json_schema(file, kind)) for file, kind, says in _DOCUMENTS]


def tables() -> list[Schema]:
    """The Table Schemas of every CSV."""
    said = {t.path: _sentence(t.holds) for t in TABLES.values()}
    said[imported.TABLE] = "Figures as another tool states them, each with its definition."
    said[published.TABLE] = "Figures as their source published them."
    fewer = {"fieldsMatch": "superset"}  # a bundle of before a column has the ones before it
    ours = [Schema(path, says, _table(path, {**(table_schema(path) or {}), **fewer})) for path, says in said.items()]
    return [*ours, *others()]


def others() -> list[Schema]:
    """The Table Schemas of CSVs that a person or Locust writes: matched by name, further columns are allowed."""
    marks = {
        "fields": [
            _field("variant", "string", "variant, as named in study.toml") | _REQUIRED,
            _field("prompt_id", "string", "the item that was answered") | _REQUIRED,
            _field("mark", "string", "what the person thinks of the answer")
            | {"constraints": {"required": True, "enum": list(get_args(get_type_hints(Mark)["mark"]))}},
            _field("remark", "string", "the person's own words; the column may be missing"),
        ],
        "fieldsMatch": "partial",
        "missingValues": [""],
    }
    found = [Schema("marks.csv", "A person's own judgement of single answers.", _table("marks.csv", marks))]
    for file, (says, names) in _LOCUST.items():
        schema = {
            "fields": [_field(name, _kind(name), "as Locust writes it") | _unit(name) for name in names],
            "fieldsMatch": "subset",
            "missingValues": ["", "N/A"],
        }
        found.append(Schema(file, says, _table(file, schema)))
    return found


def files() -> Iterator[tuple[str, str]]:
    """(path below `schema/`, text) of every published schema."""
    for s in [*documents(), *tables()]:
        yield s.address, json.dumps(s.schema, indent=1) + "\n"


def page() -> str:
    """The Markdown of `schema/index.md`."""
    return render("schemas.md.j2", format=FORMAT, documents=documents(), tables=tables())


_REQUIRED = {"constraints": {"required": True}}


def _field(name: str, kind: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "description": meaning}


def _kind(name: str) -> str:
    return next((kind for word, kind in _NUMBERS.items() if name.endswith(word)), "string")


def _unit(name: str) -> dict[str, str]:
    return {"unit": "ms"} if name.endswith("%") else {"unit": "s"} if name == "Timestamp" else {}


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _table(path: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": _TABLE_SCHEMA, "title": f"Quantcase {path}, format {FORMAT}", **schema}


def _json_schema(file: str, kind: type[Struct]) -> dict[str, Any]:
    made = msgspec.json.schema(kind)
    return {"$schema": _JSON_SCHEMA, "title": f"Quantcase {file}, format {FORMAT}", **portable(made)}


def portable(value: Any) -> Any:
    """The same schema for any validator: ECMA 262 has no `\\Z` in a pattern; docstrings without their indentation."""
    if isinstance(value, list):
        return [portable(v) for v in value]
    if not isinstance(value, dict):
        return value
    made = {k: portable(v) for k, v in value.items()}
    if isinstance(made.get("pattern"), str):
        made["pattern"] = made["pattern"].replace(r"\Z", "$")
    if isinstance(made.get("description"), str):
        made["description"] = inspect.cleandoc(made["description"])
    return made
