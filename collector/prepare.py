"""What is settled before a run: which variants, how long, on which card."""

from __future__ import annotations

import msgspec

from collector.design import with_control
from collector.errors import UsageFault
from collector.gpus import GpuProfile
from collector.plan import for_profile
from collector.study import Price, Study

__all__ = ["asked", "check_names", "designed", "narrowed", "priced", "share"]


_QUICK_ITEMS = {"exact": 40, "labels": 23, "likelihood": 6, "long-context": 5}


def _quick(study: Study) -> Study:
    """A shorter study to try things out: one repeat, short loops. Its numbers carry wide intervals and say n = 1."""
    workloads = [
        msgspec.structs.replace(
            w,
            requests_per_stream=min(3, w.requests_per_stream),
            min_requests=min(6, w.min_requests),
            duration_s=min(10.0, w.duration_s),
        )
        for w in study.workloads
    ]
    suites = [msgspec.structs.replace(q, items=_QUICK_ITEMS.get(q.kind, q.items)) for q in study.quality]
    study = msgspec.structs.replace(study, quality=suites)
    return msgspec.structs.replace(study, repeats=1, starts=1, workloads=workloads, title=f"{study.title} (quick look)")


def designed(study: Study, *, quick: bool, repeats: int | None, starts: int | None, control: bool) -> Study:
    """The study with what the command line says of its design."""
    if quick:
        study = _quick(study)
    study = msgspec.structs.replace(study, repeats=repeats or study.repeats, starts=starts or study.starts)
    return with_control(study) if control else study


def asked(study: Study, *, items: int | None, none: bool) -> Study:
    """The study with fewer or more quality items, or without its suites."""
    if none:
        return msgspec.structs.replace(study, quality=[])
    if items is None:
        return study
    suites = [msgspec.structs.replace(s, items=items) if s.kind != "sanity" else s for s in study.quality]
    return msgspec.structs.replace(study, quality=suites)


def share(text: str) -> float:
    """`3%` or `0.03` as 0.03.

    Raises:
        UsageFault: no number, or none between 0 and 1.
    """
    try:
        value = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise UsageFault(f"--until-precise {text} is no share", fix="for example 3%")
    return value


def check_names(study: Study, names: tuple[str, ...]) -> None:
    """Raises UsageFault when the study has no variant of that name."""
    known = [v.name for v in study.variants]
    for name in names:
        if name not in known:
            raise UsageFault(f"study {study.id} has no variant {name}", fix=f"it has {', '.join(known)}")


def narrowed(study: Study, names: tuple[str, ...]) -> Study:
    """The study with only the named variants, in its own order.

    Raises:
        UsageFault: a name is unknown, or the baseline is not among them.
    """
    check_names(study, names)
    if study.baseline not in names:
        raise UsageFault(f"the baseline {study.baseline} is not among the variants", fix="name it too")
    kept = study.predictions if study.predictions and study.predictions.variant in names else None
    control = study.control if study.control in names else ""
    variants = [v for v in study.variants if v.name in names]
    return msgspec.structs.replace(study, variants=variants, predictions=kept, control=control)


def priced(study: Study, profile: GpuProfile) -> Study:
    """The study on that card, with the profile's price where it names none. A replay costs nothing."""
    study = for_profile(study, profile)
    price = profile.price_usd_per_hour
    if study.price is None and price is not None and study.engine.name != "replay":
        quoted = Price(usd_per_hour=price.value, source=price.source, date=price.date)
        study = msgspec.structs.replace(study, price=quoted)
    return study
