"""Reports hold what was measured and what a person says of it: only the measured part is written anew."""

from __future__ import annotations

from pathlib import Path

__all__ = ["put"]


def put(report: Path, part: str, measured: str) -> None:
    """Write the measured part of that name into a report, at its end where it has none yet; all else stays."""
    begin, end = f"<!-- measured: {part} -->\n", f"<!-- end: {part} -->\n"
    before = report.read_text("utf-8") if report.is_file() else ""
    kept, found, rest = before.partition(begin)
    if found:
        _, closed, rest = rest.partition(end)
        if not closed:
            raise SystemExit(f"{report}: {begin.strip()} has no end: put {end.strip()} where it is")
    report.write_text(f"{kept}{begin}\n{measured.strip()}\n\n{end}{rest}", "utf-8")
