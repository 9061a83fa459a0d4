"""Which generated pages stand in the menu, and where."""

from __future__ import annotations

import re
from typing import Any

from quantcase.output import Output
from quantcase.titles import Named, apart

__all__ = ["MOST", "Menu"]

MOST = 40  # every page carries the whole menu: with all cases in it a site grows with their square
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?=-)")  # a bundle's name begins with the day of its run
_GPUS, _BEFORE_IT = "gpus/index.md", "history/index.md"


class Menu:
    """The cases of a menu, taken one by one, newest first; and the page across GPUs, where it has something to say."""

    def __init__(self, most: int | None = None) -> None:
        self._most = MOST if most is None else most
        self._cases: list[tuple[str, str]] = []  # title, page
        self._gpus = ""

    def takes(self, output: Output) -> bool:
        """Whether a page may stand in the menu; a case that does is listed. Pages below a case are reached from it."""
        if output.uri == _GPUS:
            self._gpus = output.title
            return bool(output.title)
        if output.uri.count("/") >= 3 or (output.title and len(self._cases) >= self._most):
            return False
        if output.title:
            self._cases.append((output.title, output.uri))
        return True

    def put_into(self, nav: list[Any] | None) -> None:
        """Put the cases under the entry that holds cases/index.md, and the GPUs behind history/index.md, in place.

        Cases of one title get their date behind it, or their bundle's name, so that they can be told apart.
        """
        cases: list[Any] = ["cases/index.md"]
        for (title, uri), which in zip(self._cases, apart([_named(*case) for case in self._cases]), strict=True):
            cases.append({f"{title} ({which})" if which else title: uri})
        for entry in nav or []:
            if isinstance(entry, dict):
                for title, target in entry.items():
                    if target == "cases/index.md" or (isinstance(target, list) and "cases/index.md" in target):
                        entry[title] = list(cases)
        if nav and self._gpus and not any(_leads(entry, _GPUS) for entry in nav):
            at = next((i for i, entry in enumerate(nav) if _leads(entry, _BEFORE_IT)), len(nav) - 1)
            nav.insert(at + 1, {self._gpus: _GPUS})


def _named(title: str, uri: str) -> Named:
    name = uri.removesuffix("/index.md").rpartition("/")[2]
    day = _DATE.match(name)
    return Named(title, name, day[0] if day else "")


def _leads(entry: Any, page: str) -> bool:
    """Whether an entry of a menu is a page, or holds it."""
    inside = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
    return entry == page or any(_leads(x, page) for x in inside)
