"""Home and the list of cases: the answer in cards, then everything side by side."""

from __future__ import annotations

from collections.abc import Sequence

from collector.bundle.schema import VariantRow
from quantcase.analysis.memory import stated
from quantcase.analysis.points import pick
from quantcase.html import Column, badge, delta, figure, none, table
from quantcase.money import DOLLARS, Money
from quantcase.pages.findings import gainers, headline
from quantcase.pages.quality import grade_badge
from quantcase.pages.servers import gib
from quantcase.pages.view import CaseView, Options, render
from quantcase.text import number, said, signed_percent, text
from quantcase.titles import Named, apart

__all__ = ["cases_page", "page"]


def page(views: Sequence[CaseView], unreadable: Sequence[tuple[str, str]], options: Options) -> str:
    """The Markdown of `index.md`."""
    return render(
        "home.md.j2",
        client=text(options.client),
        confidential=options.confidential,
        cards=_cards(views, "cases/"),
        empty=none("There is no result bundle yet. Run <code>collect run --gpu cpu</code>, then build again."),
        matrix=_matrix(views, "cases/", Money(options.site.currency)),
        unreadable=[(text(name), text(why)) for name, why in unreadable],
    )


def cases_page(views: Sequence[CaseView], money: Money = DOLLARS) -> str:
    """The Markdown of `cases/index.md`."""
    return render(
        "cases.md.j2",
        cards=_cards(views, ""),
        empty=none("There is no result bundle yet."),
        matrix=_matrix(views, "", money),
    )


def _cards(views: Sequence[CaseView], prefix: str) -> list[dict[str, object]]:
    """Every case in a card; behind titles that coincide stands what tells their cases apart."""
    bundles = [view.case.bundle for view in views]
    named = [Named(b.manifest.title, b.folder.name, b.manifest.created[:10], b.info.status) for b in bundles]
    return [_card(view, prefix, which) for view, which in zip(views, apart(named), strict=True)]


def _card(view: CaseView, prefix: str, which: str = "") -> dict[str, object]:
    """One case in a card."""
    case, info = view.case, view.case.bundle.info
    facts: list[tuple[str, str]] = []
    for workload, c in view.answer.best.items():
        facts.append((f"{text(workload)} speed", f"{text(c.variant)} {delta(c)}"))
        cost = pick(view.points, c.variant, workload, c.load, "usd_per_1m_output_tokens")
        if cost is not None:
            amount = f"{view.money.number(cost.value)} {view.money.sign}"
            facts.append((f"{text(workload)} cost", f"{amount} per 1M output tokens"))
    if least := view.lightest:
        facts.append(("lightest weights", f"{gainers(least)}, {gib(least.memory.row)} ({signed_percent(least.ratio)})"))
    judged = [f"{text(v.variant)} {grade_badge(v.grade)}" for v in view.quality_verdicts.values()]
    facts.append(("quality", ", ".join(judged) or "not measured"))
    facts.append(("evidence", f"{badge(info.grade)} {text(info.weights)} weights, {text(info.status)}"))
    return {
        "title": text(case.title),
        "which": text(which),
        "href": f"{prefix}{case.id}/index.md",
        "verdict": view.answer.kind,
        "headline": headline(view),
        "facts": facts,
    }


def _weights(row: VariantRow | None) -> str:
    """In GiB; of a server over several GPUs what lies on each, which is said."""
    shown = number(row.weights_gib if row else None)
    return f"{shown} <small>each of {row.gpus} GPUs</small>" if row and (row.gpus or 1) > 1 else shown


def _matrix(views: Sequence[CaseView], prefix: str, money: Money) -> str:
    """Every variant of every case at its highest load."""
    rows = []
    for view in views:
        for w in view.case.study.workloads:
            loads = view.case.loads(w.name)
            if not loads:
                continue
            load = loads[-1].name
            for variant in view.case.measured_variants():
                speed = pick(view.points, variant, w.name, load, "throughput_tok_s")
                tail = pick(view.points, variant, w.name, load, "e2e_ms_p95")
                cost = pick(view.points, variant, w.name, load, "usd_per_1m_output_tokens")
                if speed is None:
                    continue
                served = stated(view.case, variant)
                base = variant == view.case.baseline
                rows.append(
                    [
                        text(variant),
                        f"{text(w.name)}, {said(loads[-1].words)}",
                        number(speed.value, 4),
                        "baseline" if base else delta(view.comparison(variant, w.name, load, "throughput_tok_s")),
                        figure(tail),
                        money.number(cost.value) if cost else "–",
                        _weights(served),
                        badge(view.case.bundle.info.grade),
                        f'<a href="{prefix}{view.case.id}/">{text(view.case.id)}</a>',
                    ]
                )
    if not rows:
        return none("Nothing has been measured yet.")
    figures = ["tok/s", "Δ", "E2E p95 (ms)", f"{money.sign} / 1M output tokens", "Weights (GiB)"]
    columns = [Column(n, n in figures) for n in ("Variant", "Load", *figures, "Evidence", "Case")]
    return "\n\n".join([table("matrix", columns, rows), *filter(None, [money.note()])])
