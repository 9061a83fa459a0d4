"""What a run still has to measure, from what its bundle holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from collector.after import After
from collector.bundle.schema import Status
from collector.bundle.write import BundleWriter
from collector.load.schedule import next_load, probes, settled
from collector.study import Study

__all__ = ["Due", "WantedOf", "everywhere"]

WantedOf = Callable[[str, str, str], int]  # (variant, workload, load) -> repeats, over all its server starts


def everywhere(repeats: int) -> WantedOf:
    """That many repeats of every load point."""

    def wanted(_variant: str, _workload: str, _load: str) -> int:
        return repeats

    return wanted


class Due:
    """Reads the writer's rows anew at each question.

    Args:
        failed: variants that crashed in this run; they are not tried again in it.
    """

    def __init__(self, study: Study, writer: BundleWriter, failed: Collection[str]) -> None:
        self._study = study
        self._writer = writer
        self._failed = failed

    def repeats_done(self) -> Counter[tuple[str, str, str]]:
        """Repeats of (variant, workload, load) that are on disk."""
        return Counter((c.variant, c.workload, c.load) for c in self._writer.cells)

    def ended(self, variant: str) -> bool:
        """Whether its last start says that it cannot be served here: it is not tried again."""
        past = [v for v in self._writer.variants if v.variant == variant]
        return variant in self._failed or (bool(past) and past[-1].exit_state in ("oom", "unsupported"))

    def cells_left(self, variant: str, wanted: WantedOf) -> bool:
        """Whether a variant has cells that are still to be measured."""
        done = self.repeats_done()
        mine = [c for c in self._writer.cells if c.variant == variant]
        for workload in self._study.workloads:
            found = probes(mine, workload) if workload.search != "none" else []
            if workload.search != "none" and next_load(workload, found) is not None:
                return True
            loads = workload.loads() if workload.search == "none" else settled(workload, found)
            for load in loads:
                if done[(variant, workload.name, load.name)] < wanted(variant, workload.name, load.name):
                    return True
        return False

    def status(self, after: After) -> Status:
        """What the bundle may call itself now.

        A format that the engine or the card cannot do is a finding; a crash is not, and a resumed run tries it again.
        """
        last = {v.variant: v.exit_state for v in self._writer.variants}
        ended = {name for name, state in last.items() if state in ("oom", "unsupported")}
        if self._study.baseline in self._failed or (self._failed and not self._writer.cells):
            return "failed"
        enough = everywhere(self._study.starts * self._study.repeats)
        missing = [
            v.name
            for v in self._study.variants
            if v.name not in ended
            and (self.cells_left(v.name, enough) or after.unjudged(v.name) or after.unstressed(v.name))
        ]
        return "interrupted" if missing else "complete"
