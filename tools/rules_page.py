"""Writes docs/guide/rules.md, the rule book of `collect check`, from its registry: `python -m tools.rules_page`."""

from __future__ import annotations

from pathlib import Path

from collector.bundle.check import LEVELS, RULES
from collector.bundle.rules import FAMILIES

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parent.parent / "docs" / "guide" / "rules.md"

_HEAD = """# The rule book

<!-- written by tools/rules_page.py from collector/bundle/rules/: change them there, run python -m tools.rules_page -->

`collect check BUNDLE...` holds a bundle against these rules. Each finding carries the id of its rule. An id keeps \
its meaning; one that falls out of use is not given again. `collect check --rules` lists them in the terminal.

| Level | Means | Exit code |
|---|---|---|
| error | do not believe the bundle: pages give no verdict | 1 |
| interrupted | the run is not finished; what is there is sound | 1; 0 with `--allow-interrupted` |
| warning | a figure may mislead: look before you quote it | 0; 1 with `--strict` |
| note | worth knowing beside the figures | 0 |

A rule is judged only where the bundle holds what it is about: rules about telemetry neither pass nor fail in a \
bundle without telemetry. Whether figures may be believed (comparability, sufficiency, the client, the machine) is \
asked only of grades `measured` and `imported`, and mostly of complete runs.
"""


def _cell(words: str) -> str:
    return words.replace("|", "&#124;")


def page() -> str:
    """The whole page: every rule with its sentence, why it is there, and what to do when it is broken."""
    parts = [_HEAD]
    for number, title in FAMILIES.items():
        rules = [r for r in RULES.values() if r.family == number]
        lines = [
            f"## {title}",
            "",
            "| Rule | Level | What holds | Why | What to do when it does not |",
            "|---|---|---|---|---|",
        ]
        lines += [f"| `{r.id}` | {r.level} | {_cell(r.sentence)} | {_cell(r.why)} | {_cell(r.fix)} |" for r in rules]
        parts.append("\n".join(lines) + "\n")
    counted = ", ".join(f"{sum(r.level == level for r in RULES.values())} {level}" for level in LEVELS)
    parts.append(f"{len(RULES)} rules: {counted}.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
