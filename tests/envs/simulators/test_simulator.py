"""The conformance suite every back end must pass.

Add a back end to ``BACKENDS`` to hold it to the same facts.
"""

from dataclasses import fields, replace

import mujoco
import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.go2.description.geometry import foot_positions, from_roll_yaw, rotation_matrix
from go2_sevpo.envs.simulators.base import Dynamics, RobotState, SimulationError
from go2_sevpo.envs.simulators.mujoco import MujocoSimulator
from tests.isaacgym_standin.load import install


def warp_on_the_cpu(*args, **options):
    """MuJoCo Warp on its CPU device: slow, the same kernels."""
    pytest.importorskip("mujoco_warp")
    from go2_sevpo.envs.simulators.mujoco_warp import MujocoWarpSimulator

    return MujocoWarpSimulator(*args, device="cpu", **options)


def isaacgym_stand_in(*args, siblings="alphabetical", **options):
    """The Isaac Gym back end over a strict stand-in of its API (tests/isaacgym_standin)."""
    gymapi = install()
    from go2_sevpo.envs.simulators.isaacgym.simulator import IsaacGymSimulator

    gymapi.SEMANTICS.siblings = siblings
    return IsaacGymSimulator(*args, device="cpu", **options)


def isaacgym_other_order(*args, **options):
    """The same with legs numbered the other way round: mapping must be by name."""
    return isaacgym_stand_in(*args, siblings="reversed", **options)


GRAVITY = 9.81
BACKENDS = {
    "mujoco": MujocoSimulator,
    "mujoco-warp": warp_on_the_cpu,
    "isaacgym": isaacgym_stand_in,
    "isaacgym, other order": isaacgym_other_order,
}
DEFAULT = torch.tensor(r.DEFAULT_JOINT_POSITIONS)


SLOW = ("mujoco-warp",)
"""Compiling its kernels for the CPU takes longer than all other back ends together."""


@pytest.fixture(
    params=[pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in BACKENDS]
)
def make(request):
    made = []

    def build(n=2, course="flat", courses=None, **options):
        courses = courses or [make_course(course, 1.0, 0)]
        made.append(BACKENDS[request.param](n, courses, **options))
        return made[-1]

    build.isaacgym = request.param.startswith("isaacgym")
    yield build
    for sim in made:
        sim.close()


def standing(n, height=r.NOMINAL_BASE_HEIGHT):
    z3, z12 = torch.zeros(n, 3), torch.zeros(n, 12)
    quat = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    return RobotState(
        torch.tensor([0.0, 0, height]).repeat(n, 1),
        quat,
        z3,
        z3,
        DEFAULT.repeat(n, 1),
        z12,
        z12,
        z12[:, :4],
        z12[:, :9],
    )


def put(sim, state):
    sim.write(torch.arange(sim.num_envs), state)


def test_free_fall_follows_gravity(make):
    sim = make()
    put(sim, standing(2, 5.0))
    steps = 20
    for _ in range(steps):
        sim.step(DEFAULT.repeat(2, 1))
    n, dt = steps * r.DECIMATION, r.PHYSICS_DT
    expected = 5.0 - GRAVITY * dt * dt * n * (n + 1) / 2  # semi-implicit Euler
    state = sim.read()
    assert state.base_position[0, 2].item() == pytest.approx(expected, abs=0.01)
    assert state.base_linear_velocity[0, 2].item() == pytest.approx(-GRAVITY * n * dt, rel=0.01)
    assert state.foot_force.abs().max() == 0


def test_static_weight_rests_on_four_feet(make):
    sim = make()
    put(sim, standing(2))
    for _ in range(150):
        sim.step(DEFAULT.repeat(2, 1))
    state = sim.read()
    weight = r.TOTAL_MASS * GRAVITY
    assert state.foot_force[0].sum().item() == pytest.approx(weight, rel=0.03)
    assert (state.foot_force[0] > 0.1 * weight).all()
    assert state.body_force.max() == 0
    assert state.base_linear_velocity.abs().max() < 0.02


