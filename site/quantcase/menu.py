"""Which generated pages stand in the menu, and where."""

from __future__ import annotations

from typing import Any

from quantcase.output import Output

__all__ = ["MOST", "Menu"]

MOST = 40  # every page carries the whole menu: with all cases in it a site grows with their square


class Menu:
    """The cases of a menu, taken one by one, newest first."""

    def __init__(self, most: int | None = None) -> None:
        self._most = MOST if most is None else most
        self._cases: list[Any] = []

    def takes(self, output: Output) -> bool:
        """Whether a page may stand in the menu; a case that does is listed. Pages below a case are reached from it."""
        if output.uri.count("/") >= 3 or (output.title and len(self._cases) >= self._most):
            return False
        if output.title:
            self._cases.append({output.title: output.uri})
        return True

    def put_into(self, nav: list[Any] | None) -> None:
        """Put the cases under the entry that holds cases/index.md, in place."""
        for entry in nav or []:
            if isinstance(entry, dict):
                for title, target in entry.items():
                    if target == "cases/index.md" or (isinstance(target, list) and "cases/index.md" in target):
                        entry[title] = ["cases/index.md", *self._cases]
