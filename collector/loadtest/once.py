"""The load test as part of a run: each variant has one, on a server that was measured just before."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collector.budget import Budget
from collector.bundle import loadtest
from collector.bundle.write import BundleWriter
from collector.engines.base import Server
from collector.errors import QuantcaseError
from collector.loadtest import run as locust
from collector.loadtest.settings import LoadTest
from collector.probes.redact import redact
from collector.progress import View

__all__ = ["check", "due", "once"]


def check(asked: LoadTest | None, grade: str) -> None:
    """Raises QuantcaseError, before anything is measured, when a load test is asked for and Locust is missing."""
    if asked is not None and grade != "simulated":
        locust.check()


def due(asked: LoadTest | None, writer: BundleWriter, variant: str) -> bool:
    """Whether a variant's load test is missing. It stands in the bundle when it is done, so a resumed run goes on with
    those that have none. The control needs none, and a replay knows only streams.
    """
    if asked is None or writer.manifest.quantcase.grade == "simulated" or variant == writer.study.control:
        return False
    return not loadtest.done(writer.folder, variant)


async def once(
    asked: LoadTest | None,
    server: Server,
    variant: str,
    *,
    words: int,
    writer: BundleWriter,
    budget: Budget,
    view: View,
    extra_body: Mapping[str, Any] | None,
    api_key: str | None,
) -> None:
    """Run the load test where it is missing. One that fails is told, and the variant stays as it is: the next server
    start tries again.

    Args:
        words: of a prompt, so many that it has about `input_tokens`.

    Raises:
        QuantcaseError: the engine died meanwhile.
        OutOfBudget: it may not fit into what the run may spend.
    """
    if asked is None or not due(asked, writer, variant):
        return
    budget.keep(asked.seconds())
    view.now(f"{variant}: load test, {asked.users_from} to {asked.users_to} users")
    try:
        with tempfile.TemporaryDirectory(prefix="quantcase-locust-") as work:
            files = await locust.run(
                asked, base_url=server.base_url, model=server.model, study=writer.folder / "study.toml", words=words,
                work=Path(work), extra_body=extra_body, api_key=api_key,
            )  # fmt: skip
            found = loadtest.save(
                writer.folder, variant, stats=files.stats, history=files.history, failures=files.failures, clean=redact
            )
    except QuantcaseError as e:
        if not server.alive():
            raise QuantcaseError(f"{variant}: the engine died during the load test", fix="see its log") from None
        view.say(f"WARNING {variant}: no load test: {redact(e.problem)}")
        return
    if not server.alive():
        raise QuantcaseError(f"{variant}: the engine died during the load test", fix="see its log")
    last = found.steps[-1]
    rps = "-" if last.rps is None else f"{last.rps:.1f}"
    p95 = "-" if last.p95_ms is None else f"{last.p95_ms:.0f}"
    view.say(
        f"{variant} load test: with {last.users} users {rps} requests/s, p95 {p95} ms; "
        f"{found.failed} of {found.requests} requests failed"
    )