def test_feet_sink_less_than_four_millimetres(make):
    sim = make()
    put(sim, standing(2))
    for _ in range(150):
        sim.step(DEFAULT.repeat(2, 1))
    s = sim.read()
    feet = (
        torch.einsum(
            "nij,nkj->nki", rotation_matrix(s.base_quaternion), foot_positions(s.joint_position)
        )
        + s.base_position[:, None]
    )
    assert (feet[..., 2] - r.FOOT_RADIUS).min() > -0.004


def test_payload_is_carried(make):
    # Isaac Gym's masses are set once, when the worlds are made.
    sim = make(payload=torch.tensor([0.0, 3.0])) if make.isaacgym else make()
    sim.assign(
        torch.tensor([1]),
        torch.tensor([0]),
        Dynamics(torch.ones(1), torch.tensor([3.0]), torch.ones(1)),
    )
    if make.isaacgym:
        assert sim.fixed_payload.tolist() == [0.0, 3.0]
    put(sim, standing(2))
    for _ in range(150):
        sim.step(DEFAULT.repeat(2, 1))
    force = sim.read().foot_force.sum(1)
    assert (force[1] - force[0]).item() == pytest.approx(3.0 * GRAVITY, rel=0.1)


def test_pd_step_response_settles_at_the_target(make):
    sim = make()
    put(sim, standing(2, 30.0))
    target = DEFAULT.repeat(2, 1)
    target[0, 2] += 0.2
    sim.step(target)
    early = sim.read()
    for _ in range(40):
        sim.step(target)
    late = sim.read()
    assert early.joint_torque[0, 2] > 1.0
    assert 0.0 < (early.joint_position[0, 2] - DEFAULT[2]).item() < 0.2
    # Dry friction stops the joint within friction_loss / kp of the target.
    assert late.joint_position[0, 2].item() == pytest.approx(target[0, 2].item(), abs=0.02)
    assert late.joint_position[1, 2].item() == pytest.approx(DEFAULT[2].item(), abs=0.02)


def test_motor_strength_scales_the_torque(make):
    sim = make()
    sim.assign(
        torch.tensor([1]),
        torch.tensor([0]),
        Dynamics(torch.ones(1), torch.zeros(1), torch.tensor([0.5])),
    )
    put(sim, standing(2, 30.0))
    target = DEFAULT.repeat(2, 1)
    target[:, 0] += 3.0  # far beyond the limit: the motor saturates
    sim.step(target)
    torque = sim.read().joint_torque[:, 0]
    assert torque.tolist() == pytest.approx(
        [r.TORQUE_LIMITS[0], 0.5 * r.TORQUE_LIMITS[0]], rel=1e-4
    )


def test_torque_and_velocity_limits_hold_at_the_physics_rate(make):
    sim = make()
    put(sim, standing(2, 30.0))
    sign = torch.tensor([1.0, 1.0, -1.0] * 4)
    torque, velocity = torch.zeros(12), torch.zeros(12)
    for k in range(30):
        sim.step((DEFAULT + (1 if k % 6 < 3 else -1) * 3.0 * sign).repeat(2, 1))
        state = sim.read()
        torque = torch.maximum(torque, state.joint_torque.abs().amax(0))
        velocity = torch.maximum(velocity, state.joint_velocity.abs().amax(0))
    assert (torque <= torch.tensor(r.TORQUE_LIMITS) + 1e-4).all()
    assert (velocity <= torch.tensor(r.VELOCITY_LIMITS) + 1e-4).all()
    assert (velocity[2::3] > 15.6).all()  # the calves did reach their limit


def test_quaternion_and_velocity_frames_survive_a_round_trip(make):
    sim = make()
    state = standing(2, 5.0)
    state.base_quaternion = from_roll_yaw(torch.tensor([0.5, -0.3]), torch.tensor([1.2, 2.0]))
    state.base_linear_velocity = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]])
    state.base_angular_velocity = torch.tensor([[0.1, 0.2, 0.7], [1.0, -0.4, 0.0]])
    state.joint_velocity = torch.randn(2, 12)
    put(sim, state)
    found = sim.read()
    for name in (
        "base_position",
        "base_quaternion",
        "base_linear_velocity",
        "base_angular_velocity",
        "joint_position",
        "joint_velocity",
    ):
        assert torch.allclose(getattr(found, name), getattr(state, name), atol=1e-5), name


