"""`collect seal`: renew the hash of the files that a person may write in a closed bundle, and of those only."""

from __future__ import annotations

from pathlib import Path

from collector.bundle import manifest as manifests
from collector.bundle.check import check
from collector.bundle.marks import MARKS
from collector.bundle.read import open_bundle
from collector.errors import QuantcaseError

__all__ = ["OWN_FILES", "seal"]

OWN_FILES = ("notes.md", MARKS)


def seal(folder: Path) -> list[str]:
    """Take the person's own files as they are now into the manifest; returns those that had changed.

    Raises:
        QuantcaseError: another file was changed too: a seal must not hide that.
    """
    bundle = open_bundle(folder)
    other = [f for f in check(folder) if f.level == "error" and f.where not in OWN_FILES]
    if other:
        raise QuantcaseError(f"{bundle.id} is not sound: {other[0].where}: {other[0].problem}", fix=other[0].fix)
    if not bundle.manifest.resources:
        raise QuantcaseError(f"{bundle.id} is still open", fix="finish or resume the run first")
    before = {r.path: r for r in bundle.manifest.resources}
    bundle.manifest.resources = manifests.resources(folder)
    for resource in bundle.manifest.resources:
        if not resource.description and resource.path in before:
            resource.description = before[resource.path].description  # of files that other commands added
    manifests.write(folder, bundle.manifest)
    return [r.path for r in bundle.manifest.resources if r.path not in before or before[r.path].hash != r.hash]
