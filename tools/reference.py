"""Writes the column reference of docs/guide/bundle.md from the schema: `python -m tools.reference`."""

from __future__ import annotations

from pathlib import Path

from collector.bundle.schema import TABLES, columns

PAGE = Path(__file__).parent.parent / "docs" / "guide" / "bundle.md"
MARK = "<!-- the rest is written by tools/reference.py -->"


def reference() -> str:
    """Every table with every column, its type, unit and meaning."""
    parts = []
    for table in TABLES.values():
        lines = [f"### {table.path}", "", f"{table.holds}.", ""]
        lines += ["| Column | Type | Unit | Meaning |", "|---|---|---|---|"]
        for c in columns(table.row):
            kind = c.kind if c.required else f"{c.kind}, may be empty"
            lines.append(f"| `{c.name}` | {kind} | {c.unit or '-'} | {c.meaning.replace('|', '&#124;')} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def page(text: str) -> str:
    """The page with its reference renewed."""
    return text[: text.index(MARK)] + MARK + "\n\n" + reference()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
