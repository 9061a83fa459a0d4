"""What was generated is kept: by what it is known, when it is made anew, and that it is the same either way."""

from __future__ import annotations

import builtins
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from collector.bundle import read as bundle_reader
from collector.bundle.read import open_bundle
from collector.study import loads
from quantcase import build, cache, workers
from quantcase.build import generate
from quantcase.cache import Entry, Store, key_of
from quantcase.charts import figure
from quantcase.pages.view import Options
from tests.makers import STUDY, make_bundle

Made = dict[str, str | bytes]
# One workload, two loads: what is kept and when does not depend on how much it is.
SMALL = loads(STUDY.format(weights="real").split('[[workloads]]\nname = "batch"')[0].replace("[1, 8, 16]", "[1, 8]"))
SMALL.repeats = 2


def made(results: Path, kept: Path | None, options: Options | None = None, processes: int = 1) -> Made:
    _, outputs = generate(results, options or Options(), cache=kept, processes=processes)
    return {o.uri: o.data() for o in outputs}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Made]:
    """Two bundles, built once with a cache: their folder, the cache, and what was made."""
    home = tmp_path_factory.mktemp("once")
    for i, name in enumerate(("one", "two")):
        make_bundle(home / "results", name=name, asked=SMALL, only=("bf16", "awq"), seed=i)
    time.sleep(0.1)  # files that are being written are not trusted to be what they were
    return home / "results", home / "cache", made(home / "results", home / "cache")


