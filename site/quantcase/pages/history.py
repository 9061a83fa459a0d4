"""The same study over time: runs, what changed around them, and what got better or worse beyond noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from quantcase.analysis.between import COST
from quantcase.analysis.between_document import CaseDocument
from quantcase.analysis.gpus_boxes import apart
from quantcase.analysis.series import HEADLINES, RECOVERY, VRAM, Change, Mark, Series, Step, series
from quantcase.charts.figure import slug
from quantcase.charts.history import over_time
from quantcase.html import Column, badge, banner, none, table
from quantcase.money import DOLLARS, Money
from quantcase.pages.view import CaseView, render
from quantcase.text import fixed, load_words, said, signed_percent, signed_percents, span, text

__all__ = ["page"]

_TITLES = {
    "throughput_tok_s": ("Throughput", "tok/s"),
    "ttft_ms_p95": ("TTFT p95", "ms"),
    COST: ("Cost", "1M output tokens"),  # in the site's currency: see _title
    VRAM: ("VRAM loaded, by the driver", "MiB"),
    RECOVERY: ("Quality recovery", "variant / baseline"),
}
_SHAPES = {
    "better": ("faster", "▲ better"),
    "worse": ("slower", "▼ worse"),
    "equivalent": ("equivalent", "= equivalent"),
    "negligible": ("negligible", "≈ different, negligible"),
    "inconclusive": ("inconclusive", "? inconclusive"),
}


def page(views: Sequence[CaseView], documents: Sequence[CaseDocument], money: Money = DOLLARS) -> str:
    """The Markdown of `history/index.md`. `documents` are those of `compare.documents`, one a view."""
    recoveries = {
        v.case.id: {
            q.variant: (a.recovery, _bound(a.recovery_low), _bound(a.recovery_high))
            for q in v.quality
            if (a := q.accuracy) is not None and a.recovery is not None
        }
        for v in views
    }
    found = series(documents, recoveries)
    again = [s for s in found if len(s.runs) > 1]
    once = [s for s in found if len(s.runs) == 1]
    return render(
        "history.md.j2",
        series=[_section(s, money) for s in again],
        empty=""
        if again
        else none("No study has been run twice on the same GPU yet, so nothing can be said over time."),
        once=_once(once) if once else none("There is no study that was run only once."),
    )


def _bound(x: float | None) -> float:
    return math.nan if x is None else x


def _section(s: Series, money: Money) -> dict[str, str]:
    newest = s.runs[-1]
    grade = "" if s.grade == "measured" else f", {text(s.grade)}"
    return {
        "title": f"{text(s.study)} on {text(s.gpu)}{grade}: {len(s.runs)} runs",
        "study": f"{text(s.study)} on {text(s.gpu)}, {text(s.grade)}, {text(s.weights)} weights",
        "banner": _banner(s),
        "finding": _finding(s),
        "runs": _runs(s),
        "figures": _figures(s, money),
        "charts": _charts(s, newest.baseline, money),
    }


def _banner(s: Series) -> str:
    lines = []
    if s.grade == "simulated":
        lines.append(banner("simulated", "Simulated: replayed timings. Nothing here was measured, nothing is named."))
    elif s.grade != "measured":
        lines.append(banner("grade", f"Evidence of grade {text(s.grade)}: not measured by this collector."))
    if s.weights == "dummy":
        lines.append(banner("dummy", "Dummy weights: speed and memory are those of the real shapes."))
    for run in s.runs:
        if not run.sound:
            lines.append(banner("faulty", f"{text(run.case)} has faults: nothing is named against it."))
        if run.status != "complete":
            lines.append(banner("interrupted", f"{text(run.case)} is {text(run.status)}."))
    return "\n".join(lines)


def _finding(s: Series) -> str:
    tested = sum(c.word != "none" for c in s.changes)
    if not tested:
        reasons = ", ".join(dict.fromkeys(said(c.why) for c in s.changes if c.why)) or "no figure was measured twice"
        return f"**Nothing is named.** Why: {reasons}."
    read = f"{fixed(tested)} figures with an interval were read at once; a cost moves with its throughput"
    if not s.named:
        return f"**Nothing got better or worse beyond noise.** {read}."
    items = [f"- {_sentence(s, c)}" for c in s.named]
    better = sum(c.word == "better" for c in s.named)
    head = f"**{better} better, {len(s.named) - better} worse beyond noise.** {read}."
    return "\n".join([head, "", *items])


def _sentence(s: Series, c: Change) -> str:
    at = f" in {text(c.workload)} at {load_words(c.load)}" if c.workload else ""
    return (
        f"{_date(s.runs[c.run])}: {_TITLES[c.metric][0]} of {text(c.variant)}{at} got **{c.word}**, "
        f"{signed_percent(c.ratio)} {_interval(c)}{_moved(s, c.run)}"
    )


def _moved(s: Series, run: int) -> str:
    """Whether a run was made on another card or box than the one before: that may be what changed."""
    before, after = s.runs[run - 1], s.runs[run]
    if not apart(_boxes(before), _boxes(after)):
        return ""
    return f"; measured on another box, {text(_box(after))} and not {text(_box(before))}"


def _boxes(run: CaseDocument) -> list[str]:
    """The cards or boxes that a run's variants were measured on; those of its sessions where starts are not told."""
    found = list(dict.fromkeys(b for v in run.variants.values() for b in v.boxes))
    return found or (run.hardware.boxes if run.hardware else [])


