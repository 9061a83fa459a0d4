"""The rule book of `collect check`: one module a family, one function a rule, one registry of them all.

Q1 manifest, Q2 files, Q3 schema, Q4 units, Q5 references, Q6 recomputation, Q7 physics, Q8 comparability,
Q9 sufficiency, Q10 client, Q11 machine, Q12 grade. An id, once given, keeps its meaning; one that falls out of use is
not given again.
"""

from __future__ import annotations

from collector.bundle.read import Bundle

# Importing a family puts its rules into the registry.
from collector.bundle.rules import comparable, enough, machine, manifest, physics, recompute, references, schema
from collector.bundle.rules.base import LEVELS, REGISTRY, Fault, Level, Outcome, Rule, judge
from collector.bundle.rules.facts import Facts

__all__ = ["FAMILIES", "LEVELS", "RULES", "Fault", "Level", "Outcome", "Rule", "judge_bundle"]

FAMILIES = {
    1: "Manifest",
    2: "Files",
    3: "Schema",
    4: "Units",
    5: "References",
    6: "Recomputation",
    7: "Physics",
    8: "Comparability",
    9: "Sufficiency",
    10: "The client",
    11: "The machine",
    12: "Grade of evidence",
}
_MODULES = (comparable, enough, machine, manifest, physics, recompute, references, schema)
RULES: dict[str, Rule] = {r.id: r for r in sorted(REGISTRY.values(), key=lambda r: r.number)}


def judge_bundle(bundle: Bundle) -> Outcome:
    """What every rule says of an open bundle. Linear in its rows."""
    return judge(Facts(bundle), RULES.values())
