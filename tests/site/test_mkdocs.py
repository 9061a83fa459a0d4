"""The real `mkdocs`: strict, as a plugin, and published."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests import sites
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


def project(folder: Path, *, shared: bool = True) -> Path:
    """A small site of the bundles in `results`; `shared` takes pages that another test of this session made."""
    (folder / "docs").mkdir()
    (folder / "docs" / "methodology.md").write_text("# Methodology\n")
    cache = f", cache: {sites.kept()}" if shared else ""
    (folder / "mkdocs.yml").write_text(CONFIG.format(results=f"results{cache}"))
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
    words = re.sub(r"<(script|style|pre|code|kbd|textarea)\b.*?</\1>|<[^>]*>", "", html, flags=re.S)
    assert "\u00a0%" in words
    assert not re.search(r"\d %", words)  # a figure and its unit stand on one line


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


def test_the_menu_lists_the_newest_cases_and_the_list_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    project(tmp_path)
    for i in range(3):
        make_bundle(tmp_path / "results", name=f"case-{i}", only=("bf16",), seed=i)
    monkeypatch.setattr("quantcase.menu.MOST", 2)
    build(load_config(str(tmp_path / "mkdocs.yml"), strict=True))
    page = (tmp_path / "public/cases/index.html").read_text()
    menu = page[page.index('<nav class="md-nav md-nav--primary') : page.index('<article class="md-content__inner')]
    assert len(set(re.findall(r'href="(case-\d)/"', menu))) == 2
    assert set(re.findall(r'href="(case-\d)/"', page)) == {"case-0", "case-1", "case-2"}
    assert all((tmp_path / f"public/cases/case-{i}/index.html").is_file() for i in range(3))


def test_serve_shows_an_edited_note_and_renders_only_its_case(tmp_path: Path) -> None:
    """A real `mkdocs serve --dirty`. How long it takes stands in benchmarks/SITE.md: here the machine may be busy."""
    project(tmp_path)
    for i in range(2):
        make_bundle(tmp_path / "results", name=f"case-{i}", weights="real", only=("bf16",), seed=i)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "mkdocs", "serve", "--dirty", "-a", f"127.0.0.1:{port}"]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "TMPDIR": str(tmp_path)}
    with (tmp_path / "said.txt").open("w") as said, subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=said, stderr=said
    ) as server:  # fmt: skip
        try:
            _shown(port, "case-0", "What I learned")
            before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("mkdocs_*/cases/*/index.html")}
            assert len(before) == 2
            (tmp_path / "results/case-0/notes.md").write_text("## What I learned\n\nquite another sentence\n")
            _shown(port, "case-0/notes", "quite another sentence")
            rendered = {p.parent.name for p, at in before.items() if p.stat().st_mtime_ns != at}
            assert rendered == {"case-0"}
        finally:
            server.terminate()
            server.wait()


def _shown(port: int, case: str, words: str) -> None:
    """Wait until a page of the served site has these words."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/cases/{case}/", timeout=30) as answer:
                if words in answer.read().decode():
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{words!r} was not shown")