def _box(run: CaseDocument) -> str:
    return ", ".join(_boxes(run)) or "not recorded"


def _interval(c: Change) -> str:
    return f"({signed_percents(c.low, c.high)})"


def _date(run: CaseDocument) -> str:
    return text(run.created[:10])


def _engine(run: CaseDocument) -> str:
    """Engine and version as the variants' servers stated it, in plain text."""
    facts = [v.fixed.get("Engine", {}) for v in run.variants.values()]
    names = dict.fromkeys(f"{f.get('engine', '')} {f.get('version', '')}".strip() for f in facts)
    return ", ".join(n for n in names if n) or "not stated"


def _driver(run: CaseDocument) -> str:
    names = dict.fromkeys(v.fixed.get("Hardware", {}).get("driver", "") for v in run.variants.values())
    return ", ".join(n for n in names if n) or "not recorded"


def _link(run: CaseDocument) -> str:
    return f'<a href="../cases/{run.case}/">{text(run.case)}</a>'


def _runs(s: Series) -> str:
    steps = {step.run: step for step in s.steps}
    rows = [
        [
            _date(run),
            _link(run),
            text(_engine(run)),
            text(_driver(run)),
            text(_box(run)),
            f"{badge(run.grade)} {text(run.weights)} weights",
            _step(steps[i]) if i in steps else "first run",
        ]
        for i, run in enumerate(s.runs)
    ]
    names = ("Date", "Case", "Engine", "Driver", "Card or box", "Evidence", "Changed since the run before")
    return table(_name(s, "runs"), [Column(n) for n in names], rows)


def _step(step: Step) -> str:
    parts = [f"{text(d.variable)}{_of(names)}: {said(d.words)}" for names, d in step.changed]
    parts += [text(words) for words in step.checkpoints]
    return "<br>".join(parts) or "nothing that was recorded"


def _of(names: str) -> str:
    return f" of {text(names)}" if names else ""


def _name(s: Series, what: str) -> str:
    return slug("history", what, s.study, s.gpu, s.grade, s.weights)


def _keys(s: Series) -> list[tuple[str, str, str, str]]:
    """(metric, workload, load, variant) of every figure, headline by headline."""
    found = dict.fromkeys((m.metric, m.workload, m.load, m.variant) for m in s.marks)
    return sorted(found, key=lambda k: HEADLINES.index(k[0]))


