"""The docs are tested against the code."""

from __future__ import annotations

import re
import struct
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml

from collector import study
from collector.bundle.predictions import Answers
from collector.bundle.schema import TABLES, columns
from collector.cli import cli
from tests import sites
from tools.reference import PAGE, page
from tools.screenshots import SHOTS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GENERATED = {
    "index.md", "cases/index.md", "costs/index.md", "fit/index.md", "compare/index.md", "history/index.md",
    "summary/index.md", "offers/index.md", "schema/index.md",
}  # fmt: skip


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def test_every_command_and_option_is_documented() -> None:
    words = (DOCS / "guide" / "commands.md").read_text()
    assert set(commands()) == {
        "run", "plan", "gpus", "studies", "doctor", "facts", "show", "check", "seal", "site", "publish-cards", "report",
        "fleet", "import", "migrate", "pack", "unpack", "push", "pull", "redact", "new-client", "handover",
    }  # fmt: skip
    for name, command in commands().items():
        assert f"collect {name}" in words
        section = words.split(f"## collect {name}")[-1].split("\n## ")[0] if f"## collect {name}" in words else words
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in section, f"collect {name} {parameter.opts[0]}"


STRUCTS = (
    study.Study,
    study.EngineSpec,
    study.Variant,
    study.Workload,
    study.Prompts,
    study.Price,
    study.QualitySuite,
    Answers,
    study.LoadTest,
)


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda s: s.__name__)
def test_every_study_key_is_documented(struct: type[msgspec.Struct]) -> None:
    words = (DOCS / "guide" / "studies.md").read_text()
    for name in struct.__struct_fields__:
        assert f"`{name}`" in words, f"{struct.__name__}.{name}"


def test_every_quality_rule_is_documented() -> None:
    """With the very name under which it stands on a page."""
    source = (ROOT / "site" / "quantcase" / "analysis" / "quality_verdict.py").read_text()
    rules = set(re.findall(r'(?:Check|_likeness|_excess)\(\s*"([a-z0-9 -]+)"', source))
    assert {"accuracy", "answered", "form", "length", "long context", "flips", "top-1 agreement"} <= rules
    words = (DOCS / "methodology.md").read_text()
    for rule in rules:
        assert f"\n| {rule} |" in words, rule


def test_the_column_reference_is_the_schema() -> None:
    assert page(PAGE.read_text()) == PAGE.read_text(), "run python -m tools.reference"
    for table in TABLES.values():
        for column in columns(table.row):
            assert f"`{column.name}`" in PAGE.read_text()


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    words = (DOCS / "architecture.md").read_text()
    for requirement in listed:
        match = re.match(r"[A-Za-z0-9-]+", requirement)
        assert match is not None
        assert match[0] in words, match[0]


def test_every_entry_of_the_menu_exists() -> None:
    class Loader(yaml.SafeLoader):
        """mkdocs.yml may hold tags of Python objects."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    Loader.add_constructor("!ENV", lambda *_: None)
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=Loader)  # noqa: S506

    def targets(nav: Any) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        values = nav.values() if isinstance(nav, dict) else nav
        return [t for v in values for t in targets(v)]

    for target in targets(config["nav"]):
        assert target in GENERATED or (DOCS / target).is_file(), target


def test_plugin_options_are_documented() -> None:
    from quantcase.client import Settings
    from quantcase.plugin import QuantcasePlugin

    assert [name for name, _ in QuantcasePlugin.config_scheme] == list(Settings.__struct_fields__)
    published, clients = ((DOCS / "guide" / f"{page}.md").read_text() for page in ("publish", "clients"))
    for name in Settings.__struct_fields__:
        assert f"| `{name}` |" in published, name
    for name in set(Settings.__struct_fields__) - {"results", "cache", "processes"}:
        assert f"`{name}`" in clients, name


def test_every_generated_page_is_documented(tmp_path: Path) -> None:
    from tests.makers import make_bundle

    folder = make_bundle(tmp_path)
    words = (DOCS / "guide" / "pages.md").read_text()
    _, outputs = sites.made(tmp_path)
    for uri in {o.uri for o in outputs}:
        if uri.startswith("assets/") or "/data/files/" in uri or "/samples/" in uri:
            continue
        generic = uri.replace(folder.name, "<id>")
        generic = re.sub(r"/cards/[^/]+/", "/cards/<variant>/", generic)
        generic = re.sub(r"/versions/[^/]+/", "/versions/<digits>/", generic)
        generic = re.sub(r"^schema/format-1/.+", "schema/format-1/<name>.json", generic)
        assert f"`{generic}`" in words, generic


def test_the_readme_names_targets_and_files_that_exist() -> None:
    words = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", words, flags=re.M):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\(([^)h][^)]*)\)", words):
        assert (ROOT / link).exists(), link


def test_the_readmes_pictures_are_there_small_and_not_in_the_site() -> None:
    readme, config = (ROOT / "README.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    taken = {p.name: p.read_bytes() for p in (DOCS / "images").iterdir()}
    assert set(re.findall(r'src="docs/images/([^"]+)"', readme)) == set(taken) == set(SHOTS)
    for name, (address, width, height, _) in SHOTS.items():
        assert taken[name].startswith(b"\x89PNG")
        assert struct.unpack(">II", taken[name][16:24]) == (width, height)
        assert (ROOT / "results" / address.split("/")[1]).is_dir()
    assert sum(map(len, taken.values())) < 300_000
    assert "\nexclude_docs: /images/ " in config
