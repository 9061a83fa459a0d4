"""The command: documented, light without Ray, and plain about what is wrong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest

from collector.cli import cli
from collector.fleet.study import Fleet, FleetRun
from tests.e2e.tools import collect

ROOT = Path(__file__).parents[2]
FLEET = 'id = "f"\ntitle = "t"\n[[runs]]\ngpu = "demo"\n'
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from collector.cli import main; main(sys.argv[1:])"


def test_every_option_and_key_is_documented() -> None:
    group = cli.get_command(click.Context(cli), "fleet")
    assert isinstance(group, click.Group)
    section = (ROOT / "docs/guide/commands.md").read_text().split("## collect fleet\n")[1].split("\n## ")[0]
    for parameter in group.commands["run"].params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in section
    assert "`collect fleet status DIR`" in section
    guide = (ROOT / "docs/guide/fleet.md").read_text()
    for key in (*Fleet.__struct_fields__, *FleetRun.__struct_fields__):
        assert f"`{key}`" in guide or f"`[[{key}]]`" in guide or f"`[runs.{key}]`" in guide, key


@pytest.mark.parametrize("path", sorted((ROOT / "collector").rglob("*.py")), ids=lambda p: p.name)
def test_ray_is_imported_in_functions_of_the_fleet_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    everywhere = {n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) and names_ray(n)}
    assert not everywhere & set(tree.body)
    assert not everywhere or path.parent.name == "fleet"


def names_ray(node: ast.Import | ast.ImportFrom) -> bool:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    return any(n.split(".")[0] == "ray" for n in names)


def test_without_ray_it_says_what_is_missing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file, out = tmp_path / "F.toml", tmp_path / "out"
    file.write_text(FLEET)
    command = [sys.executable, "-c", WITHOUT_RAY, "fleet", str(file), "--out", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "error: `collect fleet` needs Ray; pip install 'quantcase[fleet]'\n")
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-usd", "1"], "name a FLEET.toml, or --resume FLEETDIR"),
        (["nowhere.toml"], "no fleet file nowhere.toml"),
        (["F.toml", "--until", "soon"], "--until soon is no time"),
        (["F.toml", "--max-usd", "1"], "--max-usd needs a price per hour, run 1 (demo demo) has none"),
        (["--resume", "nowhere"], "nowhere: no fleet.json"),
        (["status", "nowhere"], "nowhere: no fleet.json"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "F.toml").write_text(FLEET)
    ran = collect("fleet", *arguments, cwd=tmp_path)
    assert ran.returncode in (1, 2)
    assert ran.stderr.startswith(f"error: {said}")
    assert ran.stderr.count("\n") == 1
