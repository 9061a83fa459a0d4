"""What a person sees while a run is on: a live display on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from collector.bundle.schema import CellRow

__all__ = ["View"]


class View:
    """Use as a context manager. `console` decides by itself whether it is a terminal."""

    def __init__(self, console: Console, total: int, done: int = 0) -> None:
        self._console = console
        self._began = time.monotonic()
        self._total = total
        self._done = done
        self._live = console.is_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not self._live,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=total, completed=done)

    def __enter__(self) -> View:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """One line that stays."""
        stamp = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self._began))
        self._progress.console.print(f"[dim]{stamp}[/dim] {escape(line)}", highlight=False, soft_wrap=True)

    def now(self, what: str) -> None:
        """What is being done; on a terminal it is replaced by the next, elsewhere it is not shown."""
        self._progress.update(self._task, description=what)

    def repeat_done(self, cell: CellRow, repeats: int) -> None:
        """One repeat of one cell has been measured and saved."""
        self._done += 1
        self._progress.update(self._task, completed=self._done)
        speed = f"{cell.throughput_tok_s:9.1f} tok/s" if cell.throughput_tok_s is not None else "  no steady window"
        ttft = f"TTFT {cell.ttft_ms_p50:7.1f} ms" if cell.ttft_ms_p50 is not None else "TTFT -"
        bad = cell.n - cell.ok
        tail = f"  {bad} of {cell.n} failed" if bad else ""
        place = f"{self._done}/{self._total}"
        what = f"{cell.variant:<12} {cell.workload} {cell.load:<4} {cell.repeat}/{repeats}"
        self.say(f"{place:>7} {what} {speed}  {ttft}{tail}")
