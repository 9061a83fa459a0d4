"""The locustfile: users that ask, wait for the whole answer, and ask again; from few to many in equal steps.

`locust -f` runs it in its own process. Nothing of the collector imports it: importing Locust makes gevent replace
sockets, threads and sleep of the whole process.

Settings come from the environment, each named QUANTCASE_LT_*; `run.environment` writes them.

Every request carries, as its name in Locust's statistics, the step in which it was sent (`20 users`). So `_stats.csv`
has counts and percentiles of each step by itself. What is sent while a step settles goes under `between steps`.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

from locust import FastHttpUser, LoadTestShape, constant, events, runners, task

from collector.bundle.loadtest import BETWEEN, entry, settle_s
from collector.load.prompts import Calibration, PromptMaker
from collector.study import loads

__all__ = ["Chat", "Steps"]

_PATH = "/v1/chat/completions"
_REFUSED_S = 1.0  # a server that cannot be reached is not asked again at once
_LAST_ROW_S = 1.5  # Locust writes its files once a second; without this pause the last second would be lost


def _given(name: str, otherwise: str = "") -> str:
    return os.environ.get(f"QUANTCASE_LT_{name}", otherwise)


_STEPS = [int(users) for users in _given("STEPS", "1").split(",")]  # users of each step
_STEP_S = float(_given("STEP_S", "60"))
_WORDS = int(_given("WORDS", "100"))
_TOKENS = int(_given("OUTPUT_TOKENS", "64"))
_EXACT = _given("EXACT", "1") == "1"  # answers of just that many tokens
_TIMEOUT_S = float(_given("REQUEST_TIMEOUT_S", "300"))
_BODY: dict[str, Any] = {
    "model": _given("MODEL"),
    "stream": False,
    "max_tokens": _TOKENS,
    "temperature": 0,
    **({"min_tokens": _TOKENS, "ignore_eos": True} if _EXACT else {}),
    **json.loads(_given("EXTRA_BODY", "{}")),
}
_MAKER = PromptMaker(loads(Path(_given("STUDY")).read_text("utf-8"), "study.toml"), Calibration())
_KEY = _given("API_KEY")
_numbers = itertools.count()
_began = time.monotonic()

if hasattr(runners, "WORKER_REPORT_INTERVAL"):  # 3 s: with several processes the history would lag by so much
    runners.WORKER_REPORT_INTERVAL = 1.0


def _start(environment: Any, **_: Any) -> None:
    """In every process of the test: the zero of its steps."""
    global _began
    _began = time.monotonic()


def _quit(environment: Any, **_: Any) -> None:
    if environment.parsed_options and environment.parsed_options.csv_prefix:
        time.sleep(_LAST_ROW_S)  # gevent's: the writer goes on meanwhile


_listen: Any = events
_listen.test_start.add_listener(_start)
_listen.quitting.add_listener(_quit)


def _name() -> str:
    """The step that a request sent now belongs to."""
    number, into = divmod(time.monotonic() - _began, _STEP_S)
    if number >= len(_STEPS) or into < settle_s(_STEP_S):
        return BETWEEN
    return entry(_STEPS[int(number)])


def _problem(reply: Any) -> str:
    """Why an answer is none, in words that do not change from request to request; empty when it is one."""
    if not reply.status_code:
        return f"no answer: {type(reply.error).__name__}"
    if reply.status_code != 200:
        return f"HTTP {reply.status_code}"
    try:
        document = json.loads(reply.text or "")
        whole = bool(document["choices"]) and isinstance(document["choices"][0]["message"], dict)
        tokens = document["usage"]["completion_tokens"]
    except (ValueError, KeyError, TypeError, IndexError):
        return "the reply is no chat completion with usage"
    if not whole:
        return "the reply holds no message"
    return "another number of tokens than asked for" if _EXACT and tokens != _TOKENS else ""


class Chat(FastHttpUser):
    """One user: the next request goes out when the last is answered, without a pause."""

    wait_time = constant(0)
    network_timeout = _TIMEOUT_S
    connection_timeout = _TIMEOUT_S
    default_headers = {"Authorization": f"Bearer {_KEY}"} if _KEY else None

    def on_start(self) -> None:
        # The n-th user of the w-th process asks the same in every variant, and no two users ask the same.
        process = getattr(self.environment.runner, "worker_index", 0)
        self._place = f"loadtest/{process}/{next(_numbers)}"
        self._asked = 0

    @task
    def ask(self) -> None:
        prompt = _MAKER.words(_WORDS, f"{self._place}/{self._asked}")
        self._asked += 1
        body = {**_BODY, "messages": [{"role": "user", "content": prompt}]}
        with self.client.post(_PATH, name=_name(), json=body, catch_response=True) as reply:
            if problem := _problem(reply):
                reply.failure(problem)
        if not reply.status_code:
            time.sleep(_REFUSED_S)


class Steps(LoadTestShape):
    """So many users for so long, then more, then the end. The new users of a step start within a second."""

    def tick(self) -> tuple[int, float] | None:
        number = int(self.get_run_time() // _STEP_S)  # type: ignore[no-untyped-call]
        return (_STEPS[number], float(max(_STEPS))) if number < len(_STEPS) else None
