"""On which physical card or box each server start was measured, as far as a bundle knows it.

A card is told by the hash of its UUID (`environment.json`), which names no machine: of its 16 digits the first 8 are
shown. A box of a fleet that has no card is told by the fleet's hash (`box` in `environment.json`). Two cards of a type
are never quite alike (clocks under the same power limit differ, the "silicon lottery"), so figures of two of them are
two measurements and not one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from collector.bundle.schema import Environment, Session, VariantRow
from quantcase.analysis.gpu_count import gpu_count
from quantcase.catalog import Case

__all__ = ["DIGITS", "apart", "boxes_of", "session_boxes"]

DIGITS = 8  # of a hash that are shown: enough to tell the cards of a project apart
_WORDS = ("card", "cards")


def boxes_of(case: Case) -> dict[str, list[str]]:
    """variant -> the boxes that its server starts ran on, each once, in order; no entry where none is known.

    A box reads `card 0e45c4e4`, `cards 0e45c4e4 + e89ff6da` for a server over two, `box 5d41402a` without one. A start
    belongs to the session in which its first request was sent: later sessions stand beside the first by the wall clock.
    """
    environment = case.bundle.environment()
    sessions = environment.sessions
    if not sessions:
        return {}
    begun = case.requests.groupby(["variant", "start"])["started_s"].min().to_dict()
    found: dict[str, list[str]] = {}
    for row in case.variants:
        at = begun.get((row.variant, row.start))
        if row.exit_state != "ok" or at is None:
            continue
        name = _name(_session(sessions, float(at)), row, environment)
        mine = found.setdefault(row.variant, []) if name else []
        if name and name not in mine:
            mine.append(name)
    return found


def session_boxes(environment: Environment) -> list[str]:
    """Every box of a bundle by name, each once, in order: for cases whose server starts are not told apart."""
    names = (_cards(s, range(len(s.gpus))) or _stated(s, environment) for s in environment.sessions)
    return [n for n in dict.fromkeys(names) if n]


def apart(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether two sides are known to have been measured on boxes that share no card."""
    return bool(ours) and bool(theirs) and not _hashes(ours) & _hashes(theirs)


def _hashes(boxes: Sequence[str]) -> set[str]:
    """`card 0e45c4e4` has one, `cards 0e45c4e4 + e89ff6da` two."""
    return {word for name in boxes for word in name.split()[1:] if word != "+"}


def _session(sessions: Sequence[Session], at: float) -> Session:
    """The last session that had begun at `at`, in seconds since the bundle was created."""
    first = sessions[0].wall_unix_s
    for session, later in pairwise(sessions):
        if at < later.wall_unix_s - first:
            return session
    return sessions[-1]


def _name(session: Session, row: VariantRow, environment: Environment) -> str:
    cards = range(len(session.gpus))
    if row.gpu_indices:
        wanted = set(row.gpu_indices.split("|"))
        cards_used = [i for i in cards if str(session.gpus[i].get("index", i)) in wanted]
    elif len(session.gpus) in (1, gpu_count([row])):
        cards_used = list(cards)
    else:  # which of the box's cards it was is not recorded
        cards_used = []
    return _cards(session, cards_used) or _stated(session, environment)


def _cards(session: Session, which: Sequence[int]) -> str:
    hashes = [str(session.gpus[i].get("uuid_sha256") or "")[:DIGITS] for i in which]
    if not hashes or not all(hashes):
        return ""
    return f"{_WORDS[len(hashes) > 1]} {' + '.join(sorted(hashes))}"


def _stated(session: Session, environment: Environment) -> str:
    """The box of a fleet; a session with cards is told by these alone."""
    return f"box {environment.box[:DIGITS]}" if environment.box and not session.gpus else ""
