"""``go2-doctor --isaacgym``: measure what public sources leave open about Isaac Gym, on a machine
that has it.

Every check makes a small experiment through the back end and says what it found; the report is
meant to be sent to us. Nothing here assumes the answer: where a finding contradicts the back end's
assumption the check fails and says which assumption.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, List, Tuple

import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.simulators.base import Dynamics, RobotState
from go2_sevpo.envs.simulators.isaacgym.simulator import IsaacGymSimulator

Finding = Tuple[str, bool, str]
GRAVITY = 9.81
_DEFAULT = torch.tensor(r.DEFAULT_JOINT_POSITIONS)


def _pose(n: int, height: float) -> RobotState:
    z3, z12 = torch.zeros(n, 3), torch.zeros(n, 12)
    position = torch.tensor([0.0, 0.0, height]).repeat(n, 1)
    upright = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    return RobotState(
        position, upright, z3, z3, _DEFAULT.repeat(n, 1), z12, z12, z12[:, :4], z12[:, :9]
    )


def _put(sim: Any, state: RobotState) -> None:
    sim.write(torch.arange(sim.num_envs), state)


def _hold(sim: Any, steps: int) -> RobotState:
    for _ in range(steps):
        sim.step(_DEFAULT.repeat(sim.num_envs, 1))
    s = sim.read()
    return RobotState(**{k: v.cpu() for k, v in vars(s).items()})


def order(sim: Any) -> List[Finding]:
    """Names as the simulation numbers them; any order will do, all names must be there."""
    dofs, bodies = sim._dof_names, sim._body_names
    feet = all(f"{leg}_foot" in bodies for leg in r.LEGS)
    return [
        ("DOF order", set(dofs) == set(r.JOINT_NAMES), " ".join(dofs)),
        (
            "body order",
            feet,
            " ".join(bodies)
            + ("" if feet else "  (the feet were merged: dont_collapse is not honoured)"),
        ),
    ]


def free_fall(sim: Any) -> List[Finding]:
    """Two tenths of a second without contact."""
    _put(sim, _pose(sim.num_envs, 5.0))
    s = _hold(sim, 10)
    n, dt = 10 * r.DECIMATION, r.PHYSICS_DT
    expected = 5.0 - GRAVITY * dt * dt * n * (n + 1) / 2
    found = float(s.base_position[0, 2])
    return [
        (
            "free fall",
            abs(found - expected) < 0.01,
            f"{found:.4f} m after 0.2 s, expected {expected:.4f}",
        )
    ]


def static_weight(sim: Any) -> List[Finding]:
    """Weight on four feet; and whether net contact forces hold friction: the legs push sideways
    against each other.
    """
    _put(sim, _pose(sim.num_envs, r.NOMINAL_BASE_HEIGHT))
    s = _hold(sim, 150)
    weight = r.TOTAL_MASS * GRAVITY
    force = s.foot_force.sum(1)
    sideways = float(sim._contact[0, sim._feet, :2].norm(dim=-1).max())
    base = s.base_linear_velocity.abs().max()
    return [
        (
            "static weight",
            abs(float(force[0]) - weight) < 0.05 * weight,
            f"feet carry {float(force[0]):.1f} N, weight {weight:.1f} N",
        ),
        (
            "payload is carried",
            abs(float(force[1] - force[0]) - 3.0 * GRAVITY) < 5.0,
            f"3 kg more weigh {float(force[1] - force[0]):.1f} N, expected {3.0 * GRAVITY:.1f} (masses set before prepare_sim)",
        ),
        ("stands still", float(base) < 0.05, f"fastest base {float(base):.4f} m/s"),
        (
            "contact forces are normal only",
            sideways < 0.5,
            f"largest horizontal force of a foot on flat ground {sideways:.2f} N"
            + (
                ""
                if sideways < 0.5
                else ": friction is included, foot_force is too large on slopes"
            ),
        ),
    ]


def frames(sim: Any) -> List[Finding]:
    """Velocities after a write, and where a turning robot goes."""
    state = _pose(sim.num_envs, 20.0)
    half = torch.tensor(0.5).sqrt()
    state = replace(
        state, base_quaternion=torch.stack([half, half * 0, half * 0, half]).repeat(sim.num_envs, 1)
    )
    state.base_linear_velocity[:, 0] = 1.0
    state.base_angular_velocity[:, 0] = 1.0
    _put(sim, state)
    s = _hold(sim, 5)
    # Facing +y: a turn about world x lifts or lowers the body's x axis; a turn about body x would
    # leave it level.
    w, x, y, z = s.base_quaternion[0].tolist()
    up = 2 * (x * z - w * y)
    moved = float(s.base_position[0, 0])
    still = _pose(sim.num_envs, 20.0)
    still.base_angular_velocity[:, 2] = 5.0
    _put(sim, still)
    s = _hold(sim, 2)
    drift = float(s.base_position[0, :2].norm())
    return [
        (
            "linear velocity is in the world frame",
            abs(moved - 0.1) < 0.02,
            f"1 m/s along world x moved the base {moved:.3f} m in 0.1 s",
        ),
        (
            "angular velocity is in the world frame",
            abs(up) > 0.05,
            f"body x axis rose by {up:.3f} after turning about world x, expected about 0.1",
        ),
        (
            "root velocity is the link frame's",
            drift < 0.01,
            f"a robot turning at 5 rad/s with zero written velocity drifted {1000 * drift:.1f} mm in 0.04 s "
            "(much of it means that the velocity is the centre of mass's)",
        ),
    ]


def pd_response(sim: Any) -> List[Finding]:
    """A step of 0.2 rad at one knee, in the air."""
    _put(sim, _pose(sim.num_envs, 30.0))
    target = _DEFAULT.repeat(sim.num_envs, 1)
    target[:, 2] += 0.2
    path = []
    for _ in range(20):
        sim.step(target)
        path.append(float(sim.read().joint_position[0, 2]) - float(_DEFAULT[2]))
    text = ", ".join(f"{p:.3f}" for p in path[:5])
    return [
        (
            "PD step response",
            abs(path[-1] - 0.2) < 0.03,
            f"{text} ... {path[-1]:.3f} rad at 20 ms each, target 0.2",
        )
    ]


def staleness(sim: Any) -> List[Finding]:
    """What a refresh without a simulate returns after an indexed write: the back end relies on
    neither answer.
    """
    _put(sim, _pose(sim.num_envs, 0.5))
    _hold(sim, 1)
    _put(sim, _pose(sim.num_envs, 7.0))
    sim._flush()
    sim._gym.refresh_actor_root_state_tensor(sim._sim)
    height = float(sim._root[0, 2])
    sim._dirty[:] = True
    _put(sim, _pose(sim.num_envs, 7.0))
    sim._dirty[:] = False
    s = _hold(sim, 1)
    arrived = float(s.base_position[0, 2])
    return [
        (
            "refresh after a write, before simulate",
            True,
            f"reads {'the new' if height > 3 else 'the old'} height ({height:.2f} m)",
        ),
        (
            "a write reaches the next simulate",
            arrived > 6.5,
            f"base at {arrived:.2f} m one step after being put at 7 m",
        ),
    ]


def friction(sim: Any) -> List[Finding]:
    """Whether a changed coefficient acts: both robots are pushed, one on half the friction."""
    n = sim.num_envs
    factor = torch.ones(n)
    factor[1] = 0.5
    sim.assign(
        torch.arange(n),
        torch.zeros(n, dtype=torch.long),
        Dynamics(factor, torch.zeros(n), torch.ones(n)),
    )
    _put(sim, _pose(n, r.NOMINAL_BASE_HEIGHT))
    start = _hold(sim, 50).base_position[:, 0]
    sim.push(torch.arange(n), torch.tensor([[2.0, 0.0, 0.0]]).repeat(n, 1))
    slid = _hold(sim, 50).base_position[:, 0] - start
    text = f"slid {float(slid[0]):.3f} m at factor 1 and {float(slid[1]):.3f} m at factor 0.5"
    return [("friction changes between episodes", float(slid[1] - slid[0]) > 0.05, text)]


CHECKS: Tuple[Callable[[Any], List[Finding]], ...] = (
    order,
    free_fall,
    static_weight,
    frames,
    pd_response,
    staleness,
    friction,
)


def examine(make: Callable[..., Any] = IsaacGymSimulator) -> List[Finding]:
    """All checks on two worlds, the second with 3 kg of payload; a check that breaks is a finding
    too.

    Raises:
        ValueError: Isaac Gym is absent or was imported too late.
    """
    sim = make(2, [make_course("flat")], payload=torch.tensor([0.0, 3.0]))
    found: List[Finding] = []
    try:
        for check in CHECKS:
            try:
                found += check(sim)
            except (
                Exception
            ) as error:  # the doctor reports every fault instead of stopping at the first
                found.append((check.__name__, False, f"{type(error).__name__}: {error}"))
    finally:
        sim.close()
    return found
