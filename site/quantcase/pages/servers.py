"""Words for servers over several GPUs, wherever a page speaks of a price, a header or a server."""

from __future__ import annotations

from collector.bundle.schema import VariantRow
from quantcase.analysis.servers import gpu_counts, mixed, several
from quantcase.pages.view import CaseView
from quantcase.text import counted, number, text

__all__ = ["gib", "note", "of_each", "of_gpus", "of_one"]


def of_each(view: CaseView) -> str:
    """What follows the price of an hour: empty where every server has one GPU."""
    return " for each GPU of a server" if several(view.case) else ""


def of_one(view: CaseView) -> str:
    """What follows the name of a part of memory that the engine states of one GPU; empty where every server has one."""
    return " of one GPU" if several(view.case) else ""


def gib(row: VariantRow) -> str:
    """The weights as the engine states them: of one GPU of the server, which is said where there are more."""
    count = row.gpus or 1
    return f"{number(row.weights_gib)} GiB" + (f" on each of {count} GPUs" if count > 1 else "")


def of_gpus(count: int) -> str:
    """What follows the word server or worker: empty for one of a single GPU."""
    return "" if count == 1 else f" of {counted(count, 'GPU')}"


def note(view: CaseView) -> str:
    """Which servers have how many GPUs, and what the figures are of; empty where every server has one."""
    counts = gpu_counts(view.case)
    if not several(view.case):
        return ""
    by_count: dict[int, list[str]] = {}
    for name, count in counts.items():
        by_count.setdefault(count, []).append(text(name))
    told = "; ".join(f"{counted(n, 'GPU')}: {', '.join(names)}" for n, names in sorted(by_count.items()))
    differ = " A difference between servers of unlike GPUs says how many each has." if mixed(view.case) else ""
    return f"Servers by their GPUs: {told}. Throughput and KV tokens are of the server; costs count every GPU.{differ}"
