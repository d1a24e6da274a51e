"""The state machine: WAIT, STAND, HOLD, POLICY, DAMP.

====== =================================================== ==========================
state  what the motors do                                  next
====== =================================================== ==========================
WAIT   nothing is sent                                     ``start`` -> STAND
STAND  fold the legs, then rise to the default pose        by itself -> HOLD
HOLD   keep the default pose                               ``A`` -> POLICY
POLICY the policy acts every 20 ms                         ``X``, or the goal -> HOLD
DAMP   no targets, damping only                            none: start the program anew
====== =================================================== ==========================

``L2`` with ``B``, or ``select``, damps from everywhere; so does every fault the supervisor finds.
"""

from __future__ import annotations

from enum import Enum
from typing import FrozenSet, List, Optional, Tuple


class Mode(Enum):
    """States of the machine."""

    WAIT = "WAIT"
    STAND = "STAND"
    HOLD = "HOLD"
    POLICY = "POLICY"
    DAMP = "DAMP"


class Machine:
    """Keeps the state, why it was entered, and when.

    Args:
        automatic: no remote: stand up at once, and let the policy act ``settle`` s after that.
        settle: see above.
        policy: whether there is a policy to let act.
    """

    def __init__(self, automatic: bool = False, settle: float = 0.5, policy: bool = True) -> None:
        self.mode, self.reason, self.since = Mode.WAIT, "started", 0.0
        self.automatic, self.settle, self.policy = automatic, settle, policy
        self.history: List[Tuple[float, Mode, str]] = []
        self.finished = False
        """The policy has been ended, by its goal or by the operator."""

    def to(self, mode: Mode, now: float, reason: str) -> None:
        """Change the state; DAMP is never left."""
        if self.mode is Mode.DAMP:
            return
        self.mode, self.reason, self.since = mode, reason, now
        self.history.append((now, mode, reason))

    def update(
        self, now: float, keys: FrozenSet[str], fault: Optional[str], alive: bool, stood: bool
    ) -> None:
        """One look at the world.

        Args:
            now: s.
            keys: that are held down on the remote.
            fault: what the supervisor found.
            alive: whether there is a good state.
            stood: whether standing up has ended.
        """
        if {"L2", "B"} <= keys or "select" in keys:
            self.to(Mode.DAMP, now, "the operator")
        elif fault is not None and self.mode is not Mode.WAIT:
            self.to(Mode.DAMP, now, fault)
        elif self.mode is Mode.WAIT:
            if alive and fault is None and ("start" in keys or self.automatic):
                self.to(Mode.STAND, now, "start")
        elif self.mode is Mode.STAND:
            if stood:
                self.to(Mode.HOLD, now, "stands")
        elif self.mode is Mode.HOLD:
            wanted = "A" in keys or (
                self.automatic and not self.finished and now - self.since >= self.settle
            )
            if self.policy and wanted:
                self.finished = False
                self.to(Mode.POLICY, now, "the policy")
        elif self.mode is Mode.POLICY and "X" in keys:
            self.end_policy(now, "the operator")

    def end_policy(self, now: float, reason: str) -> None:
        """From the policy back to standing."""
        if self.mode is Mode.POLICY:
            self.finished = True
            self.to(Mode.HOLD, now, reason)
