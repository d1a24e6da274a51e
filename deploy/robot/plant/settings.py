"""What the virtual robot is like."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Drift:
    """How odometry walks away from the truth.

    Rms rates, drawn anew after 1 s on average: ``position`` and ``height`` in m per m of way,
    ``yaw`` in degrees per s.
    """

    position: float = 0.0
    height: float = 0.0
    yaw: float = 0.0


@dataclass(frozen=True)
class PlantSettings:
    """Physics, sensors and faults."""

    seed: int = 0
    lying: bool = False
    """Start folded on the ground instead of standing."""
    friction: float = 1.0
    """Factor on the course's coefficient."""
    payload: float = 0.0
    """kg on the base."""
    damping: float = 0.0
    """N m s/rad of every joint."""
    droop: float = 0.0
    """Share of the torque limit that a motor loses at its velocity limit."""
    delay: float = 0.0
    """s from a command to the motors."""
    noise: bool = True
    """Noise of IMU, joints and torques."""
    perception: str = "depth"
    """depth or lidar (points), map (the true heights, as ``HeightMap_``), or none."""
    perception_delay: float = 0.04
    """s from a measurement to its message."""
    drift: Drift = Drift(0.02, 0.01, 0.5)
    watchdog: float = 0.05
    """s without a good command after which the motors damp."""
    jitter: float = 0.0
    """m and rad, of the place where it starts: along, half of it across, and its yaw."""
    map_resolution: float = 0.06
