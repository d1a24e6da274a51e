"""The table of ``docs/reliability.md``: attacks of one kind summed over what they were tried on."""

from __future__ import annotations

from collections import Counter
from typing import Dict

from tests.chaos.outcome import BAD, GOOD, Tally


def by_target(tally: Tally) -> str:
    """One line for each thing that was attacked, as Markdown."""
    sums: Dict[str, "Counter[str]"] = {}
    kinds: Dict[str, int] = {}
    for (what, _), found in tally.counts.items():
        sums.setdefault(what, Counter()).update(found)
        kinds[what] = kinds.get(what, 0) + 1
    shown = [name for name in GOOD if any(c[name] for c in sums.values())]
    lines = [f"| attacked | ways | attacks | {' | '.join(shown)} | did harm |"]
    lines.append("|---" * (len(shown) + 4) + "|")
    total: "Counter[str]" = Counter()
    for what, found in sorted(sums.items()):
        total.update(found)
        lines.append(f"| {what} | {kinds[what]} | {_cells(found, shown)} |")
    lines.append(f"| **all** | | {_cells(total, shown)} |")
    told = [f"- {name}: {GOOD[name]}" for name in shown]
    harm = "; ".join(BAD.values())
    return "\n".join([*lines, "", *told, f"- did harm: {harm}"])


def _cells(found: "Counter[str]", shown: "list[str]") -> str:
    harm = sum(found[name] for name in BAD)
    numbers = [sum(found.values()), *(found[name] for name in shown), harm]
    return " | ".join(map(str, numbers))