def test_velocities_are_in_the_world_frame(make):
    sim = make()
    state = standing(2, 20.0)
    state.base_quaternion = from_roll_yaw(torch.zeros(2), torch.full((2,), np.pi / 2))
    state.base_linear_velocity = torch.tensor([[1.0, 0.0, 0.0]]).repeat(2, 1)
    state.base_angular_velocity = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    put(sim, state)
    for _ in range(5):
        sim.step(DEFAULT.repeat(2, 1))
    found = sim.read()
    assert found.base_position[0, 0].item() == pytest.approx(0.1, abs=0.01)
    turned = rotation_matrix(found.base_quaternion)
    assert torch.atan2(turned[0, 1, 0], turned[0, 0, 0]).item() == pytest.approx(
        np.pi / 2 + 0.1, abs=0.02
    )
    # A turn about world x lifts the world-y side: body x (along world y) points up.
    assert turned[1, 2, 0].item() == pytest.approx(np.sin(0.1), abs=0.02)


@pytest.mark.parametrize("joint", range(12))
def test_each_target_moves_its_own_joint(make, joint):
    sim = make()
    put(sim, standing(2, 30.0))
    target = DEFAULT.repeat(2, 1)
    target[0, joint] += 0.3
    for _ in range(15):
        sim.step(target)
    state = sim.read()
    moved = (state.joint_position[0] - state.joint_position[1]).abs()
    assert moved.argmax().item() == joint
    assert moved[joint] > 0.2


def test_feet_report_their_own_leg(make):
    """Lower the ground under one foot: its force is zero, the others carry."""
    sim = make()
    state = standing(2)
    state.joint_position[:, 2] = -2.5  # FL folded
    put(sim, state)
    target = state.joint_position.clone()
    for _ in range(3):
        sim.step(target)
    force = sim.read().foot_force[0]
    assert force[0] == 0
    assert force[3] == 0 or force[1] > 0


def test_writing_one_world_leaves_the_others_untouched(make):
    sim = make(3)
    put(sim, standing(3))
    for _ in range(10):
        sim.step(DEFAULT.repeat(3, 1))
    before = sim.read()
    sim.write(torch.tensor([1]), standing(1, 2.0))
    after = sim.read()
    for f in fields(RobotState):
        a, b = getattr(before, f.name), getattr(after, f.name)
        assert torch.equal(a[[0, 2]], b[[0, 2]]), f.name
    assert after.base_position[1, 2] == 2.0


def test_returned_state_is_a_snapshot(make):
    sim = make()
    put(sim, standing(2))
    state = sim.read()
    kept = state.base_position.clone()
    sim.step(DEFAULT.repeat(2, 1) + 0.3)
    assert torch.equal(state.base_position, kept)


def test_inactive_worlds_stand_still(make):
    sim = make()
    put(sim, standing(2, 2.0))
    sim.step(DEFAULT.repeat(2, 1), active=torch.tensor([True, False]))
    state = sim.read()
    assert state.base_position[1, 2] == 2.0
    assert state.base_position[0, 2] < 2.0


def test_delay_holds_the_previous_target(make):
    sim = make(3)
    put(sim, standing(3, 30.0))
    target = DEFAULT.repeat(3, 1)
    target[:, 0] += 0.5
    sim.step(target, delay=torch.tensor([0.0, 0.010, 0.020]))
    moved = (sim.read().joint_position - DEFAULT)[:, 0]
    assert moved[0] > moved[1] + 0.01 > moved[2]
    assert moved[2].abs() < 0.01
    sim.step(target, delay=torch.tensor([0.0, 0.010, 0.020]))
    assert (sim.read().joint_position - DEFAULT)[2, 0] > 0.01


def test_push_adds_to_the_velocity(make):
    sim = make()
    put(sim, standing(2, 3.0))
    sim.push(torch.tensor([1]), torch.tensor([[0.5, -0.25, 0.0]]))
    v = sim.read().base_linear_velocity
    assert torch.allclose(v, torch.tensor([[0.0, 0, 0], [0.5, -0.25, 0]]))


