"""Bundles with a served fp8 and awq and their answers: what model cards are made of."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.bundle.answers import QualityRow
from collector.bundle.read import open_bundle
from collector.bundle.write import BundleWriter
from collector.study import Study, loads
from quantcase.catalog import Case
from quantcase.pages.view import CaseView, Options
from tests.makers import STUDY, quality_items

__all__ = ["small", "study", "the_hub", "view_of", "with_answers"]

SUITES = '[[quality]]\nkind = "exact"\n[[quality]]\nkind = "labels"\ndataset = "acme/banking"\nname = "bank"\n'


def study(weights: str = "real", **more: Any) -> Study:
    made = loads(STUDY.format(weights=weights) + SUITES, "test")
    chat, batch = made.workloads
    made.workloads = [  # one load point each: the figures behind a card are tested where they are worked out
        msgspec.structs.replace(chat, concurrency=[16]), msgspec.structs.replace(batch, concurrency=[32]),
    ]  # fmt: skip
    return msgspec.structs.replace(made, **more)


def small(weights: str = "real", **more: Any) -> Study:
    """The baseline and fp8 under one workload."""
    whole = study(weights)
    return study(weights, **{"variants": whole.variants[:2], "workloads": whole.workloads[:1], **more})


def with_answers(folder: Path, lost: dict[str, int], n: int = 400) -> None:
    """Every variant but bf16-fp8kv answers `n` prompts of `exact` and 60 of `bank`; the baseline is right on 3 of 4."""
    writer = BundleWriter.resume(folder)
    r = random.Random(7)
    for suite, count in (("exact", n), ("bank", 60)):
        items = quality_items(suite, count, "task", 2)
        writer.answers.add_items(suite, items)
        right = [r.random() < 0.75 for _ in items]
        for name in [v.name for v in writer.study.variants if v.name != "bf16-fp8kv"]:
            gone = set([i for i, ok in enumerate(right) if ok][: lost.get(name, 0)])
            for i, item in enumerate(items):
                ok = right[i] and i not in gone
                writer.answers.add(
                    QualityRow(
                        variant=name, start=1, suite=suite, task=item.task, prompt_id=item.prompt_id,
                        prompt_sha256="0" * 64, output="4" if ok else "5", score=float(ok), output_tokens=1,
                    )
                )  # fmt: skip
    writer.close("complete")


def the_hub() -> Any:
    """The Hub's own library; its tests are skipped, and say so, where it is not installed."""
    return pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install -e '.[dev]'")


def view_of(folder: Path, options: Options | None = None) -> CaseView:
    bundle = open_bundle(folder)
    return CaseView(Case(bundle, bundle.study(), []), options or Options())
