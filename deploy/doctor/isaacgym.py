"""``go2-doctor --isaacgym``: measure what public sources leave open about Isaac Gym.

It needs a machine that has it. Every check makes a small experiment through the back end and says
what it found; the report is meant to be sent to us. Nothing here assumes the answer: where a
finding contradicts the back end's assumption the check fails and says which assumption.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Iterator, List, Sequence, Set, Tuple

import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.simulators.base import Dynamics, RobotState
from go2_sevpo.envs.simulators.isaacgym import process
from go2_sevpo.envs.simulators.isaacgym.simulator import IsaacGymSimulator
from go2_sevpo.envs.simulators.isaacgym.viewer import Window
from go2_sevpo.envs.simulators.mujoco import MujocoSimulator

Finding = Tuple[str, bool, str]
"""What was looked at, whether it is as assumed, and what was found."""
GRAVITY = 9.81
"""m/s^2."""
PAYLOADS = (0.0, 3.0, 6.0)
"""Weights on the bases of the worlds that everything is measured in, kg."""
_FLAT, _OTHER = make_course("flat"), make_course("hard", 1.0, 1)
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
    force = state.foot_force.sum(1)  # (N,) N
    expected = (r.TOTAL_MASS + torch.tensor(PAYLOADS)) * GRAVITY
    off = float(((force - expected) / expected).abs().max())
    speed = float(state.base_linear_velocity.abs().max())
    # Forces on the feet, world frame: the ground is flat, so x and y are friction.
    sideways = 0.0
    for _ in range(10):
        _hold(sim, 1)
        sideways = max(sideways, float(sim._contact[:, sim._feet, :2].norm(dim=-1).max()))
    normal = sideways < 0.5
    carried = ", ".join(
        f"{float(f):.1f} N (weight {float(w):.1f} N)" for f, w in zip(force, expected)
    )
    horizontal = f"largest horizontal force of a foot on flat ground {sideways:.2f} N"
    if not normal:
        horizontal += ": friction is included, foot_force is too large on slopes"
    return [
        ("weight and payloads are carried", off < 0.05, f"feet carry {carried}"),
        ("stands still", speed < 0.05, f"fastest base {speed:.4f} m/s"),
        ("contact forces are normal only", normal, horizontal),
    ]


def contacts(sim: IsaacGymSimulator) -> List[Finding]:
    """How often a standing foot is reported in the air, before and after the filter."""
    _put(sim, _pose(sim.num_envs, r.NOMINAL_BASE_HEIGHT))
    _hold(sim, 100)
    steps, raw, kept = 100, 0, 0
    for _ in range(steps):
        foot = _hold(sim, 1).foot_force
        raw += int((sim._contact[:, sim._feet].norm(dim=-1) < 1.0).sum())
        kept += int((foot < 1.0).sum())
    total = steps * sim.num_envs * len(r.LEGS)
    text = (
        f"of {total} reports of standing feet {raw} dropped out, "
        f"{kept} after looking at two physics steps"
    )
    return [("a standing foot has contact", kept == 0, text)]


def joint_resistance(sim: IsaacGymSimulator) -> List[Finding]:
    """Friction of the knees while the robots squat slowly under their weights.

    Going up a knee's torque is that of the weight plus friction, going down that of the weight less
    friction: half the difference at one height is the friction.
    """
    _put(sim, _pose(sim.num_envs, r.NOMINAL_BASE_HEIGHT))
    _hold(sim, 100)
    bend = torch.zeros(len(r.JOINT_NAMES))  # thighs and knees so that the feet stay where they are
    bend[1::3], bend[2::3] = 1.0, -2.0
    half, depth = 100, 0.15  # control steps of one way, rad of the thigh
    torque: List[torch.Tensor] = []  # (N, 4) each
    knee: List[torch.Tensor] = []
    for k in range(2 * half):
        share = k / half if k < half else 2.0 - k / half
        sim.step((_DEFAULT + depth * share * bend).repeat(sim.num_envs, 1))
        state = sim.read()
        torque.append(state.joint_torque[:, 2::3].cpu())
        knee.append(state.joint_position[:, 2::3].cpu())
    down, up = (torch.stack(torque[i : i + half]) for i in (0, half))  # (half, N, 4)
    at_down, at_up = (torch.stack(knee[i : i + half]) for i in (0, half))
    middle = 0.5 * (at_down[-1] + at_down[half // 4])  # (N, 4) rad, passed both ways

    def passing(torques: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Mean torque (N, 4) near ``middle``."""
        near = ((places - middle).abs() < 0.03).float()
        return (torques * near).sum(0) / near.sum(0).clamp_min(1.0)

    friction = 0.5 * (passing(up, at_up) - passing(down, at_down)).abs().mean(1)  # (N,) N m
    right = bool((friction < 3.0 * r.FRICTION_LOSS).all())
    found = ", ".join(f"{float(f):.2f} N m at {kg:g} kg" for f, kg in zip(friction, PAYLOADS))
    text = f"knees resist with {found}, expected about {r.FRICTION_LOSS} whatever the load"
    return [("joint friction does not grow with the load", right, text)]


