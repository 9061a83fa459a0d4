"""What format 1 forbids: the contract of this version, and how it differs from the one that was frozen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from collector.bundle import imported, published
from collector.bundle.schema import TABLES, columns
from quantcase.pages import schemas

__all__ = ["breaches", "contract", "dumps"]

_WORDS = ("title", "description", "$schema")

# A study may gain keys and words for what is asked: an older version refuses them by name before anything is read.
_MAY_GROW = "study.toml"


def contract() -> dict[str, Any]:
    """Every table and document of the format as this version has them, as plain values."""
    tables = {}
    rows: dict[str, type[msgspec.Struct]] = {t.path: t.row for t in TABLES.values()}
    rows |= {imported.TABLE: imported.ImportedRow, published.TABLE: published.PublishedRow}
    for path, row in rows.items():
        [described] = msgspec.json.schema(row)["$defs"].values()
        tables[path] = [
            {
                "name": c.name, "type": c.kind, "unit": c.unit, "required": c.required, "decimals": c.decimals,
                "words": described["properties"][c.name].get("enum", []),
            }
            for c in columns(row)
        ]  # fmt: skip
    for s in schemas.others():
        tables[s.file] = [
            {"name": f["name"], "type": f["type"], "unit": f.get("unit", ""), "decimals": None,
             "required": f.get("constraints", {}).get("required", False),
             "words": f.get("constraints", {}).get("enum", [])}
            for f in s.schema["fields"]
        ]  # fmt: skip
    made: dict[str, Any] = {"tables": tables, "documents": {s.file: s.schema for s in schemas.documents()}}
    plain: dict[str, Any] = json.loads(json.dumps(_bare(made)))
    return plain


def _bare(value: Any) -> Any:
    """Without words for people, which may be put better."""
    if isinstance(value, list):
        return [_bare(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {k: _bare(v) for k, v in value.items() if not (isinstance(v, str) and k in _WORDS)}


def dumps(made: dict[str, Any]) -> str:
    """A contract as JSON, a table or document a line."""
    kinds = []
    for kind in ("tables", "documents"):
        lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(v, separators=(',', ':'))}" for n, v in made[kind].items())
        kinds.append(f' "{kind}": {{\n{lines}\n }}')
    return "{\n" + ",\n".join(kinds) + "\n}\n"


def breaches(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What the newer contract changed that format 1 forbids, each in a line; see docs/guide/bundle.md."""
    found = []
    for kind in ("tables", "documents"):
        found += [f"{name} is gone" for name in old[kind] if name not in new[kind]]
    for name, table in old["tables"].items():
        found += _columns(name, table, new["tables"].get(name, table))
    for name, document in old["documents"].items():
        now = new["documents"].get(name, document)
        found += _values(name, document, now, document["$defs"], now["$defs"], name == _MAY_GROW)
    return found


def _columns(table: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    names, now = [c["name"] for c in old], [c["name"] for c in new]
    yield from (f"{table}: column {n} is gone" for n in names if n not in now)
    if now[: len(names)] != names and set(names) <= set(now):
        yield f"{table}: the columns of format 1 come first, in their order"
    yield from (
        f"{table}: the new column {c['name']} is required" for c in new if c["name"] not in names and c["required"]
    )
    by_name = {c["name"]: c for c in new}
    for c in old:
        d = by_name.get(c["name"], c)
        for what in ("type", "unit", "required"):
            if c[what] != d[what]:
                yield f"{table}: {what} of {c['name']} was {c[what]!r} and is {d[what]!r}"
        if sorted(c["words"]) != sorted(d["words"]):
            yield f"{table}: the words of {c['name']} were {c['words']} and are {d['words']}"
        if c["decimals"] is not None and (d["decimals"] is not None and d["decimals"] < c["decimals"]):
            yield f"{table}: {c['name']} is written with fewer decimals"


def _values(
    where: str, old: Any, new: Any, olds: dict[str, Any], news: dict[str, Any], may_grow: bool
) -> Iterator[str]:
    """Two JSON Schemas, references followed: keys, types, what is required, words and bounds."""
    old, new = _followed(old, olds), _followed(new, news)
    if "anyOf" in old or "anyOf" in new:
        if len(old.get("anyOf", [])) != len(new.get("anyOf", [])):
            yield f"{where}: may be something else than it was"
            return
        for i, (a, b) in enumerate(zip(old["anyOf"], new["anyOf"], strict=True)):
            yield from _values(f"{where}({i})" if "$ref" in a else where, a, b, olds, news, may_grow)
        return
    if old.get("type") != new.get("type"):
        yield f"{where}: type was {old.get('type')!r} and is {new.get('type')!r}"
        return
    gone, came = (
        set(old.get("enum", [])) - set(new.get("enum", [])),
        set(new.get("enum", [])) - set(old.get("enum", [])),
    )
    if gone or (came and not may_grow):
        yield f"{where}: words changed ({', '.join(sorted(map(str, gone | came)))})"
    for bound in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "minLength", "maxLength", "pattern"):
        if old.get(bound) != new.get(bound):
            yield f"{where}: {bound} was {old.get(bound)} and is {new.get(bound)}"
    before, after = old.get("properties", {}), new.get("properties", {})
    yield from (f"{where}: {key} is gone" for key in before if key not in after)
    if set(old.get("required", [])) != set(new.get("required", [])):
        changed = sorted(set(old.get("required", [])) ^ set(new.get("required", [])))
        yield f"{where}: what is required changed ({', '.join(changed)})"
    closed = old.get("additionalProperties") is False
    if closed and not may_grow:
        yield from (f"{where}: {key} came to a closed document" for key in after if key not in before)
    for key in [k for k in before if k in after]:
        if "default" in before[key] and before[key]["default"] != after[key].get("default", ...):
            yield f"{where} {key}: what it means when it is left out changed"
        yield from _values(f"{where} {key}", before[key], after[key], olds, news, may_grow)
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
            yield from _values(f"{where}[]", old[inner], new[inner], olds, news, may_grow)
        elif isinstance(old.get(inner), dict) != isinstance(new.get(inner), dict):
            yield f"{where}: what it holds changed"
    if old.get("prefixItems") != new.get("prefixItems"):
        yield f"{where}: what it holds changed"


def _followed(schema: Any, named: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = named[schema["$ref"].rsplit("/", 1)[1]]
    found: dict[str, Any] = schema
    return found
