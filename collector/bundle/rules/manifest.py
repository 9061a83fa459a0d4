"""Q1xx, the manifest: what the bundle says of itself. Q2xx, the files: each is there, and as it was written."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from collector.bundle import manifest as manifests
from collector.bundle.marks import MARKS
from collector.bundle.rules.base import Found, rule
from collector.bundle.rules.facts import Facts

__all__: list[str] = []

_MANIFEST = manifests.MANIFEST
_AGAIN = "copy the bundle again"


@rule(
    "Q101",
    "error",
    "The folder holds a manifest of a format that this version reads.",
    why="Without it nothing else in the folder can be believed or even found.",
    fix=_AGAIN,
)
def readable(_facts: Facts) -> Iterator[Found]:
    """`check` tells it: without a manifest there are no facts to look at."""
    yield from ()


@rule(
    "Q102",
    "error",
    "The manifest's bytes are those that its own hash was taken of.",
    why="A manifest that was changed can vouch for changed files.",
    fix=_AGAIN,
)
def self_hash(facts: Facts) -> Iterator[Found]:
    if not manifests.self_hash_ok(facts.bundle.folder, facts.bundle.manifest):
        yield Found(_MANIFEST, "its bytes were changed after it was written")


@rule(
    "Q103",
    "interrupted",
    "Every cell repeat that was planned is measured.",
    why="A variant that is still missing may be the one that decides.",
    fix="finish it with `collect run --resume BUNDLE`",
)
def finished(facts: Facts) -> Iterator[Found]:
    if facts.info.status == "interrupted":
        words = f"{len(facts.cells)} of {facts.info.cells_planned} cell repeats are measured"
        yield Found(facts.bundle.id, words, f"finish it with `collect run --resume {facts.bundle.folder}`")


@rule(
    "Q104",
    "note",
    "The run did not fail.",
    why="A variant that could not be served is a finding, and its pages have no figures.",
    fix="see variants.csv and logs/",
)
def not_failed(facts: Facts) -> Iterator[Found]:
    if facts.info.status == "failed":
        yield Found(facts.bundle.id, "the run failed")


@rule(
    "Q105",
    "error",
    "The manifest counts as many cell repeats as cells.csv has rows.",
    why="Rows were added or taken away after the run was closed.",
    fix=_AGAIN,
    needs="closed",
)
def counted(facts: Facts) -> Iterator[Found]:
    if facts.info.cells_done != len(facts.cells):
        yield Found(_MANIFEST, f"it counts {facts.info.cells_done} cell repeats, cells.csv has {len(facts.cells)} rows")


@rule(
    "Q106",
    "error",
    "The manifest and study.toml speak of the same study and the same kind of weights.",
    why="Dummy weights shown as real ones would let a page speak of quality.",
    fix=_AGAIN,
    needs="study",
)
def same_study(facts: Facts) -> Iterator[Found]:
    for what, stated, asked in (
        ("study", facts.info.study, facts.asked.id),
        ("weights", facts.info.weights, facts.asked.weights),
    ):
        if stated != asked:
            yield Found(_MANIFEST, f"{what} is {stated}, study.toml says {asked}")


@rule(
    "Q107",
    "error",
    "The manifest says when the bundle was created, with a time zone.",
    why="Every time stamp in the bundle is counted from that moment.",
    fix=_AGAIN,
)
def created(facts: Facts) -> Iterator[Found]:
    stated = facts.bundle.manifest.created
    try:
        zone = datetime.datetime.fromisoformat(stated).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        yield Found(_MANIFEST, f"`created` is {stated[:40]!r}: no time with a zone")


@rule(
    "Q201",
    "error",
    "Every file that the manifest lists is there.",
    why="What is missing may be what speaks against a figure.",
    fix=_AGAIN,
    needs="closed files",
)
def missing(facts: Facts) -> Iterator[Found]:
    for path in sorted({r.path for r in facts.bundle.manifest.resources} - set(facts.files or ())):
        yield Found(path, "is missing")


@rule(
    "Q202",
    "error",
    "The folder holds no file that the manifest does not list.",
    why="A file that nobody wrote down has no origin.",
    fix="remove it, or put your words into notes.md",
    needs="closed files",
)
def added(facts: Facts) -> Iterator[Found]:
    for path in sorted(set(facts.files or ()) - {r.path for r in facts.bundle.manifest.resources}):
        yield Found(path, "is not in the manifest", "run `collect seal`" if path == MARKS else "")


@rule(
    "Q203",
    "error",
    "Every file has the size and the sha256 that the manifest states.",
    why="One changed byte may be one changed figure.",
    fix=_AGAIN,
    needs="closed files",
)
def hashes(facts: Facts) -> Iterator[Found]:
    present = set(facts.files or ())
    for resource in sorted(facts.bundle.manifest.resources, key=lambda r: r.path):
        if resource.path not in present:
            continue
        file = facts.bundle.folder / resource.path
        if file.stat().st_size != resource.bytes or f"sha256:{manifests.file_sha256(file)}" != resource.hash:
            own = resource.path in ("notes.md", MARKS)
            fix = "if these are your own words, run `collect seal`" if own else ""
            yield Found(resource.path, "its bytes were changed after the bundle was closed", fix)


@rule(
    "Q204",
    "error",
    "The folder holds plain files only: no links, no devices.",
    why="A link shows what lies on the reader's machine, not what was measured.",
    fix="a bundle holds plain files only: remove the link",
)
def plain(facts: Facts) -> Iterator[Found]:
    if facts.files is None:
        for where, words, fix in facts.unreadable:
            if where == facts.bundle.id:
                yield Found(where, words, fix)
