"""Servers and their GPUs on the case page, and the answer to "does quantization save you a GPU?" with its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from collector.bundle.schema import Session
from quantcase.analysis.points import THROUGHPUT, pick
from quantcase.analysis.save_gpu import Against, At, Budget, Change, SavedGpu, Server, save_gpu, servers
from quantcase.analysis.servers import each_gpu, mixed, several
from quantcase.html import Column, none, table
from quantcase.money import COST
from quantcase.pages.quality import grade_badge
from quantcase.pages.view import CaseView, render
from quantcase.text import counted, fixed, load_words, number, percent, signed_percent, signed_percents, span, text

__all__ = ["brief", "found", "hardware", "section"]

_SHAPES = {"faster": "▲", "slower": "▼", "equivalent": "=", "negligible": "≈", "inconclusive": "?"}
_NAMES = {"ttft_ms_p50": "TTFT p50", "tpot_ms_p50": "TPOT p50", "e2e_ms_p95": "E2E p95"}
_PATHS = {
    "nvlink": "NVLink", "pix": "PCIe, one switch", "pxb": "PCIe, several switches", "phb": "PCIe, through the CPU",
    "node": "PCIe, within a NUMA node", "sys": "PCIe, across CPU sockets", "internal": "on one board",
}  # fmt: skip
_MOST_PAIRS = 6


def found(view: CaseView) -> list[Against]:
    """Every pair of servers of which the second is unquantized, with what was answered."""
    return save_gpu(view.case, view.estimates, view.quality_verdicts, withheld=view.answer.withheld)


def brief(view: CaseView) -> list[str]:
    """The answers in a line each, for the first screen: against the baseline, or else the first that there is."""
    if not mixed(view.case) or view.answer.withheld:
        return []
    pairs = [a for a in found(view) if a.saved > 0 and a.quantizes]
    mine = [a for a in pairs if a.plain.variant == view.case.baseline] or pairs[:1]
    lines = []
    for a in mine:
        for s in a.answers:
            words = _BRIEF[s.kind].format(n=counted(a.saved, "GPU"), proven=_proven(view, a))
            lines.append(f"{text(s.workload)}: {words}: {_names(a)}, throughput {_change(s.top.server)}")
    for one in (s for s in servers(view.case) if s.state == "does not fit"):
        fits = [text(a.ours.variant) for a in mine if a.ours.gpus == one.gpus and a.ours.state == "served"]
        if fits:
            lines.append(f"{text(one.variant)} does not fit on {counted(one.gpus, 'GPU')}; {' and '.join(fits)} does")
    return lines


_BRIEF = {
    "saves": "yes, {n} less{proven}",
    "latency": "yes, {n} less{proven}, and latency is the price",
    "no": "no",
    "undecided": "not decided inside the noise",
    "quality": "no, quality is lost",
    "client": "not decided, the client was the limit",
    "withheld": "no answer",
}


def section(view: CaseView) -> str:
    """The Markdown of the section; empty where every server of the case has one GPU."""
    if not several(view.case):
        return ""
    pairs, every = found(view), servers(view.case)
    fewer, like = [a for a in pairs if a.saved > 0 and a.quantizes], [a for a in pairs if a.saved == 0 and a.points]
    alone = [a for a in pairs if not a.quantizes and a.points]
    return render(
        "save_gpu.md.j2",
        title="Does quantization save you a GPU?" if fewer else "Servers over several GPUs",
        asked=bool(fewer),
        answers="\n".join([*(f"- {_answer(view, a)}" for a in fewer), *(f"- {_without(a)}" for a in alone)]),
        servers=f"{_servers(view, every)}\n\n{_speeds(view, every)}",
        unfit="\n".join(f"- {line}" for line in _unfit(every)),
        pairs=_pairs("save-gpu", view, [*fewer, *alone]) if any(a.points for a in fewer) else none(_NO_PAIR),
        like="### Like for like: as many GPUs\n\n" + _pairs("same-gpus", view, like) if like else "",
    )


_NO_PAIR = "No load point was measured on both sides of such a pair."


def hardware(session: Session) -> list[list[str]]:
    """Rows of the hardware table: how many GPUs the box has, and what joins them; none on a box with one."""
    if len(session.gpus) < 2:
        return []
    rows = [["GPUs of the box", number(len(session.gpus))]]
    joined: dict[str, list[str]] = {}
    for link in session.interconnect:
        pair = f"{link.get('a', '?')}–{link.get('b', '?')}"
        joined.setdefault(_link_words(link), []).append(pair)
    for words, pairs in joined.items():
        shown = ", ".join(map(text, pairs[:_MOST_PAIRS]))
        more = f" and {counted(len(pairs) - _MOST_PAIRS, 'more pair')}" if len(pairs) > _MOST_PAIRS else ""
        rows.append(["Between GPUs", f"{words}: {shown}{more}"])
    if not joined:
        rows.append(["Between GPUs", "not recorded"])
    return rows


def _link_words(link: dict[str, object]) -> str:
    """One way between two GPUs in words; what the driver says is untrusted."""
    path, links, p2p = link.get("path"), link.get("nvlinks"), link.get("p2p")
    words = [_PATHS.get(str(path), text(path)) if path is not None else "path not known"]
    if isinstance(links, int) and links > 0:
        words.append(counted(links, "link"))
    if isinstance(p2p, bool):
        words.append("one reads the other&#39;s memory" if p2p else "no access to each other&#39;s memory")
    return ", ".join(words)


def _servers(view: CaseView, every: Sequence[Server]) -> str:
    """Each server with its GPUs, its memory and its contexts."""
    names = [
        "Server", "GPUs", "Tensor × pipeline × data", "GPU indices", "State", "VRAM peak, server (MiB)",
        "fullest GPU (MiB)", "KV capacity, server (tokens)", "Contexts at once",
    ]  # fmt: skip
    rows = [
        [
            text(s.variant), number(s.gpus), "&nbsp;×&nbsp;".join("–" if n is None else str(n) for n in s.parallel),
            text(s.indices) or "not recorded", s.state, _mib(s.peak_mib), _mib(s.fullest_mib),
            number(s.kv_tokens, 7), number(s.contexts),
        ]
        for s in every
    ]  # fmt: skip
    columns = [Column(n, i in (1, 5, 6, 7, 8)) for i, n in enumerate(names)]
    length = fixed(view.case.study.context_tokens)
    caption = f"A context is {length} tokens, the study&#39;s. VRAM by the driver: the sum over the server&#39;s GPUs."
    return table("servers", columns, rows, caption)


def _speeds(view: CaseView, every: Sequence[Server]) -> str:
    """Throughput of each server and of one of its GPUs at the heaviest load of each workload, and the cost."""
    tops = [(w.name, loads[-1].name) for w in view.case.study.workloads if (loads := view.case.loads(w.name))]
    rows = []
    for w, load in tops:
        for s in every:
            speed, usd = (pick(view.points, s.variant, w, load, metric) for metric in (THROUGHPUT, COST))
            if speed is not None:
                bounds = (speed.value, speed.low, speed.high)
                price = "no price" if usd is None else view.money.span(usd.value, usd.low, usd.high)
                name = f"{text(s.variant)}, {counted(s.gpus, 'GPU')}"
                shown = [span(*bounds), span(*each_gpu(bounds, s.gpus)), price]
                rows.append([f"{text(w)}, {load_words(load)}", name, *shown])
    if not rows:
        return none("No throughput was measured yet.")
    names = ["Workload, load", "Server", "Throughput, server (tok/s)", "one GPU (tok/s)"]
    columns = [Column(n, i > 1) for i, n in enumerate([*names, f"{view.money.sign} / 1M output tokens"])]
    return table("server-speeds", columns, rows)


def _mib(value: float | None) -> str:
    return "–" if value is None else fixed(value)


def _unfit(every: Sequence[Server]) -> Iterator[str]:
    """What did not serve, and on how many GPUs, in the engine's own words."""
    for s in every:
        if s.state not in ("served", "not started"):
            line = f": <span class='qc-evidence'>{text(s.line)}</span>" if s.line else "; the engine left no words."
            word = {"does not fit": "does not fit on", "not supported": "is not supported on"}.get(
                s.state, "does not start on"
            )
            yield f"**{text(s.variant)} {word} {counted(s.gpus, 'GPU')}**{line}"