@pytest.fixture
def copy(once: tuple[Path, Path, Made], tmp_path: Path) -> tuple[Path, Path, Made]:
    """The same, to be changed."""
    shutil.copytree(once[0], tmp_path / "results")
    shutil.copytree(once[1], tmp_path / "cache")
    time.sleep(0.1)
    return tmp_path / "results", tmp_path / "cache", once[2]


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What is done while it is watched: charts drawn, tables read, cases made. The work itself is not replaced."""
    seen: dict[str, list[str]] = {"charts": [], "tables": [], "cases": []}

    def watch(module: Any, name: str, what: str, of: Callable[..., str]) -> None:
        real = getattr(module, name)

        def watched(*args: Any, **more: Any) -> Any:
            seen[what].append(of(*args))
            return real(*args, **more)

        monkeypatch.setattr(module, name, watched)

    watch(figure, "_draw", "charts", lambda spec, *_: spec[:20])
    watch(bundle_reader, "read_text", "tables", lambda path: f"{path.parent.name}/{path.name}")
    watch(build, "make_case", "cases", lambda _, folder, *__: folder.name)
    return seen


def test_with_and_without_a_cache_the_same_is_made(once: tuple[Path, Path, Made]) -> None:
    assert made(once[0], None) == once[2]


def test_a_rebuild_where_nothing_changed_draws_no_chart_and_opens_no_file_of_a_bundle(
    once: tuple[Path, Path, Made], worked: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(once[0], once[1])  # by now every file has been at rest
    opened = []
    real = Path.open

    def opening(self: Path, *args: Any, **more: Any) -> Any:
        opened.append(self)
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "open", opening)
    plain = builtins.open

    def opening_plainly(file: Any, *args: Any, **more: Any) -> Any:
        opened.append(Path(str(file)))
        return plain(file, *args, **more)

    monkeypatch.setattr(builtins, "open", opening_plainly)
    _, outputs = generate(once[0], Options(), cache=once[1])
    again = {o.uri: o.data() for o in outputs if o.source is None}
    assert [p for p in opened if p.is_relative_to(once[0])] == []
    assert worked == {"charts": [], "tables": [], "cases": []}
    assert again == {uri: data for uri, data in once[2].items() if uri in again}
    assert len(again) > 40


@pytest.mark.parametrize("name", ["notes.md", "marks.csv"])
def test_an_edited_file_makes_its_own_case_anew_and_reads_no_table_of_another(
    copy: tuple[Path, Path, Made], worked: dict[str, list[str]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, kept, before = copy
    path = results / "one" / name
    words = "## What I learned\n\nseen at once\n" if name == "notes.md" else "variant,prompt_id,mark,note\n"
    path.write_text(words)
    after = made(results, kept)
    assert worked["cases"] == ["one"]
    assert {t.split("/")[0] for t in worked["tables"]} == {"one"}
    changed = {uri for uri, data in after.items() if data != before.get(uri)}
    if name == "notes.md":  # not to be sealed yet is no fault of the figures: verdicts stand
        version = f"versions/{open_bundle(results / 'one').info.manifest_sha256[:12]}/"
        pages = {f"cases/one/{p}index.md" for p in ("", "data/", "notes/", version)}
        assert {u for u in changed if u.endswith(".md")} == pages
    assert "cases/one/index.md" in changed  # of marks that are not sealed its page says so
    assert not [uri for uri in changed if uri.startswith("cases/two/")]
    assert after == made(results, None)
    path.write_text(f"{words}\n")  # the fault is the same now: of a note, only the pages that show it are made
    with monkeypatch.context() as patched:
        if name == "notes.md":  # no page across cases quotes it but the summary: they are not made again
            patched.setattr(build, "_across", None)
        again = made(results, kept)
    assert again == made(results, None)


def test_a_case_that_changed_before_it_was_made_is_not_kept_as_what_it_was(
    copy: tuple[Path, Path, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, kept, before = copy
    notes = results / "one" / "notes.md"
    was, real = notes.read_text(), build.make_case
    for passing in ("passing 1", "passing 2"):  # of the same length

        def late(store: Store, folder: Path, key: str, options: Options, words: str = passing) -> Entry:
            notes.write_text(f"## What I learned\n\n{words}\n")
            return real(store, folder, key, options)

        notes.write_text(f"## What I learned\n\nbefore {passing}\n")
        with monkeypatch.context() as patched:
            patched.setattr(build, "make_case", late)
            _, outputs = generate(results, Options(), cache=kept)
            page = next(o for o in outputs if o.uri == "cases/one/notes/index.md")
        assert passing in str(page.data())
        notes.write_text(f"## What I learned\n\nbefore {passing}\n")
        assert f"before {passing}" in str(made(results, kept)["cases/one/notes/index.md"])
    notes.write_text(was)
    assert made(results, kept) == before


def test_a_cache_that_is_emptied_between_two_edits_is_filled_again(copy: tuple[Path, Path, Made]) -> None:
    results, kept, _ = copy
    for words in ("first", "second"):
        (results / "one" / "notes.md").write_text(f"## What I learned\n\n{words}\n")
        if words == "second":
            shutil.rmtree(kept)
        after = made(results, kept)
    assert "second" in str(after["cases/one/notes/index.md"])


def test_a_change_that_keeps_size_and_time_is_seen(copy: tuple[Path, Path, Made]) -> None:
    results, kept, _ = copy
    path = results / "one" / "cells.csv"
    state = path.stat()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"chat", b"chaT", 1))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert "This bundle has faults" in str(made(results, kept)["cases/one/index.md"])


def test_a_fresh_copy_of_the_same_bytes_is_no_change(
    copy: tuple[Path, Path, Made], worked: dict[str, list[str]]
) -> None:
    for path in (copy[0] / "two").rglob("*"):
        os.utime(path)
    assert made(copy[0], copy[1]) == copy[2]
    assert worked["cases"] == []


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:], bytes])
def test_a_broken_entry_is_made_anew(
    copy: tuple[Path, Path, Made], worked: dict[str, list[str]], damage: Callable[[bytes], bytes]
) -> None:
    results, kept, before = copy
    for path in [*kept.glob("pages/one-*"), *kept.glob("seen/*")]:
        path.write_bytes(damage(path.read_bytes()) if damage is not bytes else b"")
    assert made(results, kept) == before
    assert worked["cases"] == ["one"]
    assert made(results, kept) == before
    assert worked["cases"] == ["one"]


def test_two_builds_at_once_give_the_same_and_leave_whole_entries(tmp_path: Path) -> None:
    make_bundle(tmp_path / "results", name="one", asked=SMALL, only=("bf16", "awq"))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: made(tmp_path / "results", tmp_path / "cache"), range(2))
    assert first == second
    assert list(tmp_path.glob("cache/*/.draft-*")) == []
    assert made(tmp_path / "results", tmp_path / "cache") == first


def test_options_and_generator_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key_of(Options(), "a"), key_of(Options(), "b"), key_of(Options(client="Acme"), "a")}
    keys.add(key_of(Options(prices=(("h200", 2.0),)), "a"))
    monkeypatch.setattr(cache, "_code", lambda: "another generator")
    keys.add(key_of(Options(), "a"))
    assert len(keys) == 5


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    make_bundle(tmp_path / "results", name="one", asked=SMALL, only=("bf16", "awq"))
    (tmp_path / "file").write_text("no folder")
    assert made(tmp_path / "results", tmp_path / "file" / "cache") == made(tmp_path / "results", None)


def test_processes_make_what_one_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        make_bundle(tmp_path / "results", name=f"case-{i}", asked=SMALL, only=("bf16",), seed=i)
    monkeypatch.setattr(workers, "_LEAST", 2)
    monkeypatch.setattr(workers, "_LASTS", 1)  # one of the two gives way to a third
    with monkeypatch.context() as patch:
        patch.setattr(build, "make_case", None)  # this process makes none itself
        side_by_side = made(tmp_path / "results", tmp_path / "cache", processes=2)
    assert len(list(tmp_path.glob("cache/pages/case-*"))) == 3
    assert side_by_side == made(tmp_path / "results", None)


def test_what_nobody_used_for_two_weeks_is_removed(copy: tuple[Path, Path, Made]) -> None:
    old = copy[1] / "pages" / "gone-0.bin"
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    used = next(copy[1].glob("pages/one-*"))
    Store(copy[1])
    assert not old.exists()
    assert used.exists()


def test_an_unreadable_bundle_is_named_from_the_cache_too(copy: tuple[Path, Path, Made]) -> None:
    (copy[0] / "one" / "study.toml").write_text("id = [")
    for _ in range(2):
        catalog, _ = generate(copy[0], Options(), cache=copy[1])
        assert [name for name, _ in catalog.unreadable] == ["one"]
        assert [case.id for case in catalog.cases] == ["two"]
