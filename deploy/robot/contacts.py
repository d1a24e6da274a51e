"""The feet's forces from the motors' torques, beside what ``foot_force`` says.

A Go2's ``foot_force`` is raw: its zero differs from foot to foot and drifts, and in simulators it
may be zero throughout. Contacts therefore follow from the torques, f = -(J^T)^-1 tau, as the
policy's contract says. The sensors, levelled by themselves, are only compared with them: a foot on
which the two keep disagreeing has a bad sensor or a bad motor.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

SENSOR_RISE = 15.0
"""Raw units above its own lowest reading from which a sensor says contact."""
FORGET = 0.002
"""Share per reading by which the lowest reading rises, so that it follows a drift."""
MEMORY = 0.005
"""Weight of the newest reading in the agreement."""


class FootSensors:
    """Levels the raw sensors and keeps how often each agrees with the torques."""

    def __init__(self, feet: int = 4) -> None:
        self.agreement = np.full(feet, np.nan)
        """Share of readings (feet,) on which sensor and torques agreed lately; nan: no sensor."""
        self._low: Optional[np.ndarray] = None
        self._high = np.zeros(feet)

    def update(self, raw: np.ndarray, touching: np.ndarray) -> None:
        """Compare raw readings (feet,) with the contacts (feet,) that the torques give."""
        raw = np.asarray(raw, dtype=float)
        if self._low is None:
            self._low, self._high = raw.copy(), raw.copy()
        self._low = np.minimum(self._low + FORGET * np.maximum(raw - self._low, 0.0), raw)
        self._high = np.maximum(self._high - FORGET * np.maximum(self._high - raw, 0.0), raw)
        alive = self._high - self._low > 2 * SENSOR_RISE  # a sensor that never moves is none
        same = ((raw - self._low > SENSOR_RISE) == touching).astype(float)
        known = np.where(np.isfinite(self.agreement), self.agreement, same)
        self.agreement = np.where(alive, known + MEMORY * (same - known), np.nan)
