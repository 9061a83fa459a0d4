"""Damage by a seed: to bytes, and to a bundle as one who knows its format would do it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from collector.bundle import manifest

__all__ = ["DAMAGES", "MARKERS", "bits", "damage_bundle"]

# What must never stand on a page as it is: HTML, Markdown, Jinja, a script of a link.
MARKERS = ("<img src=x onerror=qcx()>", "{{7*191}}", "[qcx](javascript:qcx)", "</script><script>qcx()", "{% qcx %}")
WORDS = (
    *MARKERS, "", " ", "../../qcx", "/etc/passwd", "\x00", "\x1b[2J", "\u202egpj.exe", "\ud800", "é" * 50, "x" * 70_000,
    "a\nb", "\u2028", "NaN", "inf", "-inf", "1e999", "1e308", "-1", "0", "-0.0", "1e-320", "9" * 400, "1_000", "0x10",
    "true", "null", "c0", "c999999999999999999999", "r0", "r1e308", "ramp1-2", "ramp..-1", "trace", "=1+1",
    "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+23:59", "2026-11-21T00:00:00", "٣", "²",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, "", -1, 0, 1, 0.5, -0.5, 1e308, 1e-320, 2**31, 2**63, 2**64, 10**30, [], {}, [[]], [None],
    {"a": {"b": []}}, [1, "a"], *MARKERS, "../../qcx", "/etc/passwd", "\ud800", "\x00", "x" * 70_000,
)  # fmt: skip
DEEP = ("[" * 100_000, '{"a":' * 50_000, "[" * 900 + "]" * 900, '{"quantcase":' + "[" * 5_000 + "]" * 5_000 + "}")
BITS = (
    b"", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\n", b"\r", b"\r\n", b",", b'"', b"\\", b"{", b"[", b"}", b"]",
    b"NaN", b"-1", b"1e999", b"9" * 400, b"null", b"\\ud800", b"\xe2\x80\xae", b"data: ", b"0\r\n\r\n", b"-5\r\n",
    b"ffffffffffffffff\r\n", b"<script>", b"{{7*7}}", b"PK\x01\x02", b"../", b" = ", b'"""', b"[[variants]]",
)  # fmt: skip

TOML = (
    "0", "-1", "1e308", "nan", "inf", '""', "[]", "{}", "[1, 1]", "[[]]", "9" * 400, "1979-05-27", "true", "[" * 3000,
    *(json.dumps(w) for w in WORDS[:12]),
)  # fmt: skip

Damage = Callable[[Path, random.Random], str]


def bits(data: bytes, rng: random.Random, most: int = 4) -> bytes:
    """A few places of the bytes flipped, cut, doubled, moved, or replaced by what a parser may trip over."""
    made = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(made) + 1)
        length = rng.choice((0, 1, 1, 2, 5, 20, 200))
        piece = bytes(made[at : at + length])
        match rng.randrange(6):
            case 0 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                del made[at : at + length]
            case 2:
                made[at:at] = piece * rng.choice((1, 2, 50))
            case 3:
                to = rng.randrange(len(made) + 1)
                made[to:to] = piece
            case 4 if rng.random() < 0.2:
                del made[at:]
            case _:
                made[at : at + length] = rng.choice(BITS)
    return bytes(made)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _read(path: Path) -> bytes:
    """A file's bytes, unpacked where it is packed; what is torn already gives what is readable."""
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return data


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, compresslevel=1, mtime=0) if path.suffix == ".gz" else data)


def flip(folder: Path, rng: random.Random) -> str:
    path = rng.choice(_files(folder))
    path.write_bytes(bits(path.read_bytes(), rng))
    return f"bytes of {path.name}"


def garble(folder: Path, rng: random.Random) -> str:
    """Bytes inside a packed file, too."""
    path = rng.choice(_files(folder))
    _write(path, bits(_read(path), rng))
    return f"contents of {path.name}"


def remove(folder: Path, rng: random.Random) -> str:
    path = rng.choice(_files(folder))
    path.unlink()
    return f"{path.name} removed"


