"""What a person expects before a run: the table `[predictions]` of a study, kept in a bundle's predictions.json."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

__all__ = ["P95", "Answers", "HelpsMoreAt", "Ttft"]

Ttft = Literal["improves", "same", "worse"]
HelpsMoreAt = Literal["low", "high"]
P95 = Literal["similar", "improves", "degrades"]
VariantName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}\Z")]  # as study.Slug


class Answers(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Answers to five questions about one variant against the baseline; what was skipped is None or empty.

    Also the table `[predictions]` of a study.
    """

    variant: VariantName
    vram_reduction_pct: Annotated[float, Meta(ge=-100, le=100)] | None = None  # of the weights; negative: they grow
    ttft: Ttft | None = None
    helps_more_at: HelpsMoreAt | None = None  # concurrency at which quantizing gains more throughput
    p95_latency: P95 | None = None  # of E2E
    quality_failures: Annotated[str, Meta(max_length=500)] = ""  # types of tasks, in the person's words; or "none"

    @property
    def given(self) -> bool:
        """Whether any question was answered."""
        said = (self.vram_reduction_pct, self.ttft, self.helps_more_at, self.p95_latency)
        return any(x is not None for x in said) or bool(self.quality_failures)
