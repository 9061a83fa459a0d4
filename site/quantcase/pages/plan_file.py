"""`collect plan --page FILE`: a study's comparison plan as a file of its own, Markdown or one HTML document."""

from __future__ import annotations

import re
from importlib import resources

import markdown
from markdown.extensions.toc import TocExtension

from collector.bundle.planned import Plan
from collector.bundle.read import Study
from collector.gpus import GpuProfile
from quantcase.pages.plan_ahead import page
from quantcase.text import text

__all__ = ["write"]


def write(study: Study, profile: GpuProfile, plan: Plan, suffix: str) -> str:
    """The plan as Markdown, or with the suffix `.html` as a document that needs nothing else, neither script nor net.

    The collector finds this by the entry-point group `collect.plan_page`.
    """
    source = page(study, profile, plan)
    return _document(study.title, source) if suffix == ".html" else source


def _document(title: str, source: str) -> str:
    toc = TocExtension(toc_depth="2-3")
    body = markdown.markdown(source, extensions=["attr_list", "md_in_html", "tables", toc], output_format="html")
    # A table that is wider than a phone scrolls by itself, and the keyboard must reach it.
    body = re.sub(r'<div class="qc-table" id="table-([a-z-]+)">', _reachable, body)
    assets = resources.files("quantcase").joinpath("assets")
    look = assets.joinpath("quantcase.css").read_text("utf-8")
    dark = re.search(r'\[data-md-color-scheme="slate"\]\s*\{([^}]*)\}', look)
    night = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark[1]} }} }}" if dark else ""
    style = f"{look}\n{night}\n{assets.joinpath('plan.css').read_text('utf-8')}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Comparison plan: {text(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{style}</style></head><body><main class="md-typeset">\n{body}\n</main></body></html>\n'
    )


def _reachable(found: re.Match[str]) -> str:
    label = found[1].replace("-", " ")
    return f'<div class="qc-table" id="table-{found[1]}" tabindex="0" role="region" aria-label="{label}">'