def empty(folder: Path, rng: random.Random) -> str:
    path = rng.choice(_files(folder))
    path.write_bytes(rng.choice((b"", b"\n", b"\xff\xfe", b"\x1f\x8b", b"null\n")))
    return f"{path.name} emptied"


def truncate(folder: Path, rng: random.Random) -> str:
    path = rng.choice(_files(folder))
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])
    return f"{path.name} cut off"


def _tables(folder: Path) -> list[Path]:
    return [p for p in _files(folder) if ".csv" in p.name]


def _rows(path: Path) -> list[list[str]]:
    text = _read(path).decode("utf-8", "replace")
    csv.field_size_limit(1 << 24)
    return [r for r in csv.reader(io.StringIO(text.replace("\x00", ""), newline="")) if r]


def _put(path: Path, rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    _write(path, out.getvalue().encode("utf-8", "surrogatepass"))


def rows_moved(folder: Path, rng: random.Random) -> str:
    path = rng.choice(_tables(folder))
    head, *rows = _rows(path) or [[]]
    if not rows:
        return f"{path.name} has no rows"
    match rng.randrange(5):
        case 0:
            rng.shuffle(rows)
        case 1:
            rows += rng.choices(rows, k=3)
        case 2:
            rows = rng.sample(rows, rng.randrange(len(rows)))
        case 3:
            rows = []
        case _:
            rows = rows * 5
    _put(path, [head, *rows])
    return f"rows of {path.name}"


def cells_changed(folder: Path, rng: random.Random) -> str:
    """One cell, or a whole column, so that figures agree with each other and still cannot be."""
    path = rng.choice(_tables(folder))
    head, *rows = _rows(path) or [[]]
    if not rows or not head:
        return f"{path.name} has no rows"
    column = rng.randrange(len(head))
    word = rng.choice(WORDS)
    for row in rows if rng.random() < 0.5 else [rng.choice(rows)]:
        if column < len(row):
            row[column] = word
    _put(path, [head, *rows])
    return f"{head[column]} of {path.name} is {word[:30]!r}"


def columns_changed(folder: Path, rng: random.Random) -> str:
    path = rng.choice(_tables(folder))
    rows = _rows(path)
    if not rows or len(rows[0]) < 2:
        return f"{path.name} has no columns"
    a, b = rng.sample(range(len(rows[0])), 2)
    name = rows[0][a]
    if rng.random() < 0.5:
        rows = [[v for i, v in enumerate(r) if i != a] for r in rows]
    else:
        for r in rows:
            if max(a, b) < len(r):
                r[a], r[b] = r[b], r[a]
    _put(path, rows)
    return f"column {name} of {path.name}"


def numbers_scaled(folder: Path, rng: random.Random) -> str:
    """A column of numbers, in all tables that have it: zero, tiny, huge, negative, all alike."""
    tables = _tables(folder)
    heads = [name for p in tables for name in (_rows(p) or [[]])[0]]
    name = rng.choice(sorted(set(heads))) if heads else ""
    factor = rng.choice((0.0, -1.0, 1e-30, 1e30, 1e300, None))
    for path in tables:
        head, *rows = _rows(path) or [[]]
        if name in head:
            at = head.index(name)
            for row in rows:
                if at < len(row) and re.fullmatch(r"-?\d+(\.\d+)?", row[at]):
                    number = 5.0 if factor is None else float(row[at]) * factor
                    row[at] = str(int(number)) if "." not in row[at] and abs(number) < 1e15 else repr(number)
            _put(path, [head, *rows])
    return f"{name} everywhere times {factor}"


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*at, key)
        yield from _places(below, (*at, key))


def _json_changed(document: Any, rng: random.Random) -> str:
    places = list(_places(document))
    if not places:
        return "nothing"
    *path, last = rng.choice(places)
    held = document
    for key in path:
        held = held[key]
    if rng.random() < 0.2:
        del held[last]
        return f"{last} removed"
    held[last] = rng.choice(VALUES)
    return f"{last} is {str(held[last])[:30]!r}"


