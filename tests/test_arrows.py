"""The architecture's arrows: who may import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COLLECTOR = sorted((ROOT / "collector").rglob("*.py"))
SITE = sorted((ROOT / "site" / "quantcase").rglob("*.py"))
HEAVY = {"pandas", "altair", "mkdocs", "jinja2", "scipy", "vl_convert", "quantcase", "torch", "vllm"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("path", COLLECTOR, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_collector_never_imports_the_site_nor_anything_heavy(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & HEAVY


@pytest.mark.parametrize("path", SITE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_site_knows_of_the_collector_only_bundles_and_gpus(path: Path) -> None:
    for name in imports(path):
        if name.split(".")[0] == "collector":
            assert name == "collector" or name.startswith(("collector.bundle", "collector.gpus")), name
        if name.split(".")[0] == "mkdocs":
            assert path.name == "plugin.py"


def test_analysis_is_pure() -> None:
    for path in (p for p in SITE if p.parent.name == "analysis"):
        names = imports(path)
        assert not {n.split(".")[0] for n in names} & {"mkdocs", "jinja2", "altair", "vl_convert", "markdown", "nh3"}
        assert not any(n.startswith(("quantcase.pages", "quantcase.charts", "quantcase.plugin")) for n in names)


def test_charts_know_no_pages() -> None:
    for path in (p for p in SITE if p.parent.name == "charts"):
        assert not any(n.startswith(("quantcase.pages", "quantcase.catalog", "collector")) for n in imports(path))


def test_templates_hold_no_arithmetic() -> None:
    templates = list((ROOT / "site" / "quantcase" / "templates").glob("*.j2"))
    assert templates
    for path in templates:
        for code in re.findall(r"\{[{%](.*?)[%}]\}", path.read_text(), flags=re.S):
            assert not re.search(r"[-+*/]|\bround\b|\bsum\b", re.sub(r'"[^"]*"', "", code)), (path.name, code)


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = "import sys, collector.cli; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & HEAVY
    assert "aiohttp" not in loaded


def test_files_fit_in_the_head() -> None:
    for path in [*COLLECTOR, *SITE]:
        assert len(path.read_text().splitlines()) <= 450, path
