"""`collect new-client`: a folder for one client's site, ready to be built."""

from __future__ import annotations

import re
from pathlib import Path

import click

from collector.bundle.read import QuantcaseError, is_bundle

__all__ = ["files", "new_client"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(10))}
_CONFIG = """\
# The site of one client. Build it with: mkdocs build -f clients/@NAME@/mkdocs.yml
# Hand it over as a file with:          collect handover @NAME@ -o @NAME@.zip
# Every option: docs/guide/clients.md
INHERIT: ../../mkdocs.yml
site_name: Quantization case study for @TITLE@
docs_dir: ../../docs
site_dir: ../../public/clients/@NAME@
theme:
  custom_dir: ../../site/overrides
  logo: assets/logo.svg # yours: clients/@NAME@/docs/assets/logo.svg
plugins:
  search: {}
  quantcase:
    results: ../../results
    cache: ../../.cache/quantcase
    overlay: docs # files of this client; they stand in for those of the same path in docs/ and for generated pages
    client: @TITLE@
    confidential: Confidential. Prepared for @TITLE@ only.
    cases: [@CASES@] # folders in results/; an empty list shows all
    leave_out: # pages that this client does not get; links to them become words
      [guide/*, schema/index.md, notebooks/*, architecture.md, offers/*, history/*, summary/*, cases/*/notes/*]
    currency: USD # or {code: EUR, rate: 0.92, source: ECB reference rate, date: 2026-11-20}: EUR for 1 USD
    prices: {} # USD per hour by GPU profile, instead of the bundle's: {h200: 3.59}
    numbers: en # signs of decimals and thousands: en 1,234.5  de 1.234,5  fr 1 234,5
    colours: {primary: "#12344a", accent: "#b5541c"}
    redact: [texts, logs, notes] # prompts and answers, engine logs, the author's notes: never in the built site
    show_simulated: false # replayed timings
    show_published: false # somebody else's figures
nav:
  - Home: index.md
  - Cases:
      - cases/index.md
  - Compare: compare/index.md
  - Costs: costs/index.md
  - Will it fit?: fit/index.md
  - Methodology: methodology.md
"""
# Neutral: a frame and two bars, in the colour of what stands around it.
_LOGO = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" role="img" aria-label="Logo">
<rect x="2" y="2" width="20" height="20" rx="3" fill="none" stroke="#9aa7b0" stroke-width="2"/>
<rect x="7" y="11" width="4" height="7" fill="#9aa7b0"/><rect x="13" y="7" width="4" height="11" fill="#9aa7b0"/>
</svg>
"""
_README = """\
Files in this folder stand in for those of the same path in the project's docs/, and for generated pages: an index.md
here becomes the client's first page. assets/logo.svg is the logo in the header. This file is not part of the site.
"""


def files(name: str, cases: list[str]) -> dict[str, str]:
    """Path below clients/NAME -> content.

    Raises:
        QuantcaseError: the name cannot be a folder and part of an address.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise QuantcaseError(
            f"{name[:60]!r} cannot be a client's name", fix="use 1 to 40 small letters, digits and -, as in acme-labs"
        )
    title = " ".join(part.capitalize() for part in name.split("-"))
    config = _CONFIG.replace("@NAME@", name).replace("@TITLE@", title).replace("@CASES@", ", ".join(cases))
    return {"mkdocs.yml": config, "docs/assets/logo.svg": _LOGO, "docs/.readme.txt": _README}


@click.command("new-client")
@click.argument("name")
@click.option(
    "--project", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(),
    help="Folder with mkdocs.yml; the present one by default.",
)  # fmt: skip
def new_client(name: str, project: Path) -> None:
    """Make clients/NAME/: the config of a site for one client, with a logo to replace."""
    if not (project / "mkdocs.yml").is_file():
        raise QuantcaseError(
            f"no mkdocs.yml in {project.resolve()}", fix="go to the project's folder, or give --project"
        )
    results = project / "results"
    found = sorted(p.name for p in results.iterdir() if p.is_dir() and is_bundle(p)) if results.is_dir() else []
    made = files(name, found)
    folder = project / "clients" / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise QuantcaseError(f"{folder} is there already", fix="take another name, or edit what is there") from None
    for path, content in made.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, "utf-8")
    click.echo(f"{folder / 'mkdocs.yml'}: edit it, then `mkdocs build -f {(folder / 'mkdocs.yml').as_posix()}`")
