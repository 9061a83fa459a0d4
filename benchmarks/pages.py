"""What a reader's browser has to carry: `python -m benchmarks.pages SITE` writes benchmarks/PAGES.md.

Lighthouse (npm; `--lighthouse` names the folder that holds node_modules) with its default mobile profile, against a
server that packs as GitHub Pages does. Scores of a busy machine vary: each page is measured several times, the median
stands here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools import chromium
from tools.serve_gzip import served

ROOT = Path(__file__).parent.parent
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
LEAST = {"performance": 95, "accessibility": 100, "best-practices": 95, "seo": 95}
MUST = ("home", "case", "costs", "compare")  # what a client opens first; the others are told beside them
MOST_KB = 350
AUDITS = {
    "LCP, s": ("largest-contentful-paint", 1000, 1), "TBT, ms": ("total-blocking-time", 1, 0),
    "CLS": ("cumulative-layout-shift", 1, 3), "Sent, KB": ("total-byte-weight", 1000, 0),
    "Elements": ("dom-size", 1, 0),
}  # fmt: skip
MOST_S = 180  # for one visit


@dataclass(frozen=True)
class Page:
    """One page, measured several times."""

    kind: str
    scores: dict[str, float]
    audits: dict[str, float]

    @property
    def good(self) -> bool:
        """Whether it may be published so."""
        light = self.audits["Sent, KB"] < MOST_KB and self.audits["CLS"] < 0.001
        return light and all(self.scores[name] >= least for name, least in LEAST.items())


def addresses(site: Path) -> dict[str, str]:
    """Kind of page -> its address below the site; of cases the one with the longest page."""
    cases = sorted(site.glob("cases/*/index.html"), key=lambda p: p.stat().st_size)
    if not cases:
        raise SystemExit(f"no case below {site}; build the site first: mkdocs build")
    case = cases[-1].parent.name
    kinds = {"home": "", "case": f"cases/{case}/", "costs": "costs/", "compare": "compare/"}
    kinds |= {name: f"cases/{case}/{name}/" for name in ("quality", "notes", "plan", "log", "projection", "data")}
    return {**kinds, "cases": "cases/", "history": "history/", "fit": "fit/", "methodology": "methodology/"}


def measured(url: str, lighthouse: Path) -> dict[str, Any]:
    """Lighthouse's report of one visit."""
    browser = chromium.found()
    if browser is None:
        raise SystemExit(chromium.MISSING)
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "report.json"
        command = ["node", str(lighthouse / "node_modules/lighthouse/cli/index.js"), url, "--quiet", "--output=json",
                   f"--output-path={out}", f"--chrome-flags={FLAGS}", "--no-enable-error-reporting"]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=MOST_S,
            env={**os.environ, "CHROME_PATH": browser, "PUPPETEER_SKIP_DOWNLOAD": "1"},
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"lighthouse failed on {url}: {done.stderr.strip()[-300:]}")
        report: dict[str, Any] = json.loads(out.read_text("utf-8"))
        return report


def page(kind: str, reports: list[dict[str, Any]]) -> Page:
    """Medians of its visits."""

    def middle(figures: list[float]) -> float:
        return statistics.median(figures)

    scores = {n: middle([100 * r["categories"][n]["score"] for r in reports]) for n in LEAST}
    audits = {
        words: middle([r["audits"][name]["numericValue"] / unit for r in reports])
        for words, (name, unit, _) in AUDITS.items()
    }
    return Page(kind, scores, audits)


def table(pages: list[Page]) -> str:
    """The figures as Markdown."""
    names = ["Performance", "Accessibility", "Best practices", "SEO", *AUDITS]
    lines = [f"| Page | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for p in pages:
        figures = [f"{p.scores[n]:.0f}" for n in LEAST]
        figures += [f"{p.audits[words]:,.{digits}f}" for words, (_, _, digits) in AUDITS.items()]
        lines.append(f"| {p.kind} | {' | '.join(figures)} |")
    return "\n".join(lines)


def report(pages: list[Page], repeats: int, load: float, version: str) -> str:
    """The whole of PAGES.md."""
    least = ", ".join(f"{name} {least}" for name, least in LEAST.items())
    return f"""# What a page asks of a browser

Written by `python -m benchmarks.pages` on {datetime.now(UTC):%Y-%m-%d}: Lighthouse {version}, its mobile profile (slow
4G, a processor four times slower; both simulated), files gzipped as GitHub Pages sends them, {os.cpu_count()} cores,
1-minute load {load:.1f} before the first page. Medians of {repeats}. Performance falls on a machine that others use;
the rest does not.

{table(pages)}

Wanted of {", ".join(MUST)}: {least};
less than {MOST_KB} KB sent before anything is asked for; no layout shift. Of cases the one with the longest page is
measured. LCP: largest contentful paint. TBT: total blocking time. CLS: cumulative layout shift.
"""


def main() -> None:
    """Measure and write; exits 1 when a page that must be good falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, nargs="?", default=ROOT / "public")
    parser.add_argument("--lighthouse", type=Path, default=ROOT / ".cache" / "node")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="kinds of pages")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "PAGES.md")
    asked = parser.parse_args()
    package = asked.lighthouse / "node_modules" / "lighthouse" / "package.json"
    if not package.is_file():
        raise SystemExit(f"no lighthouse below {asked.lighthouse}: sh tools/install_lighthouse.sh {asked.lighthouse}")
    load, pages = os.getloadavg()[0], []
    version = json.loads(package.read_text("utf-8"))["version"]
    wanted = {kind: place for kind, place in addresses(asked.site).items() if not asked.only or kind in asked.only}
    with served(asked.site) as address:
        for kind, place in wanted.items():
            pages.append(page(kind, [measured(f"{address}/{place}", asked.lighthouse) for _ in range(asked.repeats)]))
            asked.out.write_text(report(pages, asked.repeats, load, version), "utf-8")
            print(table(pages[-1:]).splitlines()[-1], flush=True)
    short = [p.kind for p in pages if not p.good]
    if short:
        print(f"these fall short: {', '.join(short)}")
    if any(kind in MUST for kind in short):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
