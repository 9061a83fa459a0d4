"""Everything that the pages of one case share, worked out once, and the templates."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property

from jinja2 import Environment, PackageLoader, StrictUndefined

from quantcase.analysis.compare import Comparison, comparisons
from quantcase.analysis.experiments import excluded
from quantcase.analysis.hierarchy import Estimate
from quantcase.analysis.memory import Leader, Memory, lightest, memory, roomiest
from quantcase.analysis.points import Key, Point, cell_estimates, points
from quantcase.analysis.quality import Quality, control, qualities
from quantcase.analysis.quality_verdict import QualityVerdict, judge
from quantcase.analysis.trust import Trust, trust
from quantcase.analysis.verdict import Answer, Verdict, answer, verdicts
from quantcase.catalog import Case
from quantcase.client import Settings
from quantcase.html import banner
from quantcase.money import Money
from quantcase.pages import imported
from quantcase.text import text

__all__ = ["CaseView", "Options", "render"]


@dataclass(frozen=True)
class Options:
    """What the person who publishes decides."""

    client: str = ""
    prices: tuple[tuple[str, float], ...] = ()  # GPU profile name -> USD per hour, instead of the bundle's price
    show_simulated: bool = True
    show_published: bool = True
    confidential: bool = False
    site: Settings = field(default_factory=Settings)

    @classmethod
    def of(cls, site: Settings) -> Options:
        """What a site's settings say to pages."""
        return cls(
            client=site.client,
            prices=tuple(site.prices.items()),
            show_simulated=site.show_simulated,
            show_published=site.show_published,
            confidential=bool(site.confidential),
            site=site,
        )


_BELOW = {
    "quality": "Quality", "notes": "Notes", "plan": "Plan", "log": "Experiment log",
    "projection": "Another GPU", "data": "Data",
}  # fmt: skip


@dataclass(frozen=True)
class CaseView:
    """One case with its analysis."""

    case: Case
    options: Options

    @property
    def money(self) -> Money:
        """How amounts are written on this site."""
        return Money(self.options.site.currency)

    @cached_property
    def usd_per_hour(self) -> float | None:
        """The price of an hour: the publisher's, else the bundle's own; None when nobody gave one."""
        given = dict(self.options.prices).get(self.case.bundle.info.gpu)
        price = self.case.study.price
        return given if given is not None else price.usd_per_hour if price else None

    @cached_property
    def price_source(self) -> str:
        """Who says so, as safe text."""
        if self.case.bundle.info.gpu in dict(self.options.prices):
            return "set in mkdocs.yml"
        price = self.case.study.price
        return text(f"{price.source}, {price.date}") if price else ""

    @cached_property
    def estimates(self) -> dict[Key, dict[str, Estimate]]:
        return cell_estimates(self.case)

    @cached_property
    def points(self) -> list[Point]:
        return points(self.case, self.usd_per_hour, self.estimates)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        return comparisons(self.case, self.estimates)

    @cached_property
    def claims(self) -> list[Comparison]:
        """The comparisons that say something of a variant: all but the control's."""
        return [c for c in self.comparisons if c.variant != self.case.study.control]

    @cached_property
    def trust(self) -> Trust:
        return trust(self.case, self.comparisons)

    @cached_property
    def quality(self) -> list[Quality]:
        """Every variant that was asked, against the baseline."""
        return qualities(self.case)

    @cached_property
    def quality_control(self) -> Quality | None:
        """The baseline against itself."""
        return control(self.case)

    @cached_property
    def quality_verdicts(self) -> dict[str, QualityVerdict]:
        """Pass, caution or fail of every variant that was asked; none where the evidence is no evidence."""
        if not self.case.sound or self.case.bundle.info.grade == "simulated":
            return {}
        return {q.variant: judge(self.case, q, self.quality_control) for q in self.quality}

    def failed(self, variant: str) -> bool:
        """Whether a loss of quality was found: what such a variant saves is no gain."""
        verdict = self.quality_verdicts.get(variant)
        return verdict is not None and verdict.grade == "fail"

    @cached_property
    def memory(self) -> list[Memory]:
        return memory(self.case)

    @property
    def lightest(self) -> Leader | None:
        """Whose weights shrink most, of those that may be chosen at all; None where no change is large enough."""
        return lightest(self.memory, excluded(self.case, self.quality_verdicts))

    @property
    def roomiest(self) -> Leader | None:
        """Whose KV cache holds the most tokens, by the same rule."""
        return roomiest(self.memory, excluded(self.case, self.quality_verdicts))

    @cached_property
    def verdicts(self) -> list[Verdict]:
        return verdicts(self.case, self.comparisons, self.quality_verdicts)

    @cached_property
    def answer(self) -> Answer:
        return answer(self.case, self.comparisons, self.quality_verdicts)

    def comparison(self, variant: str, workload: str, load: str, metric: str) -> Comparison | None:
        """One comparison with the baseline; None when either side was not measured."""
        key = (variant, workload, load, metric)
        return next((c for c in self.comparisons if (c.variant, c.workload, c.load, c.metric) == key), None)

    def trail(self, here: str) -> str:
        """The way back to the case and across to its other pages, for a page one level below the case."""
        links = [f"**{title}**" if name == here else f"[{title}](../{name}/index.md)" for name, title in _BELOW.items()]
        return " · ".join(["[Case study](../index.md)", *links])

    def banners(self) -> str:
        """What must be known before any number is believed."""
        info, lines = self.case.bundle.info, imported.banners(self.case)
        if not self.case.sound:
            lines.append(banner("faulty", "This bundle has faults. No verdict is given: see its data page."))
        if info.status != "complete":
            words = f"This run is {text(info.status)}: {len(self.case.cells)} of {info.cells_planned} cell repeats"
            lines.append(banner("interrupted", f"{words} are measured."))
        if info.grade == "simulated":
            lines.append(
                banner("simulated", "Simulated: replayed timings of a recorded run. Nothing here was measured.")
            )
        elif info.grade in ("published", "imported"):
            lines.append(banner(info.grade, f"Evidence of grade {info.grade}: not measured by this collector."))
        if info.weights == "dummy":
            lines.append(
                banner(
                    "dummy", "Dummy weights: speed and memory are those of the real shapes, quality is not measured."
                )
            )
        return "\n".join(lines)


@cache
def _templates() -> Environment:
    # No autoescape: templates make Markdown, and every value is made safe by text() before it comes here.
    return Environment(
        loader=PackageLoader("quantcase"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701
    )  # fmt: skip


def render(template: str, **values: object) -> str:
    """A template with prepared values: safe strings only."""
    return _templates().get_template(template).render(**values)
