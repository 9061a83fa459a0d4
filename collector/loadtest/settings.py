"""What a load test asks: the table `[loadtest]` of a study."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from collector.errors import UsageFault

__all__ = ["LoadTest"]


class LoadTest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load test with Locust, once a variant: users who ask, wait for the whole answer, and ask again."""

    users_from: Annotated[int, Meta(ge=1)] = 10
    users_to: Annotated[int, Meta(ge=1, le=10_000)] = 50
    users_step: Annotated[int, Meta(ge=1)] = 10
    step_s: Annotated[float, Meta(ge=2)] = 60.0  # of each step; its first fifth, at least 1 s, does not count
    processes: Annotated[int, Meta(ge=1)] = 1  # of Locust: one is enough for some hundred requests a second
    input_tokens: Annotated[int, Meta(ge=1)] = 256  # aimed at
    output_tokens: Annotated[int, Meta(ge=1)] = 128  # exact: ignore_eos and min_tokens; with natural_length the most
    natural_length: bool = False  # answers end where the model ends them
    request_timeout_s: Annotated[float, Meta(gt=0)] = 300.0

    def steps(self) -> list[int]:
        """Users of each step. The last is users_to, also where the steps do not meet it.

        Raises:
            UsageFault: it would begin with more users than it ends with.
        """
        if self.users_from > self.users_to:
            raise UsageFault(
                f"a load test from {self.users_from} to {self.users_to} users", fix="the fewer users first"
            )
        return [*range(self.users_from, self.users_to, self.users_step), self.users_to]

    def seconds(self) -> float:
        """How long all steps take, without the start and without the last answers."""
        return self.step_s * len(self.steps())