def _figures(s: Series, money: Money) -> str:
    marks = {(m.metric, m.workload, m.load, m.variant, m.run): m for m in s.marks}
    changes = {(c.metric, c.workload, c.load, c.variant, c.run): c for c in s.changes}
    rows = []
    for key in _keys(s):
        metric, workload, load, variant = key
        title, unit = _TITLES[metric]
        unit, rate = _money(metric, unit, money)
        row = [f"{title} ({unit})", f"{text(workload)}, {load_words(load)}" if workload else "–", text(variant)]
        rows.append(row + [_cell(marks.get((*key, i)), rate, changes.get((*key, i))) for i in range(len(s.runs))])
    if not rows:
        return none("No figure was measured in these runs.")
    columns = [Column("Figure"), Column("Load"), Column("Variant")]
    heads = (f"{_date(run)}<br><small>{text(_engine(run))}<br>{text(_box(run))}</small>" for run in s.runs)
    columns += [Column(head, True) for head in heads]
    caption = (
        "95 % intervals where there are any; below a figure its change from the run before. "
        "A word stands where it holds after Holm over all figures of the series."
    )
    made = table(_name(s, "figures"), columns, rows, caption)
    return "\n\n".join([made, *filter(None, [money.note()])])


def _money(metric: str, unit: str, money: Money) -> tuple[str, float]:
    """(unit, what a value is multiplied with): a cost is shown in the site's currency."""
    return (f"{money.sign} / {unit}", money.of(1.0)) if metric == COST else (unit, 1.0)


def _cell(mark: Mark | None, rate: float, change: Change | None) -> str:
    value = "–" if mark is None else span(mark.value * rate, mark.low * rate, mark.high * rate)
    if change is None:
        return value
    if change.why:
        at = signed_percent(change.ratio) if not math.isnan(change.ratio) else "not compared"
        return f'{value}<br><small class="qc-span">{at}: {said(change.why)}</small>'
    kind, words = _SHAPES[change.word]
    return (
        f'{value}<br><span class="qc-change">{signed_percent(change.ratio)}</span> '
        f'<span class="qc-delta" data-class="{kind}">{words}</span> <small class="qc-span">{_interval(change)}</small>'
    )


def _charts(s: Series, baseline: str, money: Money) -> str:
    parts = []
    for metric, workload, load in dict.fromkeys(k[:3] for k in _keys(s)):
        mine = [m for m in s.marks if (m.metric, m.workload, m.load) == (metric, workload, load)]
        if len({m.run for m in mine}) < 2:
            continue
        title, unit = _TITLES[metric]
        unit, rate = _money(metric, unit, money)
        rows = [
            (m.run, s.runs[m.run].created[:10], _engine(s.runs[m.run]), _box(s.runs[m.run]), m.variant,
             *(rate * x for x in (m.value, m.low, m.high)))
            for m in mine
        ]  # fmt: skip
        data = pd.DataFrame(rows, columns=["run", "date", "engine", "box", "variant", "value", "low", "high"])
        at = f": {workload} at {load}" if workload else ""
        named = [c for c in s.named if (c.metric, c.workload, c.load) == (metric, workload, load)]
        words = "; ".join(f"{c.variant} {c.word} on {s.runs[c.run].created[:10]}" for c in named)
        finding = f"Beyond noise: {words}." if words else "Nothing got better or worse beyond noise."
        name = (s.study, s.gpu, s.grade, s.weights, metric, workload)
        parts.append(over_time(data, baseline, unit, name=name, title=f"{title}{at}", finding=finding).html())
    return "\n\n".join(parts) or none("No figure was measured in two of these runs.")


def _once(found: Sequence[Series]) -> str:
    rows = [[text(s.study), text(s.gpu), _link(s.runs[0]), _date(s.runs[0]), badge(s.grade)] for s in found]
    words = "These studies were run once on their GPU. A second run of one makes it a series."
    columns = [Column(n) for n in ("Study", "GPU", "Case", "Date", "Evidence")]
    return f"{words}\n\n" + table("history-once", columns, rows)
