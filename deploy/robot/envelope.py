"""What no command may leave: joint limits, a rate, an estimate of the torque."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

import numpy as np

RATE = 100.0
"""rad/s by which a joint's target may move; a policy's step of 20 ms may cross its whole range."""
_ROUNDING = 1e-4
"""Messages hold float32."""


class EnvelopeError(RuntimeError):
    """A command that would have left the envelope: a fault of this code, never sent."""


@dataclass
class Envelope:
    """Limits per joint, (12,), the policy's order: rad, rad, N m; ``rate`` in rad/s."""

    lower: np.ndarray
    upper: np.ndarray
    torque: np.ndarray
    rate: float = RATE

    @staticmethod
    def from_contract(contract: Mapping[str, Any]) -> Envelope:
        """The limits a policy's contract states."""
        lower, upper = np.array(contract["target_lower"]), np.array(contract["target_upper"])
        return Envelope(lower, upper, np.array(contract["torque_limits"]))

    def limit(
        self,
        target: np.ndarray,
        kp: np.ndarray,
        kd: np.ndarray,
        q: np.ndarray,
        dq: np.ndarray,
        previous: np.ndarray,
        dt: float,
    ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Targets and gains, (12,) each, that keep all limits.

        The torque that the motors would give now, tau = kp (target - q) - kd dq, is kept within
        its limit by moving the target where that is enough, else by lowering both gains.
        ``previous`` is the target before, ``dt`` the time since, s.
        """
        stiff = np.where(kp > 0, kp, 1.0)
        middle, reach = q + kd * dq / stiff, self.torque / stiff
        bounded = np.where(kp > 0, np.clip(target, middle - reach, middle + reach), target)
        step = self.rate * dt
        bounded = np.clip(bounded, previous - step, previous + step)
        bounded = np.clip(bounded, self.lower, self.upper)
        over = np.maximum(np.abs(kp * (bounded - q) - kd * dq) / self.torque, 1.0)
        return bounded, kp / over, kd / over

    def check(
        self,
        target: np.ndarray,
        kp: np.ndarray,
        kd: np.ndarray,
        q: np.ndarray,
        dq: np.ndarray,
        previous: Optional[np.ndarray],
        dt: float,
    ) -> None:
        """Look at what is about to be sent.

        Raises:
            EnvelopeError: naming the joint and the limit.
        """
        numbers = np.stack([target, kp, kd])
        if not np.isfinite(numbers).all() or (numbers[1:] < 0).any():
            raise EnvelopeError(f"targets and gains are {numbers.tolist()}, expected finite ones")
        excess = np.maximum(self.lower - target, target - self.upper)
        self._within(excess, 0.0, "target beyond its joint's limit by", "rad")
        self._within(
            np.abs(kp * (target - q) - kd * dq) - self.torque, 0.0, "torque too large by", "N m"
        )
        if previous is not None:
            moved = np.abs(target - previous) - self.rate * dt
            self._within(moved, 0.0, "target moved too far by", "rad")

    def _within(self, excess: np.ndarray, most: float, what: str, unit: str) -> None:
        worst = int(np.argmax(excess))
        scale = 1.0 + float(np.abs(self.torque).max()) if unit == "N m" else 1.0
        if excess[worst] > most + _ROUNDING * scale:
            raise EnvelopeError(f"joint {worst}: {what} {excess[worst]:.4f} {unit}")
