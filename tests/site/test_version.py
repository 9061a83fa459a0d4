"""The permalink of a version: the address of these bytes, and of no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.bundle.manifest import MANIFEST
from collector.bundle.read import open_bundle
from collector.bundle.seal import seal
from quantcase.build import generate
from quantcase.pages.view import Options
from tests.makers import make_bundle


def pages(results: Path, cache: Path) -> dict[str, str]:
    found = {o.uri: o for o in generate(results, Options(), cache=cache)[1]}
    return {uri: str(o.data()) for uri, o in found.items() if "/versions/" in uri or uri.endswith("/data/index.md")}


def versions(made: dict[str, str]) -> list[str]:
    return [uri for uri in made if "/versions/" in uri]


def test_a_case_has_the_permalink_of_its_bytes_and_its_data_page_names_it(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "results", weights="real")
    digest = open_bundle(folder).info.manifest_sha256
    made = pages(tmp_path / "results", tmp_path / "cache")
    uri = f"cases/{folder.name}/versions/{digest[:12]}/index.md"
    assert versions(made) == [uri]
    assert f"<code>{digest}</code>" in made[uri]
    assert "exclude: true" in made[uri].split("---")[1]
    assert f"[{digest[:12]}](../versions/{digest[:12]}/index.md)" in made[f"cases/{folder.name}/data/index.md"]


def test_words_that_are_not_sealed_are_told_apart_and_sealed_ones_are_another_version(tmp_path: Path) -> None:
    folder, cache = make_bundle(tmp_path / "results", weights="real"), tmp_path / "cache"
    before = pages(tmp_path / "results", cache)
    (uri,) = versions(before)
    assert "notes.md" not in before[uri]
    note = folder / "notes.md"
    old = note.read_text()
    note.write_text(f"{old}\nA word of mine.\n")
    during = pages(tmp_path / "results", cache)
    assert versions(during) == [uri]
    assert "are not of this version. Every figure is." in during[uri]
    note.write_text(f"{old}\nTwo words of mine.\n")
    assert pages(tmp_path / "results", cache)[uri] == during[uri]
    seal(folder)
    after = pages(tmp_path / "results", cache)
    (sealed,) = versions(after)
    assert sealed != uri
    assert "notes.md" not in after[sealed]
    assert after == pages(tmp_path / "results", tmp_path / "another")


@pytest.mark.parametrize("stated", ["", "../../../etc/passwd", "0" * 64, "A" * 64])
def test_what_no_manifest_vouches_for_has_none(tmp_path: Path, stated: str) -> None:
    folder = make_bundle(tmp_path / "results")
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text().replace(open_bundle(folder).info.manifest_sha256, stated))
    made = pages(tmp_path / "results", tmp_path / "cache")
    assert versions(made) == []
    assert "has no permalink" in made[f"cases/{folder.name}/data/index.md"]
