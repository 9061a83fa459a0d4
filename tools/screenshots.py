"""The pictures of the README, from a built site: `python -m tools.screenshots public` writes docs/images/.

Taken anew when a page that they show looks different; a test holds that they are there, small, and of the size below.
"""

from __future__ import annotations

from pathlib import Path

import click
from playwright.sync_api import sync_playwright

from tools import chromium
from tools.serve_gzip import served

__all__ = ["SHOTS"]

IMAGES = Path(__file__).parents[1] / "docs" / "images"
CASE = "cases/2026-11-21-h200-small-model/"
# File -> address below the site, width and height in pixels, the reader's colours.
SHOTS = {
    "case.png": (CASE, 1280, 860, "light"),
    "case-phone.png": (CASE, 390, 860, "dark"),
}  # fmt: skip


@click.command()
@click.argument("site", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(site: Path) -> None:
    """Take every picture of a site that `mkdocs build` made."""
    if (path := chromium.found()) is None:
        raise SystemExit(chromium.MISSING)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with served(site) as root, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (address, width, height, scheme) in SHOTS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(f"{root}/{address}", wait_until="networkidle")
            page.screenshot(path=IMAGES / name)
            click.echo(f"{name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