def test_friction_factor_decides_how_far_a_push_slides(make):
    # PhysX averages materials, so factors below 0.5 are out of reach there.
    factor, push, further = (0.5, 2.0, 0.1) if make.isaacgym else (0.1, 1.0, 0.15)
    sim = make()
    sim.assign(
        torch.tensor([1]),
        torch.tensor([0]),
        Dynamics(torch.tensor([factor]), torch.zeros(1), torch.ones(1)),
    )
    put(sim, standing(2))
    for _ in range(50):
        sim.step(DEFAULT.repeat(2, 1))
    start = sim.read().base_position[:, 0]
    sim.push(torch.arange(2), torch.tensor([[push, 0.0, 0.0]]).repeat(2, 1))
    for _ in range(50):
        sim.step(DEFAULT.repeat(2, 1))
    slid = sim.read().base_position[:, 0] - start
    assert slid[1] > slid[0] + further  # the legs give way a little even where the feet hold


def test_every_world_stands_on_its_own_course(make):
    """On a stone of its course, not of another's; there is a pit between the stones."""
    courses = [make_course("hard", 1.0, seed) for seed in (3, 8)]
    stones = [torch.from_numpy(c.waypoints[2]).float() for c in courses]
    boxes = [c.boxes[3] for c in courses]
    assert abs(boxes[0].position[0] - boxes[1].position[0]) > 0.05, "else one would do for both"
    sim = make(2, courses=courses)

    def stand(order):
        state = standing(2)
        for world, course in enumerate(order):
            state.base_position[world] += stones[course]
            roll = torch.tensor([2.0 * np.arctan2(*boxes[course].quaternion[1::-1])]).float()
            state.base_quaternion[world] = from_roll_yaw(roll, torch.zeros(1))[0]
        every = torch.arange(2)
        sim.assign(every, torch.tensor(order), Dynamics.nominal(2))
        sim.write(every, state)
        for _ in range(15):
            sim.step(DEFAULT.repeat(2, 1))
        return sim.read().base_position[:, 2] - state.base_position[:, 2]

    for order in ([0, 1], [1, 0]):
        sunk = stand(order)
        assert (sunk > -0.12).all(), (order, sunk)
    wrong = standing(2)
    wrong.base_position[0] += stones[0]
    wrong.base_position[1] += stones[1]
    wrong.base_position[:, 1] += 3.0  # beside both courses
    sim.write(torch.arange(2), wrong)
    for _ in range(15):
        sim.step(DEFAULT.repeat(2, 1))
    assert (sim.read().base_position[:, 2] - wrong.base_position[:, 2] < -0.2).all(), "a pit"


def test_bitwise_deterministic_whatever_the_threads(make):
    results = []
    for threads in (1, 2, 3):
        sim = make(7, "hard", threads=threads)
        put(sim, standing(7))
        generator = torch.Generator().manual_seed(0)
        for _ in range(40):
            sim.step(DEFAULT + 0.4 * torch.randn(7, 12, generator=generator))
        results.append(sim.read())
    for f in fields(RobotState):
        assert torch.equal(getattr(results[0], f.name), getattr(results[1], f.name)), f.name
        assert torch.equal(getattr(results[0], f.name), getattr(results[2], f.name)), f.name


def test_state_dict_goes_on_bit_for_bit(make):
    a, b = make(3), make(3)
    if make.isaacgym:
        # Which contact reports drop out is no part of the state.
        a._api.SEMANTICS.contact_dropouts = 0.0
    put(a, standing(3))
    generator = torch.Generator().manual_seed(0)
    targets = [DEFAULT + 0.3 * torch.randn(3, 12, generator=generator) for _ in range(30)]
    for t in targets[:15]:
        a.step(t)
    b.load_state_dict(a.state_dict())
    for t in targets[15:]:
        a.step(t)
        b.step(t)
    for f in fields(RobotState):
        x, y = getattr(a.read(), f.name), getattr(b.read(), f.name)
        # PhysX keeps contact state that cannot be saved: close, not bitwise.
        assert torch.allclose(x, y, atol=1.0, rtol=0.1) if make.isaacgym else torch.equal(x, y), (
            f.name
        )


