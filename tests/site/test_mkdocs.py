"""The real `mkdocs`: strict, as a plugin, and published."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.makers import make_bundle

CONFIG = """
site_name: Test
docs_dir: docs
site_dir: public
theme: {{name: material, font: false}}
plugins: [{{quantcase: {{results: {results}}}}}]
markdown_extensions: [attr_list, md_in_html, tables, {{toc: {{permalink: true}}}}]
nav: [index.md, {{Cases: [cases/index.md]}}, costs/index.md, methodology.md]
"""


def project(folder: Path, results: str = "results") -> Path:
    (folder / "docs").mkdir()
    (folder / "docs" / "methodology.md").write_text("# Methodology\n")
    (folder / "mkdocs.yml").write_text(CONFIG.format(results=results))
    return folder


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    env |= {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=env, check=False)


def mkdocs(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "mkdocs", *arguments, cwd=cwd)


def test_a_strict_build_gives_every_page(tmp_path: Path) -> None:
    project(tmp_path)
    folder = make_bundle(tmp_path / "results")
    made = mkdocs("build", "--strict", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    public = tmp_path / "public"
    case = public / "cases" / folder.name
    for page in (public / "index.html", public / "costs/index.html", case / "index.html", case / "data/index.html"):
        assert page.is_file()
    assert (case / "case.json").read_text().startswith("{")
    assert (case / "data/files/requests.csv.gz").read_bytes() == (folder / "requests.csv.gz").read_bytes()
    html = (case / "index.html").read_text()
    assert "<svg" in html
    assert 'aria-label="Throughput against concurrency.' in html
    assert f"cases/{folder.name}" in (public / "index.html").read_text()


@pytest.mark.parametrize(
    ("config", "says"),
    [("results: nowhere", "no results folder at"), ("cases: [nope]", "no readable case named nope"),
     ("prices: {h200: free}", "must be USD per hour")],
)  # fmt: skip
def test_a_wrong_option_is_one_sentence_and_no_traceback(tmp_path: Path, config: str, says: str) -> None:
    project(tmp_path)
    make_bundle(tmp_path / "results")
    text = (tmp_path / "mkdocs.yml").read_text()
    options = config if config.startswith("results") else f"results: results, {config}"
    (tmp_path / "mkdocs.yml").write_text(text.replace("results: results", options))
    made = mkdocs("build", cwd=tmp_path)
    assert made.returncode == 1
    assert says in made.stderr
    assert "Traceback" not in made.stderr


def test_gh_deploy_puts_the_site_on_the_branch_of_a_real_repository(tmp_path: Path) -> None:
    remote, work = tmp_path / "remote.git", tmp_path / "work"
    work.mkdir()
    assert run("git", "init", "--bare", "-q", str(remote), cwd=tmp_path).returncode == 0
    project(work)
    folder = make_bundle(work / "results")
    for command in (
        ("git", "init", "-q", "-b", "main"), ("git", "add", "-A"), ("git", "commit", "-qm", "site"),
        ("git", "remote", "add", "origin", str(remote)), ("git", "push", "-q", "origin", "main"),
    ):  # fmt: skip
        done = run(*command, cwd=work)
        assert done.returncode == 0, done.stderr
    deployed = mkdocs("gh-deploy", "--force", "--strict", cwd=work)
    assert deployed.returncode == 0, deployed.stderr
    names = run("git", "ls-tree", "-r", "--name-only", "gh-pages", cwd=remote).stdout.splitlines()
    assert {"index.html", f"cases/{folder.name}/index.html", f"cases/{folder.name}/case.json"} <= set(names)
