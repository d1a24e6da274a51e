"""What came of each attack, counted."""

from __future__ import annotations

from collections import Counter
from typing import Dict, List, Tuple

GOOD = {
    "refused": "one line that names the file or the setting; nothing was changed",
    "equal": "taken, and equal to what was written",
    "other": "taken: the file of a user's own that says something else is valid, too",
    "resumed": "ended like the run that was left alone, bit for bit",
}
BAD = {
    "traceback": "an error of the program instead of one line",
    "unclear": "more than a line, or one that names neither the file nor the setting",
    "wrong": "taken, and not what was written",
    "lost": "something that was there before is gone",
    "hang": "longer than 30 s",
    "crash": "the interpreter died",
}
Attack = Tuple[str, str]
"""What was attacked, and how."""


class Tally:
    """Counts outcomes by attack; keeps the first examples of bad ones."""

    def __init__(self) -> None:
        self.counts: Dict[Attack, Counter[str]] = {}
        self.examples: List[str] = []

    def add(self, attack: Attack, outcome: str, detail: str = "") -> None:
        """Note one outcome."""
        assert outcome in GOOD or outcome in BAD, outcome
        self.counts.setdefault(attack, Counter())[outcome] += 1
        if outcome in BAD and len(self.examples) < 40:
            self.examples.append(f"{attack[0]}, {attack[1]}: {outcome}: {detail}")

    @property
    def total(self) -> int:
        """Attacks so far."""
        return sum(sum(found.values()) for found in self.counts.values())

    @property
    def bad(self) -> int:
        """Attacks that did harm."""
        return sum(n for found in self.counts.values() for name, n in found.items() if name in BAD)

    def table(self) -> str:
        """Attacks, how many, and what came of them, as Markdown."""
        shown = [name for name in (*GOOD, *BAD) if any(name in c for c in self.counts.values())]
        lines = [f"| attacked | how | attacks | {' | '.join(shown)} |"]
        lines.append("|---|---|---" + "|---" * len(shown) + "|")
        for (what, how), found in sorted(self.counts.items()):
            cells = [str(found[name] or "") for name in shown]
            lines.append(f"| {what} | {how} | {sum(found.values())} | {' | '.join(cells)} |")
        sums = [str(sum(c[name] for c in self.counts.values())) for name in shown]
        lines.append(f"| **all** | | **{self.total}** | {' | '.join(sums)} |")
        return "\n".join(lines)
