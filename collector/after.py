"""What follows the load points on a server that still runs: load test, quality pass, and the stress that may end it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from collector.budget import Budget
from collector.bundle.stress import read_stress
from collector.bundle.write import BundleWriter
from collector.engines.base import Server
from collector.errors import QuantcaseError
from collector.load.measure import Client
from collector.load.prompts import Calibration, PromptMaker
from collector.loadtest import once as load_test
from collector.probes.redact import redact
from collector.progress import View
from collector.quality.judge import Judge, passes_due, passes_wanted
from collector.stress import Stress, left
from collector.study import Study

__all__ = ["After"]

_ALL = 99  # more passes than there ever are


class After:
    """Knows what is still due beyond the cells, and does it.

    Args:
        stress: whether variants are to be pushed until they break.
        cells_left: whether a variant has cells that are still to be measured: these come first.
        calibration: how many words make how many tokens on that server.
    """

    def __init__(
        self,
        *,
        study: Study,
        writer: BundleWriter,
        view: View,
        budget: Budget,
        stress: bool,
        api_key: str | None,
        cells_left: Callable[[str], bool],
        calibration: Callable[[Client], Awaitable[Calibration]],
    ) -> None:
        self._study = study
        self._writer = writer
        self._view = view
        self._budget = budget
        self._stress = stress
        self._api_key = api_key
        self._cells_left = cells_left
        self._calibration = calibration
        self._grade = writer.manifest.quantcase.grade
        self._longest_s = 0.0

    def passes(self) -> int:
        """Quality passes of the variant that has most: the baseline's two, or none."""
        return max(passes_wanted(self._study, v.name, grade=self._grade) for v in self._study.variants)

    def unjudged(self, variant: str, upto: int = _ALL) -> bool:
        """Whether the load test, or passes up to that number, are still to be made."""
        return load_test.due(self._study.loadtest, self._writer, variant) or any(
            n <= upto for n in passes_due(self._study, self._writer, variant, grade=self._grade)
        )

    def unstressed(self, variant: str) -> bool:
        """Whether a ladder of the stress is still without an end. A replay breaks at nothing that is real."""
        if not self._stress or self._grade == "simulated":
            return False
        return bool(left(self._study, read_stress(self._writer.folder), variant))

    def stress_due(self, variant: str) -> bool:
        """Whether the stress is what comes next: last, because it may end the server."""
        return self.unstressed(variant) and not self._cells_left(variant) and not self.unjudged(variant)

    async def load_test(self, server: Server, variant: str, client: Client) -> None:
        """The load test with Locust, where the study asks for one and the variant has none yet."""
        if (asked := self._study.loadtest) is not None:
            words = (await self._calibration(client)).words(asked.input_tokens)
            await load_test.once(
                asked, server, variant, words=words, writer=self._writer, budget=self._budget, view=self._view,
                extra_body=client.extra_body, api_key=self._api_key,
            )  # fmt: skip

    async def judge(self, server: Server, variant: str, start: int) -> None:
        """One pass of the quality suites, on the server that was measured."""
        due = passes_due(self._study, self._writer, variant, grade=self._grade)
        if not due:
            return
        self._budget.keep(self._longest_s)
        began = time.monotonic()
        extra = getattr(server, "extra_body", None)
        judge = Judge(
            study=self._study, variant=variant, start=start, number=due[0], server=server, writer=self._writer,
            view=self._view, extra_body=extra, api_key=self._api_key,
        )  # fmt: skip
        await judge.judge()
        self._longest_s = max(self._longest_s, time.monotonic() - began)

    async def push(self, server: Server, variant: str, start: int, log_path: Path) -> None:
        """The stress. Whatever it does to the server, this start served: no fault of it is noted in variants.csv."""
        if not self.stress_due(variant):
            return
        self._view.now(f"{variant}: stress")
        extra = getattr(server, "extra_body", None)
        client = Client(server.base_url, server.model, extra_body=extra, api_key=self._api_key)
        try:
            maker = PromptMaker(self._study, await self._calibration(client))
            await Stress(
                study=self._study, variant=variant, start=start, server=server, client=client, maker=maker,
                folder=self._writer.folder, budget=self._budget, say=self._view.say, log_path=log_path,
            ).climb()  # fmt: skip
        except QuantcaseError as e:
            self._view.say(f"WARNING {variant}: the stress ended early: {redact(str(e))}")
