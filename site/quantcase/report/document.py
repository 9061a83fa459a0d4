"""One case as a self-contained HTML document: title page, contents, the case page's sections, quality rules, appendix.

The words are those of the site's pages: their Markdown is taken apart by headings, put into a report's order and
converted once. Nothing here is worked out, and nothing in the document points outside it.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import markdown
from markdown.extensions.toc import TocExtension, slugify

from collector.bundle.check import check_bundle
from collector.bundle.manifest import MANIFEST, file_sha256
from collector.bundle.read import QuantcaseError, open_bundle
from quantcase.catalog import Case
from quantcase.html import Column, badge, none, table
from quantcase.pages import case as case_page
from quantcase.pages import data, quality, trust
from quantcase.pages.findings import headline
from quantcase.pages.servers import of_each
from quantcase.pages.view import CaseView
from quantcase.report.fit import fit_tables
from quantcase.text import fixed, plain, text

__all__ = ["html_document", "open_case", "sections"]

_VERDICTS = {"recommend": "✓ recommend", "caution": "! caution", "avoid": "✗ avoid", "none": "– no verdict"}
# Pages of the site that have their place in the report; what has none becomes plain words.
_PLACES = {"quality/index.md": "#quality-rules", "data/index.md": "#appendix"}
_LINK = re.compile(r'<a [^>]*?href="([^"]*)"[^>]*>(.*?)</a>', re.S)
_FONTS = "Liberation Sans, Arimo, Helvetica, DejaVu Sans, sans-serif"
# Characters that show nothing and change how others are shown, above all those that turn the direction of the words
# beside them: on a screen each text has a box of its own, on paper they are printed as the sign of a character unknown.
_CODES = [*range(9), 11, 12, *range(14, 32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F)]
_CODES += range(0x2066, 0x206A)
_UNSEEN = re.compile(f"[{''.join(re.escape(chr(c)) for c in _CODES)}]|&#(?:{'|'.join(str(c) for c in _CODES)});")


def open_case(folder: Path) -> Case:
    """Read and check one bundle for a report.

    Raises:
        QuantcaseError: no bundle, one that cannot be read, or one in which `check` finds an error: what a client is
            handed must be what was measured.
    """
    bundle = open_bundle(folder)
    try:
        case = Case(bundle, bundle.study(), check_bundle(bundle))
        case.cells, case.requests, case.variants  # noqa: B018 - read now, so that a torn table is told here
    except (OSError, UnicodeDecodeError) as e:
        raise QuantcaseError(f"{folder.name} cannot be read: {e}", fix="copy the bundle again") from e
    if not case.sound:
        errors = [f for f in case.faults if f.level == "error"]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise QuantcaseError(
            f"{folder.name} has faults, so no report is made of it: {errors[0].where}: {errors[0].problem}{more}",
            fix=f"run `collect check {folder}`",
        )
    return case


# Front matter, and headings that only a screen reader meets: paper has its own.
_FOR_THE_SITE = re.compile(r"\A---\n.*?\n---\n|^<h2 class=\"qc-unseen\">.*?</h2>$", re.S | re.M)


def sections(page: str, level: int = 2) -> dict[str, str]:
    """A generated page by its headings of one level, in order; what stands before the first is under ''.

    Text out of a bundle starts no heading: text() makes every # of it an entity.
    """
    first, *rest = re.split(rf"^{'#' * level} (.+)$", _FOR_THE_SITE.sub("", page), flags=re.M)
    return {"": first.strip()} | {name: body.strip() for name, body in zip(rest[::2], rest[1::2], strict=True)}


def html_document(view: CaseView) -> str:
    """The whole report as HTML with its style inside. The same bundle and options give the same text."""
    body, tokens = _convert(_source(view))
    css = resources.files("quantcase").joinpath("assets")
    site_css = css.joinpath("quantcase.css").read_text("utf-8")
    colours = _light(site_css)
    running = text(_short(view.case.title, 55))
    if view.options.client:
        running = f"{text(_short(view.options.client, 28))} · {running}"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{text(view.case.title)}</title>'
        f'<meta name="author" content="Quantcase"><meta name="keywords" content="{text(view.case.id)}">'
        f'<meta name="dcterms.created" content="{text(view.case.bundle.created().date().isoformat())}">'
        f"<style>:root {{ {' '.join(f'{k}: {v};' for k, v in colours.items())} }}</style>"
        f"<style>{css.joinpath('report.css').read_text('utf-8')}</style></head>"
        f'<body data-bundle="{text(_short(view.case.id, 80))}"><header class="qc-title" data-running="{running}">'
        f"{_title(view)}</header>{_contents(tokens)}<main>{fit_tables(body)}</main></body></html>"
    )
    return _UNSEEN.sub("\ufffd", _paint(page, colours))


def _short(words: str, most: int) -> str:
    """For a page's head, which has one line."""
    line = " ".join(words.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _source(view: CaseView) -> str:
    """The Markdown of everything after the contents."""
    parts = sections(case_page.page(view))
    answer = parts.pop("").split("\n", 1)[-1]  # without the title, which has a page of its own
    answer = answer.replace(trust.panel(view), "").replace(view.banners(), "").strip()
    known = sections(trust.section(view), 3)
    more = [f"### {name}\n\n{known[name]}" for name in ("Servers side by side", "Doubts") if name in known]
    whole = {"Answer": answer, "Trust": "\n\n".join([trust.panel(view), *more])}
    whole |= parts
    # The checks and the doubts stand under Trust already.
    whole["Methodology"] = parts["Methodology"].replace(trust.section(view), "").strip()
    judged = sections(quality.page(view))
    whole["Quality rules"] = judged["Rules"]
    if view.quality:
        for name in ("Likeness of the distributions", "Form, length and where answers part"):
            whole["Quality rules"] += f"\n\n### {name}\n\n{judged[name]}"
    whole["Appendix"] = _appendix(view)
    return "\n\n".join(
        f'## {name} {{: #{slugify(name, "-")} data-name="{name}" }}\n\n{words}' for name, words in whole.items()
    )


def _title(view: CaseView) -> str:
    """The first page: what was asked, the answer, for whom, on what evidence, when."""
    case, info = view.case, view.case.bundle.info
    profile = text(case.profile.title if case.profile else info.gpu)
    facts = [("Client", text(view.options.client))] if view.options.client else []
    facts += [
        ("Machine", profile),
        ("Base model", text(case.study.base_model)),
        ("Measured", text(case.bundle.created().date().isoformat())),
        ("Evidence", f"{badge(info.grade)} weights {text(info.weights)}"),
        ("Bundle", text(case.id)),
    ]
    kind = view.answer.kind
    confidential = '<p class="qc-confidential">Confidential</p>' if view.options.confidential else ""
    return (
        f'<p class="qc-kind">Quantcase · case study</p><h1>{text(case.title)}</h1>{confidential}'
        f'<section class="qc-front" data-verdict="{kind}"><p class="qc-question">Should we quantize?</p>'
        f'<p class="qc-headline">{headline(view)}</p>'
        f'<p><span class="qc-verdict" data-verdict="{kind}">{_VERDICTS[kind]}</span></p></section>'
        f"{view.banners()}<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl>"
    )


def _contents(tokens: list[dict[str, Any]]) -> str:
    """Links with page numbers, which the style sheet fills in."""

    def lines(found: list[dict[str, Any]]) -> str:
        items = []
        for token in found:
            below = f"<ol>{lines(token['children'])}</ol>" if token["children"] else ""
            items.append(f'<li><a href="#{token["id"]}"><span>{token["name"]}</span></a>{below}</li>')
        return "".join(items)

    return f'<nav class="qc-contents" id="contents"><h2>Contents</h2><ol>{lines(tokens)}</ol></nav>'


def _appendix(view: CaseView) -> str:
    """Which bundle this is, to the byte: identity, files, environment, and how to do it again."""
    case, info = view.case, view.case.bundle.info
    page = sections(data.page(view))
    prices = "none"
    if view.usd_per_hour is not None:
        prices = f"{plain(view.usd_per_hour)} USD an hour{of_each(view)}, {view.price_source}"
    done = f"{fixed(info.cells_done)} of {fixed(info.cells_planned)}"
    rows = [
        ["Bundle", text(case.id)],
        ["sha256 of its manifest", f"<code>{file_sha256(case.bundle.folder / MANIFEST)}</code>"],
        ["Study", text(info.study)],
        ["State of the run", f"{text(info.status)}, {done} cell repeats"],
        ["Created", text(case.bundle.manifest.created)],
        ["Collector, bundle format", f"{text(info.collector_version)}, {info.format}"],
        ["Price", prices],
    ]
    parts = [
        "### Bundle",
        "Every figure of this report is computed from the rows of this bundle; whoever holds a copy can compare the "
        f"hash of its `{MANIFEST}` with the one here, and every file with its own. Pages and files that the report "
        "names without a link stand on the site made from the same bundle.",
        table("report-bundle", [Column("What"), Column("Value")], rows),
    ]
    # Where the bundle lies on this machine is nobody's business.
    page["What check says"] = page["What check says"].replace(text(case.bundle.folder), text(case.id))
    shown = {name: page[name] for name in ("What check says", "Files", "Do it again")}
    shown["Environment"] = _environment(case)
    return "\n\n".join([*parts, *(f"### {name}\n\n{words}" for name, words in shown.items())])


def _environment(case: Case) -> str:
    """What was recorded of host, software and GPU; each fact once, with every value that a session had."""
    facts: dict[tuple[str, str], list[str]] = {}
    sessions = case.bundle.environment().sessions
    for session in sessions:
        groups = [("host", session.host), ("software", session.software), *(("gpu", g) for g in session.gpus)]
        for part, found in groups:
            for key, value in found.items():
                values = facts.setdefault((part, str(key)), [])
                values += [text(value)] if text(value) not in values else []
    if not facts:
        return none("No environment was recorded.")
    rows = [[text(part), text(key), "; ".join(values)] for (part, key), values in facts.items()]
    count = f"{len(sessions)} session{'s' if len(sessions) != 1 else ''}"
    return table("report-environment", [Column("Part"), Column("What"), Column("Value")], rows, f"Over {count}.")


def _convert(source: str) -> tuple[str, list[dict[str, Any]]]:
    """Markdown to HTML with the extensions of mkdocs.yml that generated pages use, and the headings found."""
    # Ids made of headings get a prefix, so that no variant's name can take the place of a section's id.
    toc = TocExtension(slugify=lambda value, separator: f"s-{slugify(value, separator)}", toc_depth="2-3")
    converter = markdown.Markdown(extensions=["attr_list", "md_in_html", "tables", toc], output_format="html")
    body = converter.convert(source)
    return _LINK.sub(_place, body), converter.toc_tokens  # type: ignore[attr-defined]


def _place(link: re.Match[str]) -> str:
    """A link within the report, or its words where the report holds no such place."""
    place = _PLACES.get(link[1])
    return f'<a href="{place}">{link[2]}</a>' if place else link[2]


def _light(css: str) -> dict[str, str]:
    """The light palette: the variables that quantcase.css sets at :root."""
    root = re.search(r":root\s*\{(.*?)\}", css, re.S)
    return dict(re.findall(r"(--qc-[\w-]+):\s*([^;]+);", root[1])) if root else {}


def _paint(page: str, colours: dict[str, str]) -> str:
    """Charts in fixed colours and a named font: SVG outside a browser knows neither variables nor inheritance."""

    def chart(svg: re.Match[str]) -> str:
        drawn = re.sub(r"var\((--qc-[\w-]+)\)", lambda m: colours.get(m[1], "#26303a"), svg[0])
        drawn = drawn.replace('font-family="inherit"', f'font-family="{_FONTS}"')
        return re.sub(r"aria-label=\"([^\"]*)\"([^>]*>)", r"\g<0><title>\1</title>", drawn, count=1)

    return re.sub(r"<svg\b.*?</svg>", chart, page, flags=re.S)
