"""Notebooks of the project's own docs, run on a real bundle when the site is built, and kept until something changes.

A run is kept by the hash of the notebook, of the bundle's manifest and of the versions that drew it: a build in which
none of these changed starts no kernel. Notebooks are code of the one who publishes; none ever comes out of a bundle.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from collector.bundle.manifest import MANIFEST, write_atomic
from collector.bundle.read import QuantcaseError, is_bundle, open_bundle

__all__ = ["ENV", "HOME", "executed"]

ENV = "QUANTCASE_BUNDLE"  # tells a notebook which bundle to open
HOME = Path(".cache") / "quantcase" / "notebooks"
_SECONDS = 120  # of one cell
_DRAWN_WITH = ("pandas", "altair", "vl-convert-python", "nbclient")


def executed(notebook: Path, shown: Mapping[str, Path], home: Path = HOME) -> Path:
    """The notebook with its outputs, as a file below `home`; the notebook itself where there is no bundle to open.

    Args:
        notebook: an .ipynb; its metadata may name a bundle under `quantcase.bundle`.
        shown: the cases that the site shows, in order, each with its bundle's folder (in a fleet's, or the copy from
            which texts were taken out): another is never opened, whatever the notebook names.
        home: where runs are kept.

    Raises:
        QuantcaseError: the file is no notebook, or one of its cells failed: which, and how.
    """
    source = notebook.read_bytes()
    try:
        document: dict[str, Any] = json.loads(source)
        cells = document["cells"]
    except (ValueError, KeyError, TypeError):
        raise QuantcaseError(f"{notebook.name} is no notebook", fix="save it again with Jupyter") from None
    bundle = _bundle(document, shown)
    if bundle is None or not any(c.get("cell_type") == "code" for c in cells):
        return notebook
    digest = hashlib.sha256(source + (bundle / MANIFEST).read_bytes())
    digest.update(f"{sys.version_info[:2]} {[version(p) for p in _DRAWN_WITH]}".encode())
    kept = home / digest.hexdigest()[:32] / notebook.name
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, _run(notebook, source, bundle))
    return kept


def _bundle(document: dict[str, Any], shown: Mapping[str, Path]) -> Path | None:
    """The bundle that the notebook names, else the first measured one that is shown; None where there is none."""
    named = str(document.get("metadata", {}).get("quantcase", {}).get("bundle", ""))
    for name in [*([named] if named in shown else []), *shown]:
        folder = shown[name]
        if is_bundle(folder) and open_bundle(folder).info.grade == "measured":
            return folder.resolve()
    return None


def _run(notebook: Path, source: bytes, bundle: Path) -> bytes:
    """All cells, in a folder that goes with the run: a kernel may leave sockets, and a cell files, where it works, and
    MkDocs takes whatever lies beside the notebook for a page or a file of the site.
    """
    import nbformat  # slow to import, and only needed when something changed
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError
    from traitlets.config import Config

    node = nbformat.reads(source.decode("utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    environment = {**os.environ, ENV: str(bundle), "PYTHONWARNINGS": "ignore"}
    try:
        with tempfile.TemporaryDirectory(prefix="quantcase-notebook-") as work:
            # With a connection file of its own a kernel puts sockets beside that file, whatever its transport is.
            connection = {"transport": "tcp", "ip": "127.0.0.1", "connection_file": str(Path(work) / "kernel.json")}
            client = NotebookClient(
                node, timeout=_SECONDS, kernel_name="python3", resources={"metadata": {"path": work}},
                extra_arguments=["--log-level=ERROR"], config=Config({"KernelManager": connection}),
            )  # fmt: skip
            client.execute(env={**environment, "IPYTHONDIR": work})
    except CellExecutionError as e:
        raise QuantcaseError(
            f"{notebook.name}: a cell fails on {bundle.name}: {e.ename}: {' '.join(e.evalue.split())[:200]}",
            fix="run it in Jupyter with the same bundle",
        ) from None
    except CellTimeoutError:
        raise QuantcaseError(f"{notebook.name}: a cell takes longer than {_SECONDS} s", fix="read fewer rows") from None
    for cell in node.cells:
        cell.metadata.pop("execution", None)  # times of day: the same run gives the same bytes
    return str(nbformat.writes(node)).encode()  # type: ignore[no-untyped-call]
