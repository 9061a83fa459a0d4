"""Where decode stands under the card's roofs, as the classic plot wants it: operations per byte against operations per
second (roofline; Williams et al. 2009). Both follow from the shares that `plan_answers.roofs` estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from collector.bundle.read import Load
from quantcase.analysis.plan_answers import Roof
from quantcase.catalog import Case

__all__ = ["ceilings", "positions"]


def positions(case: Case, found: Sequence[Roof]) -> pd.DataFrame:
    """`variant, workload, load, at, intensity, tflops, low, high, bandwidth_share, compute_share, computes`.

    intensity = operations / bytes of a decode step (FLOP/byte); tflops = operations / TPOT, with the interval of the
    TPOT. Roofs whose operations cannot be counted are not here.
    """
    rates = _rates(case)
    rows = []
    for r in found:
        rate = rates.get(r.computes)
        if r.compute_share is None or rate is None or case.profile is None or case.profile.bandwidth_gb_s is None:
            continue
        tflops = r.compute_share * rate
        tb_s = r.bandwidth_share * case.profile.bandwidth_gb_s.value / 1000
        # A longer step is a slower one: the interval turns round.
        bounds = [tflops * r.tpot.value / x if x > 0 else math.nan for x in (r.tpot.high, r.tpot.low)]
        load = Load.of(r.load)
        at = load.words if load else r.load
        rows.append(
            (r.variant, r.workload, r.load, f"{r.workload}, {at}", tflops / tb_s, tflops, *bounds, r.bandwidth_share,
             r.compute_share, r.computes)
        )  # fmt: skip
    names = ["variant", "workload", "load", "at", "intensity", "tflops", "low", "high", "bandwidth_share"]
    return pd.DataFrame(rows, columns=[*names, "compute_share", "computes"])


def ceilings(case: Case, shown: pd.DataFrame) -> pd.DataFrame:
    """`roof, intensity, tflops, ridge`: three points of each roof that the shown positions need, from left to right.

    The slope is the profile's memory bandwidth; the flat parts are its dense rates.
    """
    if shown.empty or case.profile is None or case.profile.bandwidth_gb_s is None:
        return pd.DataFrame(columns=["roof", "intensity", "tflops", "ridge"])
    tb_s, rates = case.profile.bandwidth_gb_s.value / 1000, _rates(case)
    kinds = [k for k in rates if k in set(shown["computes"])]
    ridges = {k: rates[k] / tb_s for k in kinds}
    left = float(shown["intensity"].min()) / 2
    right = 2 * max(float(shown["intensity"].max()), *ridges.values())
    rows = []
    for kind in kinds:
        ridge = ridges[kind]
        rows += [(kind, x, min(rates[kind], x * tb_s), ridge) for x in sorted({min(left, ridge), ridge, right})]
    return pd.DataFrame(rows, columns=["roof", "intensity", "tflops", "ridge"])


def _rates(case: Case) -> dict[str, float]:
    """The profile's dense rates in TFLOP/s (TOP/s for integers), by data type."""
    p = case.profile
    named = {} if p is None else {
        "BF16": p.bf16_tflops, "FP16": p.fp16_tflops, "FP8": p.fp8_tflops, "INT8": p.int8_tops,
    }  # fmt: skip
    return {name: figure.value for name, figure in named.items() if figure is not None}