def test_non_finite_state_is_raised_with_its_world(make):
    sim = make(3)
    state = standing(3)
    state = replace(state, joint_velocity=state.joint_velocity.clone())
    state.joint_velocity[2, 4] = float("nan")
    put(sim, state)
    with pytest.raises(SimulationError, match="world 2 has a non-finite state on course flat"):
        sim.step(DEFAULT.repeat(3, 1))


def test_other_physics_steps_divide_the_control_step(make):
    sim = make(physics_dt=0.002)
    put(sim, standing(2))
    for _ in range(100):
        sim.step(DEFAULT.repeat(2, 1))
    assert sim.read().foot_force[0].sum().item() == pytest.approx(r.TOTAL_MASS * GRAVITY, rel=0.05)
    with pytest.raises(ValueError, match="expected a divisor of the control step"):
        make(physics_dt=0.003)


# ---- joints and motors (back ends that name them in joint_dynamics) ------------------------------


def joints_of(make, **values):
    """Two worlds in the air, the second one's joints changed; None where they cannot be."""
    sim = make()
    if any(name not in getattr(sim, "joint_dynamics", ()) for name in values):
        pytest.skip("the back end does not change the joints")
    changed = {name: torch.tensor([value]) for name, value in values.items()}
    one = torch.ones(1)
    sim.assign(torch.tensor([1]), torch.tensor([0]), Dynamics(one, torch.zeros(1), one, **changed))
    return sim


def first_force(sim, offset):
    """Speeds of the first thigh after one control step towards a target ``offset`` rad away."""
    put(sim, standing(2, 30.0))
    target = DEFAULT.repeat(2, 1)
    target[:, 1] += offset
    sim.step(target)
    return sim.read().joint_velocity[:, 1].abs().tolist()


def test_damping_slows_a_joint(make):
    plain, damped = first_force(joints_of(make, damping=1.0), 0.2)
    assert damped < 0.85 * plain


def test_armature_makes_a_joint_inert(make):
    plain, heavy = first_force(joints_of(make, armature=0.1), 0.2)
    assert heavy < 0.6 * plain


def test_dry_friction_holds_a_joint_against_a_small_torque(make):
    # 30 N m/rad times 0.02 rad is 0.6 N m.
    plain, held = first_force(joints_of(make, friction_loss=1.5), 0.02)
    assert plain > 0.05
    assert held < 0.1 * plain


def test_torque_falls_with_speed_along_the_line(make):
    sim = joints_of(make, droop=0.8)
    state = standing(2, 30.0)
    speed = 10.0  # rad/s of the first hip, outwards
    state.joint_velocity[:, 0] = speed
    put(sim, state)
    target = DEFAULT.repeat(2, 1)
    target[:, 0] += 3.0  # far beyond the limit: the motor saturates
    sim.step(target)
    found = sim.read()
    limit, no_load = r.TORQUE_LIMITS[0], r.VELOCITY_LIMITS[0]
    assert found.joint_torque[0, 0].item() == pytest.approx(limit, rel=1e-4)
    # tau = L (1 - 0.8 v / V), with a speed between the last two physics steps'.
    torque, v = found.joint_torque[1, 0].item(), found.joint_velocity[1, 0].item()
    assert limit * (1 - 0.8 * v / no_load) - 1.5 < torque < limit * (1 - 0.8 * speed / no_load)
    assert found.joint_velocity[1, 0] < found.joint_velocity[0, 0]


def test_the_line_changes_nothing_below_the_limit(make):
    sim = joints_of(make, droop=0.8)
    put(sim, standing(2, 30.0))
    target = DEFAULT.repeat(2, 1)
    target[:, 1] += 0.1
    for _ in range(3):
        sim.step(target)
    found = sim.read()
    if mujoco.__version__.startswith("3.2."):
        pytest.xfail("MuJoCo 3.2 parts by 1e-3 rad where a joint sticks; why is not known")
    assert found.joint_position[1].tolist() == pytest.approx(
        found.joint_position[0].tolist(), abs=2e-4
    )
    assert found.joint_torque[1].tolist() == pytest.approx(found.joint_torque[0].tolist(), abs=2e-2)