def _answer(view: CaseView, a: Against) -> str:
    """One pair in a sentence or two: the answer, its figures, the quality of what saves."""
    head = f"**{_names(a)}:** "
    states = [(s, _on(s)) for s in (a.ours, a.plain) if s.state != "served"]
    if states:
        told = " and ".join(f"{words} {_NOT[s.state]}" for s, words in states)
        alone = a.ours.state == "served" and a.plain.state in ("does not fit", "not supported")
        return f"{head}{'saves a GPU: ' if alone else 'not to be compared: '}{told}."
    if not a.answers:
        return f"{head}not to be compared: no load point that both have, or one was measured beside other servers."
    words = [_WORDS[s.kind].format(n=counted(a.saved, "GPU"), proven=_proven(view, a)) for s in a.answers]
    alike = len(set(words)) == 1
    first = f"**{words[0] if alike else 'It depends on the work.'}**"
    lines = [
        f"    - {'' if alike else f'**{said}** '}{_figures(a, s)}" for said, s in zip(words, a.answers, strict=True)
    ]  # fmt: skip
    return "\n".join([f"{head}{first} {_contexts(a)}{_quality(view, a)}", *lines])


def _on(s: Server) -> str:
    return f"{text(s.variant)} on {counted(s.gpus, 'GPU')}"


def _names(a: Against) -> str:
    return f"{_on(a.ours)} against {_on(a.plain)}"