def moving_joints(sim: IsaacGymSimulator) -> List[Finding]:
    """Steps of all joints in the air, beside the same in MuJoCo: motors' inertia and limits."""
    worlds = torch.arange(sim.num_envs)
    other = MujocoSimulator(sim.num_envs, [_FLAT], threads=1)
    nominal = Dynamics.nominal(sim.num_envs)
    nominal.payload = torch.tensor(PAYLOADS)
    other.assign(worlds, worlds * 0, nominal)
    largest = 0.0  # rad
    for joint in range(3):
        for simulator in (sim, other):
            simulator.write(worlds, _pose(sim.num_envs, 30.0))
        target = _DEFAULT.repeat(sim.num_envs, 1)
        target[:, joint::3] += torch.tensor([0.3, -0.3, 0.3])[joint]
        for _ in range(6):
            sim.step(target)
            other.step(target)
            apart = sim.read().joint_position.cpu() - other.read().joint_position
            largest = max(largest, float(apart.abs().max()))
    other.close()
    text = f"joints are at most {largest:.4f} rad from MuJoCo's in 0.12 s after steps of 0.3 rad"
    return [("moving joints: inertia of the motors once", largest < 0.03, text)]


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
    linear = f"1 m/s along world x moved the base {moved:.3f} m in 0.1 s"
    angular = f"body x axis rose by {up:.3f} after turning about world x, expected about 0.1"
    return [
        ("linear velocity is in the world frame", abs(moved - 0.1) < 0.02, linear),
        ("angular velocity is in the world frame", abs(up) > 0.05, angular),
    ]


def base_velocity(sim: IsaacGymSimulator) -> List[Finding]:
    """Whether the velocity that is reported is the one at which the base's origin moves.

    Robots turning at 5 rad/s, each world about another axis: the centre of mass, 21 mm ahead of the
    origin, has another velocity.
    """
    state = _pose(sim.num_envs, 20.0)
    spin = torch.zeros(sim.num_envs, 3)
    spin[torch.arange(sim.num_envs), torch.arange(sim.num_envs) % 3] = 5.0
    state = replace(state, base_angular_velocity=spin)
    _put(sim, state)
    largest = 0.0  # m/s
    before = _hold(sim, 1)
    for _ in range(5):
        after = _hold(sim, 1)
        moved = (after.base_position - before.base_position) / r.CONTROL_DT
        mean = 0.5 * (after.base_linear_velocity + before.base_linear_velocity)
        largest, before = max(largest, float((moved - mean).norm(dim=1).max())), after
    text = f"at 5 rad/s the origin moves at most {largest:.3f} m/s otherwise than reported"
    return [("base velocity is the origin's", largest < 0.04, text)]


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
    n = sim.num_envs  # the second robot is the one on half the friction
    worlds = torch.arange(n)
    factor = torch.ones(n)
    factor[1] = 0.5
    dynamics = Dynamics(friction=factor, payload=torch.zeros(n), motor_strength=torch.ones(n))
    sim.assign(worlds, torch.zeros(n, dtype=torch.long), dynamics)
    _put(sim, _pose(n, r.NOMINAL_BASE_HEIGHT))
    start = _hold(sim, 50).base_position[:, 0]
    sim.push(worlds, torch.tensor([[2.0, 0.0, 0.0]]).repeat(n, 1))
    slid = _hold(sim, 50).base_position[:, 0] - start  # (N,) m
    sim.assign(worlds, worlds * 0, Dynamics.nominal(n))
    text = f"slid {float(slid[0]):.3f} m at factor 1 and {float(slid[1]):.3f} m at factor 0.5"
    return [("friction changes between episodes", float(slid[1] - slid[0]) > 0.05, text)]


