"""What makes the robot damp: each check returns a reason in one line, or None."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Mapping, Optional, Tuple

import numpy as np

from go2_sevpo.deploy.robot.messages.fixed import LowState
from go2_sevpo.deploy.robot.observe import Sensors


@dataclass(frozen=True)
class Limits:
    """When to stop."""

    stale: float = 0.06
    """s without a good state."""
    tilt: float = 75.0
    """Degrees between the base's z axis and the vertical."""
    joint_margin: float = 0.2
    """rad beyond a joint's limit."""
    speed: float = 2.0
    """Times a joint's velocity limit."""
    temperature: float = 90.0
    """degrees Celsius, of a motor."""
    lost_share: float = 0.4
    """Share of the states lost during the last second."""
    motor_lost: int = 50
    """Messages a motor missed during the last second."""
    state_period: float = 0.002
    """s between states as the robot sends them."""


class Supervisor:
    """Watches the states and the bus; joints in the policy's order."""

    def __init__(self, contract: Mapping[str, Any], limits: Limits) -> None:
        self.limits = limits
        self._lower = np.array(contract["joint_lower"]) - limits.joint_margin
        self._upper = np.array(contract["joint_upper"]) + limits.joint_margin
        self._speed = limits.speed * np.array(contract["velocity_limits"])
        self._names = contract["joint_names"]
        self._motors = np.array(contract["joint_to_motor"])
        self._arrivals: Deque[Tuple[float, int, int]] = deque()

    def sensors(self, sensors: Sensors) -> Optional[str]:
        """Numbers that no healthy robot sends."""
        for name, values in vars(sensors).items():
            if not np.isfinite(values).all():
                return f"{name} is not finite"
        length = float(np.linalg.norm(sensors.quaternion))
        if abs(length - 1.0) > 0.1:
            return f"IMU quaternion of length {length:.2f}"
        w, x, y, z = sensors.quaternion / length
        tilt = math.degrees(math.acos(max(-1.0, min(1.0, 1.0 - 2.0 * (x * x + y * y)))))
        if tilt > self.limits.tilt:
            return f"tilt {tilt:.0f} degrees, limit {self.limits.tilt:.0f}"
        beyond = np.maximum(self._lower - sensors.q, sensors.q - self._upper)
        worst = int(np.argmax(beyond))
        if beyond[worst] > 0:
            return f"{self._names[worst]} at {sensors.q[worst]:.2f} rad, beyond its limits"
        fast = np.abs(sensors.dq) - self._speed
        worst = int(np.argmax(fast))
        if fast[worst] > 0:
            return f"{self._names[worst]} at {sensors.dq[worst]:.0f} rad/s"
        return None

    def state(self, now: float, state: LowState) -> Optional[str]:
        """Temperatures, and what was lost on the way."""
        hot = int(np.max(state.temperature[self._motors]))
        if hot > self.limits.temperature:
            return f"a motor at {hot} degrees Celsius, limit {self.limits.temperature:.0f}"
        lost = int(state.lost[self._motors].astype(np.int64).sum())
        self._arrivals.append((now, int(state.tick), lost))
        while self._arrivals[0][0] < now - 1.0:
            self._arrivals.popleft()
        _, first_tick, first_lost = self._arrivals[0]
        if lost - first_lost > self.limits.motor_lost:
            return f"the motors missed {lost - first_lost} messages within a second"
        elapsed = 0.001 * (int(state.tick) - first_tick)
        expected = elapsed / self.limits.state_period
        # A few states say little; a simulator may send fewer than the robot.
        if expected > 100 and self.limits.lost_share < 1.0:
            share = 1.0 - (len(self._arrivals) - 1) / expected
            if share > self.limits.lost_share:
                return f"{100 * share:.0f}% of the states were lost within a second"
        return None

    def silence(self, now: float, last: float) -> Optional[str]:
        """No good state since ``last``, s."""
        if now - last > self.limits.stale:
            return f"no state for {1000 * (now - last):.0f} ms"
        return None