def _without(a: Against) -> str:
    """What fewer GPUs give without quantizing: throughput at the heaviest load of each workload that both have."""
    tops = {at.workload: at for at in sorted(a.points, key=lambda at: at.amount)}
    figures = "; ".join(f"{text(w)} at {load_words(at.load)} {_change(at.server)}" for w, at in tops.items())
    return f"**Without quantizing, {_names(a)}:** throughput per server {figures}."


_NOT = {
    "does not fit": "does not fit", "not supported": "is not supported", "does not start": "did not start",
    "not started": "was not started",
}  # fmt: skip
_WORDS = {
    "saves": "It saves {n}{proven}.",
    "latency": "It saves {n}{proven}, and latency is the price.",
    "no": "It does not save {n}.",
    "undecided": "Not decided inside the noise.",
    "quality": "It does not save {n}: quality is lost.",
    "client": "Not decided: the client was the limit.",
    "withheld": "No answer is given on this case.",
}


def _proven(view: CaseView, a: Against) -> str:
    judged = view.quality_verdicts.get(a.ours.variant)
    return "" if judged is not None and judged.grade == "pass" else " if its quality holds"


def _figures(a: Against, s: SavedGpu) -> str:
    """The figures behind one workload's answer."""
    top = s.top
    parts = [
        f"{text(s.workload)} at {load_words(top.load)}: throughput {_change(top.server)} per server, "
        f"{_change(top.each)} per GPU"
    ]
    if s.worse:
        parts.append("slower: " + ", ".join(_latency(load, c) for load, c in s.worse))
    if s.open and s.kind in ("saves", "latency"):
        parts.append("not decided inside the noise: " + ", ".join(_latency(load, c) for load, c in s.open))
    if top.budget is not None:
        parts.append(_budget(top.budget))
    if top.saving is not None:
        share, low, high = top.saving
        parts.append(f"saving per token {percent(share)} ({percent(low)} to {percent(high)}), with every GPU counted")
    return f"{'; '.join(parts)}."


def _budget(b: Budget) -> str:
    """Whether each side keeps the study's limit of E2E p95."""
    figures = f"{number(b.ours_ms)} and {number(b.theirs_ms)} ms"
    limit = f"the p95 budget of {number(b.limit_ms)} ms"
    if b.ours == b.theirs:
        both = {True: "is kept by both", False: "is missed by both", None: "is inside both intervals"}[b.ours]
        return f"{limit} {both} ({figures})"
    words = {True: "keeps it", False: "misses it", None: "may keep it"}
    return f"{limit}: the one {words[b.ours]}, the other {words[b.theirs]} ({figures})"


def _latency(load: str, c: Change) -> str:
    return f"{_NAMES[c.metric]} {_change(c)} at {load_words(load)}"


def _contexts(a: Against) -> str:
    ours, theirs = a.ours.contexts, a.plain.contexts
    if ours is None or theirs is None:
        return "How many contexts fit at once is not stated."
    return f"Contexts that fit at once: {fixed(ours)} instead of {fixed(theirs)}."


def _quality(view: CaseView, a: Against) -> str:
    judged = view.quality_verdicts.get(a.ours.variant)
    if judged is not None:
        return f" Quality: {grade_badge(judged.grade)}."
    if view.case.bundle.info.weights == "dummy":
        return " Dummy weights say nothing of its quality."
    return " Its quality was not measured."


def _change(c: Change) -> str:
    if c.low != c.low:
        return f"{signed_percent(c.ratio)} (one run: no interval)"
    return f"{signed_percent(c.ratio)} ({signed_percents(c.low, c.high)})"


def _cell(c: Change | None) -> str:
    """A change with its class in shape and word."""
    if c is None:
        return "–"
    word = "different, negligible" if c.kind == "negligible" else c.kind
    return f'{_change(c)} <span class="qc-delta" data-class="{c.kind}">{_SHAPES[c.kind]} {word}</span>'


def _pairs(name: str, view: CaseView, pairs: Sequence[Against]) -> str:
    """Every load point of every pair."""
    rows = [_row(view, a, at) for a in pairs for at in a.points]
    names = [
        "Server", "Against", "Workload, load", "Throughput, server", "Throughput, one GPU",
        *_NAMES.values(), "Saving per token",
    ]  # fmt: skip
    return table(name, [Column(n) for n in names], rows)


def _row(view: CaseView, a: Against, at: At) -> list[str]:
    by_metric = {c.metric: c for c in at.latency}
    sides = [f"{text(s.variant)}, {counted(s.gpus, 'GPU')}" for s in (a.ours, a.plain)]
    cost = "no price" if view.usd_per_hour is None else "not decided"
    if at.saving is not None and view.usd_per_hour is not None:
        share, low, high = at.saving
        cost = f"{percent(share)} <small>({percent(low)} to {percent(high)})</small>"
    limited = " <small>the client was the limit</small>" if at.limited else ""
    return [
        *sides, f"{text(at.workload)}, {load_words(at.load)}{limited}", _cell(at.server), _cell(at.each),
        *(_cell(by_metric.get(m)) for m in _NAMES), cost,
    ]  # fmt: skip