def materials(sim: IsaacGymSimulator) -> List[Finding]:
    """How many different coefficients many draws of friction make; PhysX bears 64K in all."""
    n, draws = sim.num_envs, 500
    worlds, generator = torch.arange(n), torch.Generator().manual_seed(0)
    seen: Set[float] = set()
    for _ in range(draws):
        factor = 0.75 + 0.5 * torch.rand(n, generator=generator)
        dynamics = replace(Dynamics.nominal(n), friction=factor)
        sim.assign(worlds, worlds * 0, dynamics)
        for env, actor in zip(sim._scene.robots.envs, sim._scene.robots.actors):
            shapes = sim._gym.get_actor_rigid_shape_properties(env, actor)
            seen.update(float(shape.friction) for shape in shapes)
    text = f"{draws * n} draws of friction made {len(seen)} materials"
    sim.assign(worlds, worlds * 0, Dynamics.nominal(n))
    return [("friction comes from buckets", len(seen) <= FRICTION_LIMIT, text)]


FRICTION_LIMIT = 64
"""Materials that may come of one course's friction."""


class _Calls:
    """Stands for ``gym`` and keeps the names of what is called."""

    def __init__(self) -> None:
        self.names: List[str] = []

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*_arguments: Any) -> object:
            self.names.append(name)
            return self

        return call


def drawing(sim: IsaacGymSimulator) -> List[Finding]:
    """The order of calls of a frame: on a GPU pipeline an old state is drawn without the first."""
    calls = _Calls()
    Window(calls, sim._api, None).draw((0.0, 0.0, 0.3))
    order_ = [name for name in calls.names if name in ("fetch_results", "step_graphics")]
    text = f"a frame calls {', '.join(calls.names[1:])}"
    return [("results are fetched before drawing", order_[0] == "fetch_results", text)]


def again(make: Callable[..., IsaacGymSimulator]) -> List[Finding]:
    """Another simulator in this process, with fewer worlds on another course."""
    sim = make(2, [_OTHER], payload=torch.tensor(PAYLOADS[:2]))
    try:
        _put(sim, _pose(2, r.NOMINAL_BASE_HEIGHT))
        height = float(_hold(sim, 50).base_position[:, 2].min())
    finally:
        sim.close()
    text = f"robots stand at {height:.3f} m on another course, in the simulation there was"
    return [("a second simulator in one process", 0.2 < height < 0.4, text)]


Check = Callable[[IsaacGymSimulator], List[Finding]]
CHECKS: Tuple[Check, ...] = (
    *(order, free_fall, static_weight, contacts, joint_resistance, moving_joints),
    *(frames, base_velocity, pd_response, staleness, friction, materials, drawing),
)


def examine(
    make: Callable[..., IsaacGymSimulator] = IsaacGymSimulator, checks: Sequence[Check] = CHECKS
) -> Iterator[Finding]:
    """All ``checks`` on three worlds with :data:`PAYLOADS`, then another simulator.

    A check that breaks is a finding too. One by one, so that what was found is on the screen if the
    simulator ends the process.

    Raises:
        ValueError: Isaac Gym is absent or was imported too late.
    """
    process.announce([process.Request(2, [_OTHER], torch.tensor(PAYLOADS[:2]))])
    sim = make(len(PAYLOADS), [_FLAT], payload=torch.tensor(PAYLOADS))
    try:
        for check in checks:
            yield from _look(check.__name__, lambda: check(sim))  # noqa: B023
    finally:
        sim.close()
    yield from _look("a second simulator in one process", lambda: again(make))


def _look(name: str, check: Callable[[], List[Finding]]) -> List[Finding]:
    """The doctor reports every fault instead of stopping at the first."""
    try:
        return check()
    except Exception as error:
        return [(name, False, f"{type(error).__name__}: {error}")]
