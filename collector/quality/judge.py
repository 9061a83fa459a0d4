"""Asks one running server all that is still to be asked of it, and writes every answer down as it comes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from collector.bundle.answers import QualityItem, QualityRow
from collector.bundle.write import BundleWriter
from collector.engines.base import Server
from collector.errors import QuantcaseError
from collector.progress import View
from collector.quality import constrain, likelihood, suites
from collector.quality.ask import Asker, gather_in_order
from collector.quality.scorers import problem_of, score
from collector.study import QualitySuite, Study

__all__ = ["Judge", "passes_due", "passes_wanted"]

_MOST_LIKELIHOOD_STREAMS = 4
_OUTPUT_CHARS = 20_000
_SUITES_WITH_TOKENS = ("sanity",)  # long answers, read side by side: where does the variant leave the baseline?


def passes_wanted(study: Study, variant: str, *, grade: str) -> int:
    """How often a variant is asked everything: the baseline twice, in two server starts, because what differs between
    these two is no fault of quantization. Never where the answers are nobody's (replay) or the weights are dummies.
    """
    if not study.quality or grade == "simulated" or study.weights == "dummy":
        return 0
    if variant == study.control:
        return 0  # the baseline itself is asked twice
    return 2 if variant == study.baseline else 1


def passes_due(study: Study, writer: BundleWriter, variant: str, *, grade: str) -> list[int]:
    """The passes of a variant that are not whole yet."""
    titles = [suite.title for suite in study.quality]
    wanted = range(1, passes_wanted(study, variant, grade=grade) + 1)
    return [n for n in wanted if not writer.answers.whole(variant, n, titles)]


class Judge:
    """One pass over all suites on one server.

    Args:
        number: the pass; its rows say so as `repeat`.
        start: the server start that answers.
    """

    def __init__(
        self,
        *,
        study: Study,
        variant: str,
        start: int,
        number: int,
        server: Server,
        writer: BundleWriter,
        view: View,
        extra_body: dict[str, Any] | None,
        api_key: str | None,
    ) -> None:
        self._study = study
        self._variant = variant
        self._start = start
        self._number = number
        self._server = server
        self._writer = writer
        self._view = view
        self._extra = extra_body
        self._api_key = api_key

    async def judge(self) -> None:
        """Ask everything that has no row yet.

        Raises:
            QuantcaseError: the engine died meanwhile.
        """
        store = self._writer.answers
        async with Asker(
            self._server.base_url, self._server.model, extra_body=self._extra, api_key=self._api_key
        ) as asker:
            for suite in self._study.quality:
                if not store.has_items(suite.title):
                    items = await suites.build(suite, self._study, asker)
                    store.add_items(suite.title, items)
                    if how := constrain.told(items):
                        self._view.say(f"{self._variant} quality {suite.title}: {how}")
                if suite.kind == "lm-eval":
                    await self._harness(suite)
                    continue
                asked = store.missing(suite.title, self._variant, self._number)
                if suite.kind == "labels":
                    asked = constrain.as_written(self._writer.folder, asked)
                if asked:
                    await self._suite(suite, asked, asker)
        store.finish(self._variant, self._number)

    async def _suite(self, suite: QualitySuite, asked: list[QualityItem], asker: Asker) -> None:
        self._done, self._of, self._states = 0, len(asked), Counter[str]()
        self._right = 0.0
        self._first_error = ""
        likely = suite.kind == "likelihood"
        streams = min(suite.concurrency, _MOST_LIKELIHOOD_STREAMS) if likely else suite.concurrency
        one = self._score if likely else self._answer
        calls: list[Callable[[], Awaitable[None]]] = [functools.partial(one, suite, i, asker) for i in asked]
        await gather_in_order(streams, calls)
        if not self._server.alive():
            if likely:  # a known way to run out of memory, and it would happen again: it is not tried again
                self._give_up(suite)
            raise QuantcaseError(f"{self._variant}: the engine died during {suite.title}", fix="see the engine's log")
        bad = self._of - self._states["ok"]
        said = f"{self._right:.0f} of {self._of} right" if not likely else f"{self._of - bad} texts scored"
        failed = "" if not bad else f", {bad} without an answer: {self._first_error}"
        self._view.say(f"{self._variant} quality {suite.title}: {said}{failed}")

    def _give_up(self, suite: QualitySuite) -> None:
        why = "the engine died while it scored texts"
        for item in self._writer.answers.missing(suite.title, self._variant, self._number):
            row = likelihood.refused(
                item, variant=self._variant, start=self._start, repeat=self._number, status="error", error=why
            )
            self._writer.answers.add_likelihood(row)

    async def _answer(self, suite: QualitySuite, item: QualityItem, asker: Asker) -> None:
        prompt = item.prompt if item.prompt is not None else item.messages or []
        reply = await asker.answer(
            item.api, prompt, item.output_tokens,
            timeout_s=suite.request_timeout_s, tokens=suite.kind in _SUITES_WITH_TOKENS, more=constrain.fields(item),
        )  # fmt: skip
        if reply.status != "ok" and not self._server.alive():
            return  # the suite's end tells it; no row, so that a resumed run asks again
        if reply.status == "ok" and (fault := constrain.broken(item, reply)):
            reply.status, reply.error = "error", fault
        row = QualityRow(
            variant=self._variant, start=self._start, suite=item.suite, task=item.task, prompt_id=item.prompt_id,
            prompt_sha256=item.prompt_sha256, repeat=self._number, status=reply.status, error=reply.error,
            finish_reason=reply.finish_reason, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens,
        )  # fmt: skip
        if reply.status == "ok":
            row.output, row.tokens, row.top = reply.text[:_OUTPUT_CHARS], reply.tokens, reply.top
            row.problem = problem_of(reply.text, reply.finish_reason)
            if item.scorer:
                judged = score(item.scorer, reply.text, item.reference or "")  # type: ignore[arg-type]
                row.score, row.parsed, row.problem = judged.score, judged.parsed, judged.problem or row.problem
        self._writer.answers.add(row)
        self._count(row.status, row.error, row.score)

    async def _score(self, suite: QualitySuite, item: QualityItem, asker: Asker) -> None:
        place = {"variant": self._variant, "start": self._start, "repeat": self._number}
        if not item.token_ids:
            why = "the engine's /tokenize gives no ids"
            row = likelihood.refused(item, status="unsupported", error=why, **place)  # type: ignore[arg-type]
        else:
            ids, _ = await likelihood.spell(asker, item.prompt or "", timeout_s=suite.request_timeout_s)
            if ids is not None and ids[: len(item.token_ids)] != item.token_ids:
                why = "its tokenizer spells the text otherwise than the first server's"
                row = likelihood.refused(item, status="error", error=why, **place)  # type: ignore[arg-type]
            else:
                reply = await likelihood.score(asker, item, timeout_s=suite.request_timeout_s)
                if reply.status != "ok" and not self._server.alive():
                    return
                row = likelihood.read(reply, item, **place)  # type: ignore[arg-type]
        self._writer.answers.add_likelihood(row)
        self._count(row.status, row.error, None)

    def _count(self, status: str, error: str | None, right: float | None) -> None:
        self._done += 1
        self._states[status] += 1
        self._right += right or 0
        self._first_error = self._first_error or error or ""
        self._view.now(f"{self._variant} quality: {self._done} of {self._of}")

    async def _harness(self, suite: QualitySuite) -> None:
        from collector.quality.harness import answers

        store = self._writer.answers
        if store.missing(suite.title, self._variant, self._number) or not store.items_of(suite.title):
            items, rows = await answers(
                suite, self._study, self._server, variant=self._variant, start=self._start, number=self._number,
                say=self._view.now, api_key=self._api_key,
            )  # fmt: skip
            store.add_items(suite.title, items)
            for row in rows:
                store.add(row)
            right = sum(r.score or 0 for r in rows)
            self._view.say(f"{self._variant} quality {suite.title}: {right:.0f} of {len(rows)} right")
