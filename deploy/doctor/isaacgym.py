"""``go2-doctor --isaacgym``: measure what public sources leave open about Isaac Gym.

It needs a machine that has it. Every check makes a small experiment through the back end and says
what it found; the report is meant to be sent to us. Nothing here assumes the answer: where a
finding contradicts the back end's assumption the check fails and says which assumption.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, List, Tuple

import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.simulators.base import Dynamics, RobotState
from go2_sevpo.envs.simulators.isaacgym.simulator import IsaacGymSimulator

Finding = Tuple[str, bool, str]
"""What was looked at, whether it is as assumed, and what was found."""
GRAVITY = 9.81
"""m/s^2."""
_DEFAULT = torch.tensor(r.DEFAULT_JOINT_POSITIONS)  # (12,) rad


def _pose(n: int, height: float) -> RobotState:
    """``n`` robots at rest in the default pose, ``height`` m above the origin."""
    zeros_3, zeros_12 = torch.zeros(n, 3), torch.zeros(n, 12)
    return RobotState(
        base_position=torch.tensor([0.0, 0.0, height]).repeat(n, 1),
        base_quaternion=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        base_linear_velocity=zeros_3,
        base_angular_velocity=zeros_3,
        joint_position=_DEFAULT.repeat(n, 1),
        joint_velocity=zeros_12,
        joint_torque=zeros_12,
        foot_force=zeros_12[:, :4],
        body_force=zeros_12[:, :9],
    )


def _put(sim: IsaacGymSimulator, state: RobotState) -> None:
    sim.write(torch.arange(sim.num_envs), state)


def _hold(sim: IsaacGymSimulator, steps: int) -> RobotState:
    """The state, on the CPU, after ``steps`` control steps towards the default pose."""
    for _ in range(steps):
        sim.step(_DEFAULT.repeat(sim.num_envs, 1))
    return RobotState(**{name: value.cpu() for name, value in vars(sim.read()).items()})


def order(sim: IsaacGymSimulator) -> List[Finding]:
    """Names as the simulation numbers them; any order will do, all names must be there."""
    dofs, bodies = sim._dof_names, sim._body_names
    feet = all(f"{leg}_foot" in bodies for leg in r.LEGS)
    merged = "" if feet else "  (the feet were merged: dont_collapse is not honoured)"
    return [
        ("DOF order", set(dofs) == set(r.JOINT_NAMES), " ".join(dofs)),
        ("body order", feet, " ".join(bodies) + merged),
    ]


def free_fall(sim: IsaacGymSimulator) -> List[Finding]:
    """Two tenths of a second without contact."""
    _put(sim, _pose(sim.num_envs, 5.0))
    found = float(_hold(sim, 10).base_position[0, 2])
    # The velocity is updated first: after n steps z = z_0 - g dt^2 (1 + 2 + ... + n).
    n, dt = 10 * r.DECIMATION, r.PHYSICS_DT
    expected = 5.0 - GRAVITY * dt * dt * n * (n + 1) / 2
    text = f"{found:.4f} m after 0.2 s, expected {expected:.4f}"
    return [("free fall", abs(found - expected) < 0.01, text)]


def static_weight(sim: IsaacGymSimulator) -> List[Finding]:
    """Weight on four feet, and whether net contact forces hold friction.

    They would show it: the legs push sideways against each other.
    """
    _put(sim, _pose(sim.num_envs, r.NOMINAL_BASE_HEIGHT))
    state = _hold(sim, 150)
    weight = r.TOTAL_MASS * GRAVITY
    force = state.foot_force.sum(1)  # (2,) N
    more = float(force[1] - force[0])  # of the world with payload
    speed = float(state.base_linear_velocity.abs().max())
    # Forces on world 0's feet (4, 3), world frame: the ground is flat, so x and y are friction.
    sideways = float(sim._contact[0, sim._feet, :2].norm(dim=-1).max())
    normal = sideways < 0.5
    carried = f"feet carry {float(force[0]):.1f} N, weight {weight:.1f} N"
    payload = (
        f"3 kg more weigh {more:.1f} N, expected {3.0 * GRAVITY:.1f} "
        "(masses set before prepare_sim)"
    )
    horizontal = f"largest horizontal force of a foot on flat ground {sideways:.2f} N"
    if not normal:
        horizontal += ": friction is included, foot_force is too large on slopes"
    return [
        ("static weight", abs(float(force[0]) - weight) < 0.05 * weight, carried),
        ("payload is carried", abs(more - 3.0 * GRAVITY) < 5.0, payload),
        ("stands still", speed < 0.05, f"fastest base {speed:.4f} m/s"),
        ("contact forces are normal only", normal, horizontal),
    ]


def frames(sim: IsaacGymSimulator) -> List[Finding]:
    """Velocities after a write, and where a turning robot goes."""
    # A quarter turn about z: the robot faces +y.
    half = torch.tensor(0.5).sqrt()
    facing_y = torch.stack([half, half * 0, half * 0, half])  # (4,) wxyz
    turned = facing_y.repeat(sim.num_envs, 1)
    state = replace(_pose(sim.num_envs, 20.0), base_quaternion=turned)
    state.base_linear_velocity[:, 0] = 1.0
    state.base_angular_velocity[:, 0] = 1.0
    _put(sim, state)
    after = _hold(sim, 5)
    # Facing +y: a turn about world x lifts or lowers the body's x axis; a turn about body x would
    # leave it level.
    w, x, y, z = after.base_quaternion[0].tolist()
    up = 2 * (x * z - w * y)  # the body's x axis along world z
    moved = float(after.base_position[0, 0])
    still = _pose(sim.num_envs, 20.0)
    still.base_angular_velocity[:, 2] = 5.0
    _put(sim, still)
    drift = float(_hold(sim, 2).base_position[0, :2].norm())
    linear = f"1 m/s along world x moved the base {moved:.3f} m in 0.1 s"
    angular = f"body x axis rose by {up:.3f} after turning about world x, expected about 0.1"
    link = (
        "a robot turning at 5 rad/s with zero written velocity drifted "
        f"{1000 * drift:.1f} mm in 0.04 s "
        "(much of it means that the velocity is the centre of mass's)"
    )
    return [
        ("linear velocity is in the world frame", abs(moved - 0.1) < 0.02, linear),
        ("angular velocity is in the world frame", abs(up) > 0.05, angular),
        ("root velocity is the link frame's", drift < 0.01, link),
    ]


def pd_response(sim: IsaacGymSimulator) -> List[Finding]:
    """A step of 0.2 rad at one knee, in the air."""
    _put(sim, _pose(sim.num_envs, 30.0))
    target = _DEFAULT.repeat(sim.num_envs, 1)  # (N, 12)
    target[:, 2] += 0.2
    path = []  # rad from the default, one control step each
    for _ in range(20):
        sim.step(target)
        path.append(float(sim.read().joint_position[0, 2]) - float(_DEFAULT[2]))
    beginning = ", ".join(f"{p:.3f}" for p in path[:5])
    text = f"{beginning} ... {path[-1]:.3f} rad at 20 ms each, target 0.2"
    return [("PD step response", abs(path[-1] - 0.2) < 0.03, text)]


def staleness(sim: IsaacGymSimulator) -> List[Finding]:
    """What a refresh without a simulate returns after an indexed write.

    The back end relies on neither answer.
    """
    _put(sim, _pose(sim.num_envs, 0.5))
    _hold(sim, 1)
    _put(sim, _pose(sim.num_envs, 7.0))
    sim._flush()
    sim._gym.refresh_actor_root_state_tensor(sim._sim)
    height = float(sim._root[0, 2])
    # The buffers are filled again, since the refresh may have brought the old state back, but not
    # flushed (no world is dirty): what arrives is the first write.
    sim._dirty[:] = True
    _put(sim, _pose(sim.num_envs, 7.0))
    sim._dirty[:] = False
    arrived = float(_hold(sim, 1).base_position[0, 2])
    read = f"reads {'the new' if height > 3 else 'the old'} height ({height:.2f} m)"
    reached = f"base at {arrived:.2f} m one step after being put at 7 m"
    return [
        ("refresh after a write, before simulate", True, read),
        ("a write reaches the next simulate", arrived > 6.5, reached),
    ]


def friction(sim: IsaacGymSimulator) -> List[Finding]:
    """Whether a changed coefficient acts: both robots are pushed, one on half the friction."""
    n = sim.num_envs
    worlds = torch.arange(n)
    factor = torch.ones(n)
    factor[1] = 0.5
    dynamics = Dynamics(friction=factor, payload=torch.zeros(n), motor_strength=torch.ones(n))
    sim.assign(worlds, torch.zeros(n, dtype=torch.long), dynamics)
    _put(sim, _pose(n, r.NOMINAL_BASE_HEIGHT))
    start = _hold(sim, 50).base_position[:, 0]
    sim.push(worlds, torch.tensor([[2.0, 0.0, 0.0]]).repeat(n, 1))
    slid = _hold(sim, 50).base_position[:, 0] - start  # (N,) m
    text = f"slid {float(slid[0]):.3f} m at factor 1 and {float(slid[1]):.3f} m at factor 0.5"
    return [("friction changes between episodes", float(slid[1] - slid[0]) > 0.05, text)]


CHECKS: Tuple[Callable[[IsaacGymSimulator], List[Finding]], ...] = (
    *(order, free_fall, static_weight, frames),
    *(pd_response, staleness, friction),
)


def examine(make: Callable[..., IsaacGymSimulator] = IsaacGymSimulator) -> List[Finding]:
    """All checks on two worlds, the second with 3 kg of payload.

    A check that breaks is a finding too.

    Raises:
        ValueError: Isaac Gym is absent or was imported too late.
    """
    sim = make(2, [make_course("flat")], payload=torch.tensor([0.0, 3.0]))
    found: List[Finding] = []
    try:
        for check in CHECKS:
            try:
                found += check(sim)
            except Exception as error:
                # The doctor reports every fault instead of stopping at the first.
                found.append((check.__name__, False, f"{type(error).__name__}: {error}"))
    finally:
        sim.close()
    return found