def json_changed(folder: Path, rng: random.Random) -> str:
    """A value of a document, or of one line of a file of lines."""
    path = rng.choice([p for p in _files(folder) if ".json" in p.name] or _files(folder))
    lines = _read(path).split(b"\n") if ".jsonl" in path.name else [_read(path)]
    at = rng.randrange(len(lines))
    if rng.random() < 0.05:
        _write(path, rng.choice(DEEP).encode())
        return f"{path.name} is nested deep"
    try:
        document = json.loads(lines[at])
    except (ValueError, RecursionError):
        return f"{path.name} is no JSON"
    said = _json_changed(document, rng)
    lines[at] = json.dumps(document).encode()
    _write(path, b"\n".join(lines))
    return f"{path.name}: {said}"


def study_changed(folder: Path, rng: random.Random) -> str:
    path = folder / "study.toml"
    if not path.is_file():
        return "study.toml is gone"
    lines = path.read_text("utf-8", "replace").split("\n")
    at = rng.randrange(len(lines))
    key, sign, _ = lines[at].partition(" = ")
    word = rng.choice(TOML)
    match rng.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, rng.choice(lines))
        case _ if sign:
            lines[at] = f"{key} = {word}"
    path.write_text("\n".join(lines), "utf-8", "replace")
    return f"study.toml: {lines[min(at, len(lines) - 1)][:60] if lines else ''!r}"


def renamed(folder: Path, rng: random.Random) -> str:
    """One name (of a variant, a workload, a suite) changed in every file, so that all still agree."""
    names = re.findall(r'^name = "([a-z0-9._-]+)"', _text(folder / "study.toml"), flags=re.M)
    if not names:
        return "no names"
    old = rng.choice(names)
    new = rng.choice(
        ("con", "a..b", "0", "index.md", "readme.md", "a" * 40, "x-", "1e5", "nan", "none", "null", "-", ".")
    )
    for path in _files(folder):
        data = _read(path)
        _write(path, re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w.-])".encode(), new.encode(), data))
    return f"{old} is called {new}"


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""


def strangers(folder: Path, rng: random.Random) -> str:
    """Files that are no plain files, or of hostile names."""
    what = rng.randrange(6)
    victim = rng.choice(_files(folder))
    match what:
        case 0:
            victim.unlink()
            victim.symlink_to("/etc/hostname")
        case 1:
            victim.unlink()
            victim.mkdir()
        case 2:
            victim.unlink()
            os.mkfifo(victim)
        case 3:
            (folder / "loop").symlink_to(folder)
        case 4:
            name = rng.choice((b"<img src=x>", b"a\nb", b"\xff\xfe", "\u202ex".encode(), b"x" * 200, b"{{7*191}}.csv"))
            Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"x")
        case _:
            os.truncate(victim, 3_000_000)
    return f"stranger {what} at {victim.name}"


def manifest_forged(folder: Path, rng: random.Random) -> str:
    """A manifest with a right hash that points elsewhere."""
    try:
        found = manifest.read(folder)
    except Exception as e:  # noqa: BLE001 - damaged already: nothing to forge
        return f"no manifest: {type(e).__name__}"
    path = rng.choice(
        ("../../qcx", "/etc/hostname", "..", "", "a/../../../etc/hostname", "logs", "\x00", "C:\\x", *MARKERS)
    )
    match rng.randrange(3):
        case 0 if found.resources:
            rng.choice(found.resources).path = path
        case 1 if found.resources:
            found.resources += [rng.choice(found.resources)] * 3
        case _:
            found.created = rng.choice(
                ("now", "", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-23:59", "2026-11-21")
            )
            found.title, found.name = rng.choice(MARKERS), rng.choice(MARKERS)
    manifest.write(folder, found)
    return f"the manifest names {path!r}"


DAMAGES: tuple[Damage, ...] = (
    flip, garble, garble, remove, empty, truncate, rows_moved, rows_moved, cells_changed, cells_changed, cells_changed,
    columns_changed, numbers_scaled, numbers_scaled, json_changed, json_changed, study_changed, study_changed, renamed,
    strangers, manifest_forged,
)  # fmt: skip


def damage_bundle(folder: Path, rng: random.Random) -> list[str]:
    """One to three kinds of damage, told in words."""
    return [rng.choice(DAMAGES)(folder, rng) for _ in range(rng.choice((1, 1, 2, 3))) if _files(folder)]
