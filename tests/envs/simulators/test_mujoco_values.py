"""The CPU back end against MuJoCo's own steps and numbers set by hand (envs/simulators/base.py)."""

import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.go2.description.geometry import rotation_matrix
from go2_sevpo.envs.go2.description.scene import scene_xml
from go2_sevpo.envs.simulators import mujoco as module
from go2_sevpo.envs.simulators.base import Dynamics, SimulationError
from go2_sevpo.envs.simulators.mujoco import MujocoSimulator
from tests.envs.fake_simulator import DEFAULT_POSE, still

FLAT, SIMPLE, HARD = (
    make_course("flat", 1.0, 0),
    make_course("simple", 0.75, 3),
    make_course("hard", 1.0, 5),
)
LEGS = ("FL", "FR", "RL", "RR")
JOINTS = [f"{leg}_{segment}_joint" for leg in LEGS for segment in ("hip", "thigh", "calf")]
BODIES = ["base"] + [f"{leg}_{segment}" for leg in LEGS for segment in ("thigh", "calf")]
# docs/courses.md: hip and thigh 23.7 N m and 30.1 rad/s, calf 45.43 N m and 15.7 rad/s.
TORQUE_LIMITS, VELOCITY_LIMITS = np.array([23.7, 23.7, 45.43] * 4), np.array([30.1, 30.1, 15.7] * 4)
KP, KD = 30.0, 0.7
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
QPOS, QVEL = slice(1, 20), slice(20, 38)  # of a full physics state: time, qpos (19), qvel (18)
ROLL_PITCH_YAW = np.array([0.7, 0.3, -0.4, 0.5]) / np.linalg.norm([0.7, 0.3, -0.4, 0.5])


@pytest.fixture
def make():
    made = []

    def build(n=1, courses=(FLAT,), threads=1, **options):
        made.append(MujocoSimulator(n, courses, threads, **options))
        return made[-1]

    yield build
    for sim in made:
        sim.close()


class ScriptedRollout:
    """Instead of the physics: keeps what it is asked, answers with given states and sensors."""

    def __init__(self, answers):
        self.answers, self.calls = list(answers), []

    def rollout(self, models, data, start, control, *, nstep, state, sensordata, skip_checks):
        assert skip_checks
        self.calls.append((list(models), start.copy(), control.copy(), nstep))
        still_there = np.repeat(start[:, None], nstep, axis=1), 0.0
        state[:], sensordata[:] = self.answers.pop(0) if self.answers else still_there

    def close(self):
        pass


def script(sim, *answers):
    sim._rollout.close()
    sim._rollout = ScriptedRollout(answers)
    return sim._rollout


def sensor(sim, name):
    model = sim._models[0]
    return int(model.sensor_adr[mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SENSOR, name)])


def default_targets(n):
    return torch.tensor(DEFAULT_POSE).repeat(n, 1)


def dynamics(friction, payload, strength):
    return Dynamics(*(torch.tensor(x) for x in (friction, payload, strength)))


def compiled(course, physics_dt=0.005):
    """The course's model as MuJoCo compiles it, for comparison."""
    model = mujoco.MjModel.from_xml_string(scene_xml(course))
    model.opt.timestep = physics_dt
    return model


# ---- construction --------------------------------------------------------------------------------


def test_worlds_start_standing_at_rest_on_their_courses_in_turn(make):
    sim = make(3, (FLAT, SIMPLE))
    state = sim.read()
    assert state.base_position.tolist() == [pytest.approx([0.0, 0.0, 0.33])] * 3
    assert state.base_quaternion.tolist() == [[1.0, 0.0, 0.0, 0.0]] * 3
    assert state.joint_position.tolist() == [pytest.approx(DEFAULT_POSE)] * 3
    sizes = {
        "base_linear_velocity": 3,
        "base_angular_velocity": 3,
        "joint_velocity": 12,
        "joint_torque": 12,
        "foot_force": 4,
        "body_force": 9,
    }
    for name, size in sizes.items():
        assert torch.equal(getattr(state, name), torch.zeros(3, size)), name
    assert {x.dtype for x in vars(state).values()} == {torch.float32}
    assert [sim.visual_state(i)[0] for i in range(3)] == [FLAT, SIMPLE, FLAT]
    assert (sim.num_envs, sim.courses, sim.device.type, sim.fixed_payload) == (
        3,
        [FLAT, SIMPLE],
        "cpu",
        None,
    )
    for world, course in enumerate((FLAT, SIMPLE, FLAT)):
        np.testing.assert_array_equal(sim._models[world].geom_pos, compiled(course).geom_pos)


@pytest.mark.parametrize(
    ("options", "physics_dt", "steps"),
    [({}, 0.005, 4), ({"physics_dt": 0.0025}, 0.0025, 8)],
)
def test_physics_step(make, options, physics_dt, steps):
    sim = make(2, (FLAT, SIMPLE), **options)
    assert {m.opt.timestep for m in sim._models} == {physics_dt}
    sim.step(default_targets(2))
    assert sim.state_dict()["state"][:, 0].tolist() == pytest.approx([steps * physics_dt] * 2)


def test_bad_constructions_are_refused():
    with pytest.raises(
        ValueError,
        match="got 0 worlds and 1 courses, expected at least one of each",
    ):
        MujocoSimulator(0, [FLAT], 1)
    with pytest.raises(
        ValueError,
        match="got 1 worlds and 0 courses, expected at least one of each",
    ):
        MujocoSimulator(1, [], 1)
    with pytest.raises(
        ValueError,
        match=r"physics step is 0.003 s, expected a divisor of the control step 0\.02 s",
    ):
        MujocoSimulator(1, [FLAT], 1, 0.003)


def test_a_diverged_world_is_not_put_back_by_mujoco(make):
    sim = make(2)
    disabled = mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
    before = compiled(FLAT).opt.disableflags
    assert {m.opt.disableflags for m in sim._models} == {before | disabled}


def test_other_switches_of_a_scene_stay(make, monkeypatch):
    flag = '><flag gravity="disable"/></option>'
    text = scene_xml(FLAT).replace('iterations="50"/>', 'iterations="50"' + flag)
    assert flag in text
    monkeypatch.setattr(module, "scene_xml", lambda course: text)
    bits = mujoco.mjtDisableBit.mjDSBL_AUTORESET.value | mujoco.mjtDisableBit.mjDSBL_GRAVITY.value
    assert {m.opt.disableflags & bits for m in make(1)._models} == {bits}


@pytest.mark.parametrize(
    ("asked", "cores", "expected"),
    [(3, 7, 3), (0, 7, 7), (0, None, 1), (1, 7, 1)],
)
def test_threads(monkeypatch, asked, cores, expected):
    monkeypatch.setattr(module.os, "cpu_count", lambda: cores)
    found = []
    monkeypatch.setattr(module, "make_rollout", lambda n: found.append(n) or ScriptedRollout([]))
    sim = MujocoSimulator(1, [FLAT], asked)
    assert found == [expected]
    assert len({id(d) for d in sim._data}) == expected
    found.clear()
    assert len(MujocoSimulator(1, [FLAT])._data) == (cores or 1)


# ---- courses and dynamics ------------------------------------------------------------------------


def shape_of(model):
    """What makes a world's ground, as MuJoCo keeps it."""
    geoms = [
        f"geom_{x}" for x in ("pos", "quat", "size", "rbound", "aabb", "friction", "sameframe")
    ]
    boxes = [f"bvh_{x}" for x in ("aabb", "child", "depth", "nodeid")]
    return {name: getattr(model, name).copy() for name in geoms + boxes}


def test_assign_gives_the_whole_course_to_these_worlds_alone(make):
    sim = make(3, (FLAT, HARD, SIMPLE))
    sim.assign(torch.tensor([2, 0]), torch.tensor([1, 2]))
    for world, course in enumerate((SIMPLE, HARD, HARD)):
        assert sim.visual_state(world)[0] is course
        for name, value in shape_of(compiled(course)).items():
            np.testing.assert_array_equal(
                shape_of(sim._models[world])[name],
                value,
                err_msg=f"{world} {name}",
            )


def test_assigned_models_are_copies(make):
    sim = make(2, (FLAT, HARD))
    sim.assign(
        torch.tensor([0, 1]),
        torch.tensor([1, 0]),
        dynamics([0.5, 2.0], [1.0, -0.5], [0.9, 1.1]),
    )
    sim.assign(torch.tensor([0, 1]), torch.tensor([0, 1]), Dynamics.nominal(2))
    for world, course in enumerate((FLAT, HARD)):
        for name, value in shape_of(compiled(course)).items():
            np.testing.assert_array_equal(
                shape_of(sim._models[world])[name],
                value,
                err_msg=f"{world} {name}",
            )


def course_friction(model):
    """Friction of the pit and the course's boxes, which alone decide contacts (priority 1)."""
    return model.geom_friction[model.geom_priority == 1]


def test_dynamics_are_the_factors_and_the_payload_exactly(make):
    sim, source = make(3, (FLAT, HARD)), {0: compiled(FLAT), 1: compiled(HARD)}
    # Twice: factors are of the original, they do not pile up.
    for _ in range(2):
        given = dynamics([0.75, 1.25], [2.0, -0.5], [0.875, 1.125])
        sim.assign(torch.tensor([2, 1]), torch.tensor([1, 1]), given)
    original = source[1]
    assert original.body(1).name == "base"
    mass = original.body_mass[1]
    assert mass == pytest.approx(6.921)  # Unitree's base
    for world, friction, payload, strength in ((2, 0.75, 2.0, 0.875), (1, 1.25, -0.5, 1.125)):
        model = sim._models[world]
        # The hard course's coefficient is 1.2; the other two numbers of a contact's friction stay.
        expected = [1.2 * friction, 0.005, 0.0001]
        assert course_friction(model).tolist() == [pytest.approx(expected)] * 11
        np.testing.assert_allclose(
            model.geom_friction[:, 0],
            original.geom_friction[:, 0] * friction,
            rtol=1e-12,
        )
        np.testing.assert_array_equal(model.geom_friction[:, 1:], original.geom_friction[:, 1:])
        np.testing.assert_allclose(model.body_mass[1], mass + payload, rtol=1e-12)
        np.testing.assert_array_equal(model.body_mass[2:], original.body_mass[2:])
        np.testing.assert_array_equal(model.body_inertia, original.body_inertia)
        np.testing.assert_array_equal(model.body_ipos, original.body_ipos)
        np.testing.assert_allclose(model.actuator_gainprm[:, 0], KP * strength)
        assert not model.actuator_gainprm[:, 1:].any()
        np.testing.assert_allclose(
            model.actuator_biasprm[:, :3],
            [[0.0, -KP * strength, -KD * strength]] * 12,
        )
        assert not model.actuator_biasprm[:, 3:].any()
        limits = np.stack([-TORQUE_LIMITS, TORQUE_LIMITS], axis=1) * strength
        np.testing.assert_allclose(model.actuator_forcerange, limits)
        # The constants that follow from the mass are those MuJoCo computes for it.
        fresh = compiled(HARD)
        fresh.body_mass[1] = mass + payload
        mujoco.mj_setConst(fresh, mujoco.MjData(fresh))
        for name in ("body_subtreemass", "dof_M0", "dof_invweight0", "body_invweight0"):
            np.testing.assert_allclose(
                getattr(model, name),
                getattr(fresh, name),
                rtol=1e-9,
                err_msg=name,
            )
        assert model.body_subtreemass[0] == pytest.approx(original.body_subtreemass[0] + payload)
    untouched = sim._models[0]
    for name in (
        "geom_friction",
        "body_mass",
        "actuator_gainprm",
        "actuator_biasprm",
        "actuator_forcerange",
    ):
        np.testing.assert_array_equal(
            getattr(untouched, name),
            getattr(source[0], name),
            err_msg=name,
        )


def test_dynamics_follow_the_new_course_and_stay_when_none_are_given(make):
    sim = make(1, (FLAT, HARD))
    sim.assign(torch.tensor([0]), torch.tensor([1]), dynamics([0.5], [1.0], [0.9]))
    assert course_friction(sim._models[0])[0, 0] == pytest.approx(0.6)  # of the hard course's 1.2
    sim.assign(torch.tensor([0]), torch.tensor([1]))
    assert course_friction(sim._models[0])[0, 0] == pytest.approx(0.6)
    assert sim._models[0].actuator_gainprm[0, 0] == pytest.approx(27.0)
    assert sim._models[0].body_mass[1] == pytest.approx(7.921)
    sim.assign(torch.tensor([0]), torch.tensor([0]), dynamics([0.5], [0.0], [1.0]))
    assert course_friction(sim._models[0])[0, 0] == pytest.approx(0.4)  # of the flat course's 0.8


# ---- writing and reading -------------------------------------------------------------------------


def moving(n):
    """Robots turned about all axes, every number different."""
    state = still(n)
    generator = torch.Generator().manual_seed(0)
    for name in vars(state):
        setattr(state, name, torch.randn(getattr(state, name).shape, generator=generator))
    state.base_quaternion = torch.tensor(ROLL_PITCH_YAW, dtype=torch.float32).repeat(n, 1)
    return state


def test_written_numbers_are_in_mujocos_layout(make):
    sim, state = make(2), moving(1)
    before = sim.state_dict()["state"]
    sim.write(torch.tensor([1]), state)
    row = sim.state_dict()["state"][1].numpy()
    qpos, qvel = row[QPOS], row[QVEL]
    np.testing.assert_array_equal(qpos[:3], state.base_position[0].numpy())
    np.testing.assert_array_equal(qpos[3:7], state.base_quaternion[0].numpy())
    np.testing.assert_array_equal(qpos[7:], state.joint_position[0].numpy())
    np.testing.assert_array_equal(qvel[:3], state.base_linear_velocity[0].numpy())
    np.testing.assert_array_equal(qvel[6:], state.joint_velocity[0].numpy())
    # A free joint's angular velocity is in the body frame: turned back by the conjugate quaternion.
    body, back = np.zeros(3), np.zeros(4)
    mujoco.mju_negQuat(back, ROLL_PITCH_YAW)
    mujoco.mju_rotVecQuat(body, state.base_angular_velocity[0].double().numpy(), back)
    np.testing.assert_allclose(qvel[3:6], body, rtol=1e-5)
    assert row[0] == 0.0
    assert torch.equal(sim.state_dict()["state"][0], before[0])
    np.testing.assert_array_equal(sim.visual_state(1)[1], qpos)


def test_read_returns_what_was_written_to_each_world(make):
    sim, state = make(4), moving(3)
    state.base_quaternion = torch.nn.functional.normalize(
        torch.tensor([[1.0, 2, 3, 4], [4, -3, 2, 1], [1, 0, -1, 2]]),
    )
    sim.write(torch.tensor([3, 0, 2]), state)
    found = sim.read().select(torch.tensor([3, 0, 2]))
    for name in ("base_position", "base_linear_velocity", "joint_position", "joint_velocity"):
        assert torch.equal(getattr(found, name), getattr(state, name)), name
    for name in ("base_quaternion", "base_angular_velocity"):
        torch.testing.assert_close(getattr(found, name), getattr(state, name))
    for name in ("joint_torque", "foot_force", "body_force"):  # forces are ignored
        assert not getattr(found, name).any(), name


def test_read_turns_angular_velocity_to_the_world_and_normalises_the_quaternion(make):
    sim = make(1)
    saved = sim.state_dict()
    saved["state"][0, 4:8] = torch.tensor(2.0 * ROLL_PITCH_YAW)
    saved["state"][0, 23:26] = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
    sim.load_state_dict(saved)
    state, world = sim.read(), np.zeros(3)
    mujoco.mju_rotVecQuat(world, np.array([0.3, -0.7, 1.1]), ROLL_PITCH_YAW)
    assert state.base_angular_velocity[0].tolist() == pytest.approx(world.tolist(), rel=1e-5)
    assert state.base_quaternion[0].tolist() == pytest.approx(ROLL_PITCH_YAW.tolist(), rel=1e-6)


def test_rotation_matrices_are_mujocos():
    quaternions = np.array([[1.0, 2, 3, 4], [4, -3, 2, 1], [1, 0, -1, 2], [0.9, 0.1, 0.2, -0.3]])
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    found = rotation_matrix(torch.from_numpy(quaternions.reshape(2, 2, 4))).numpy()
    assert found.shape == (2, 2, 3, 3)
    for quaternion, matrix in zip(quaternions, found.reshape(4, 3, 3)):
        expected = np.zeros(9)
        mujoco.mju_quat2Mat(expected, quaternion)
        np.testing.assert_allclose(matrix.ravel(), expected, atol=1e-14)


def test_push_adds_to_the_linear_velocity_of_its_worlds(make):
    sim = make(3)
    sim.write(torch.arange(3), moving(3))
    before = sim.state_dict()["state"]
    sim.push(torch.tensor([2, 0]), torch.tensor([[0.25, -0.5, 0.125], [-0.75, 0.375, 0.0]]))
    change = sim.state_dict()["state"] - before
    assert change[:, 20:23].tolist() == [
        pytest.approx(x) for x in ([-0.75, 0.375, 0.0], [0.0] * 3, [0.25, -0.5, 0.125])
    ]
    change[:, 20:23] = 0.0
    assert not change.any()


# ---- a control step ------------------------------------------------------------------------------


def marked_targets(n):
    """Targets that differ in every world and joint, exact in single precision."""
    return torch.arange(12.0 * n).reshape(n, 12) / 64 + 0.5


@pytest.mark.parametrize(
    ("physics_dt", "delays", "late"),
    [
        (0.005, [0.0, 0.005, 0.010, 0.015, 0.020], [0, 1, 2, 3, 4]),
        (0.005, [0.0024, 0.0026, 0.0074, 0.0076, 0.0124], [0, 1, 1, 2, 2]),
        (0.0025, [0.0, 0.0025, 0.005, 0.015, 0.0136], [0, 1, 2, 6, 5]),
    ],
)
def test_delayed_worlds_hold_their_previous_targets_first(make, physics_dt, delays, late):
    sim = make(5, physics_dt=physics_dt)
    rollout = script(sim)
    substeps = round(0.02 / physics_dt)
    first, second = marked_targets(5), marked_targets(5) + 2.0
    sim.step(first)
    sim.step(second, delay=torch.tensor(delays))
    (_, _, control, steps), (_, _, delayed, _) = rollout.calls
    assert steps == substeps
    assert control.shape == (5, substeps, 12)
    np.testing.assert_array_equal(control, np.repeat(first.numpy()[:, None], substeps, axis=1))
    for world, wait in enumerate(late):
        expected = [first[world].tolist()] * wait + [second[world].tolist()] * (substeps - wait)
        assert delayed[world].tolist() == expected, world
    # The new targets are the previous ones of the next step, whatever the delay.
    sim.step(first, delay=torch.full((5,), 0.02))
    np.testing.assert_array_equal(
        rollout.calls[2][2],
        np.repeat(second.numpy()[:, None], substeps, axis=1),
    )


def test_before_any_target_and_after_a_write_the_joint_positions_hold(make):
    sim = make(3)
    rollout = script(sim)
    late = torch.full((3,), 0.010)
    sim.step(marked_targets(3), delay=late)
    np.testing.assert_array_equal(rollout.calls[0][2][:, 1], np.array([DEFAULT_POSE] * 3))
    state = moving(2)
    sim.write(torch.tensor([2, 0]), state)
    sim.step(marked_targets(3) + 1.0, delay=late)
    held = rollout.calls[1][2]
    np.testing.assert_array_equal(held[2, 1], state.joint_position[0].numpy())
    np.testing.assert_array_equal(held[0, 1], state.joint_position[1].numpy())
    np.testing.assert_array_equal(held[1, 1], marked_targets(3)[1].numpy())
    np.testing.assert_array_equal(
        held[:, 2:],
        np.repeat(marked_targets(3).numpy()[:, None] + 1.0, 2, axis=1),
    )


def test_inactive_worlds_are_not_computed(make):
    sim = make(4)
    sim.write(torch.arange(4), moving(4))
    before = sim.state_dict()
    rollout = script(sim)
    targets = marked_targets(4)
    delay = torch.tensor([0.0, 0.005, 0.010, 0.015])
    sim.step(targets, torch.tensor([False, True, False, True]), delay)
    models, start, control, _ = rollout.calls[0]
    assert models[0] is sim._models[1] and models[1] is sim._models[3] and len(models) == 2
    np.testing.assert_array_equal(start, before["state"][[1, 3]].numpy())
    for row, (world, wait) in enumerate(((1, 1), (3, 3))):
        assert control[row, wait:].tolist() == [targets[world].tolist()] * (4 - wait)
        assert control[row, :wait].tolist() == [before["target"][world].tolist()] * wait
    after = sim.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name][[0, 2]], value[[0, 2]]), name
    # Their previous target still is the old one.
    assert torch.equal(after["target"][[1, 3]], targets[[1, 3]].double())
    sim.step(targets, torch.tensor([False] * 4))
    assert len(rollout.calls) == 1


def test_real_inactive_worlds_stand_still(make):
    sim = make(3, threads=2)
    sim.write(torch.arange(3), still(3, z=2.0))
    sim.step(default_targets(3))
    sim.step(default_targets(3) + 0.05)
    before = sim.state_dict()
    sim.step(default_targets(3) + 0.1, torch.tensor([True, False, True]))
    after = sim.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name][1], value[1]), name
        if name not in ("foot", "body"):  # nothing touches in the air
            assert (after[name][0] != value[0]).any(), name
    assert torch.equal(after["state"][0], after["state"][2])


@pytest.mark.parametrize("other_order", [False, True])
def test_torques_and_foot_forces_are_the_last_ones_and_body_forces_the_largest(
    make,
    monkeypatch,
    other_order,
):
    if other_order:
        monkeypatch.setattr(module, "scene_xml", shuffled)
    sim = make(2)
    assert (sensor(sim, "FL_foot") > sensor(sim, "RR_foot")) == other_order
    start = sim.state_dict()["state"].numpy()
    sensors = np.zeros((2, 4, sim._models[0].nsensordata))
    rng = np.random.default_rng(0)
    torque, foot = rng.normal(size=(2, 4, 12)), rng.uniform(size=(2, 4, 4))
    body = np.zeros((2, 4, 9))
    for k in range(9):
        body[0, k % 4, k], body[1, (k + 2) % 4, k] = 1.0 + k, 20.0 + k
    for k, name in enumerate(JOINTS):
        sensors[:, :, sensor(sim, f"{name}_torque")] = torque[:, :, k]
    for k, leg in enumerate(LEGS):
        sensors[:, :, sensor(sim, f"{leg}_foot")] = foot[:, :, k]
    for k, name in enumerate(BODIES):
        sensors[:, :, sensor(sim, name)] = body[:, :, k]
    states = np.stack([start + 0.001 * k for k in range(1, 5)], axis=1)
    script(sim, (states, sensors))
    sim.step(default_targets(2))
    state = sim.read()
    np.testing.assert_allclose(state.joint_torque, torque[:, 3], rtol=1e-6)
    np.testing.assert_allclose(state.foot_force, foot[:, 3], rtol=1e-6)
    assert state.body_force.tolist() == [[1.0 + k for k in range(9)], [20.0 + k for k in range(9)]]
    np.testing.assert_array_equal(sim.state_dict()["state"], states[:, 3])


def velocity_rows(start, *velocities):
    """States that differ from ``start`` (S,) in joint velocities alone."""
    rows = np.repeat(start[None], len(velocities), axis=0)
    rows[:, 26:38] = velocities
    return rows


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("joint", [0, 1, 2, 11])
def test_a_joint_over_its_limit_is_done_again_step_by_step_with_the_velocity_clipped(
    make,
    joint,
    sign,
):
    sim = make(3)
    targets = marked_targets(3)
    sim.step(default_targets(3))
    start = sim.state_dict()["state"].numpy()
    limit, none = VELOCITY_LIMITS[joint], np.zeros(12)
    at, over = none.copy(), none.copy()
    at[joint], over[joint] = sign * limit, sign * (limit + 0.5)
    count = sim._models[0].nsensordata
    address = sensor(sim, "base")
    whole = np.stack(
        [
            velocity_rows(start[0], none, at, none, at),  # at the limit is allowed
            velocity_rows(start[1], none, over, none, none),  # over it at one physics step
            velocity_rows(start[2], none, none, none, none),
        ]
    )
    steps, forces = [], [3.0, 7.0, 5.0, 1.0]
    for k, velocity in enumerate((over, none, -over, over)):
        sensors = np.zeros((1, 1, count))
        sensors[:, :, address] = forces[k]
        sensors[:, :, sensor(sim, "FR_foot")] = 10.0 + k
        sensors[:, :, sensor(sim, "RL_calf_joint_torque")] = 20.0 + k
        row = velocity_rows(start[1] + 0.25 * (k + 1), velocity)
        steps.append((row[None], sensors))
    rollout = script(sim, (whole, 0.5), *steps)
    sim.step(targets, delay=torch.tensor([0.0, 0.010, 0.0]))
    assert [call[3] for call in rollout.calls] == [4, 1, 1, 1, 1]
    for k, (models, first, control, _) in enumerate(rollout.calls[1:]):
        assert len(models) == 1 and models[0] is sim._models[1]
        # The delay holds here too; each step goes on from the clipped state of the one before.
        np.testing.assert_allclose(control[0, 0], DEFAULT_POSE if k < 2 else targets[1], rtol=1e-6)
        expected = start[1] + 0.25 * k
        if k > 0:
            expected[26:38] = [at, none, -at][k - 1]
        np.testing.assert_allclose(first[0], expected, rtol=0, atol=1e-12)
    found = sim.state_dict()
    np.testing.assert_array_equal(found["state"][0], whole[0, 3])
    np.testing.assert_array_equal(found["state"][2], whole[2, 3])
    np.testing.assert_allclose(found["state"][1, 26:38], at, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["state"][1, :26], start[1, :26] + 1.0, rtol=0, atol=1e-12)
    state = sim.read()
    assert state.body_force[1].tolist() == [7.0] + [0.0] * 8  # the largest of the four steps
    assert state.foot_force[1].tolist() == [0.0, 13.0, 0.0, 0.0]
    assert state.joint_torque[1].tolist() == [0.0] * 8 + [23.0] + [0.0] * 3
    assert state.body_force[0].tolist() == state.body_force[2].tolist() == [0.5] * 9
    assert state.joint_torque[0].tolist() == [0.5] * 12


def by_hand(model, start, controls):
    """MuJoCo's own steps, velocities clipped after each; the last state and all sensors."""
    state, sensors = start.copy(), []
    for row in controls:
        data = mujoco.MjData(model)
        mujoco.mj_setState(model, data, state, FULL)
        data.ctrl[:] = row
        mujoco.mj_step(model, data)
        sensors.append(data.sensordata.copy())
        mujoco.mj_getState(model, data, state, FULL)
        state[26:38] = np.clip(state[26:38], -VELOCITY_LIMITS, VELOCITY_LIMITS)
    return state, np.array(sensors)


def test_real_steps_in_the_air_are_mujocos_own_with_clipped_velocities(make):
    sim = make(2)
    sim.write(torch.arange(2), still(2, z=30.0))
    targets = default_targets(2)
    targets[0] += 0.1  # gentle; the other world's joints run against their limits
    targets[1] += 3.0 * torch.tensor([1.0, 1.0, -1.0] * 4)
    state = sim.state_dict()["state"].numpy().copy()
    reached = np.zeros(12)
    for _ in range(4):
        sim.step(targets)
        for world in range(2):
            state[world], sensors = by_hand(
                sim._models[world],
                state[world],
                [targets[world].double().numpy()] * 4,
            )
            torques = [sensors[-1, sensor(sim, f"{name}_torque")] for name in JOINTS]
            np.testing.assert_allclose(
                sim.read().joint_torque[world],
                torques,
                rtol=1e-5,
                atol=1e-5,
            )
            addresses = [sensor(sim, f"{name}_torque") for name in JOINTS]
            assert (np.abs(sensors[:, addresses]) <= TORQUE_LIMITS + 1e-9).all()
        np.testing.assert_allclose(sim.state_dict()["state"], state, rtol=1e-9, atol=1e-9)
        velocity = sim.read().joint_velocity[1].abs().numpy()
        assert (velocity <= VELOCITY_LIMITS * (1 + 1e-6)).all()
        reached = np.maximum(reached, velocity)
    assert reached[2::3].max() == pytest.approx(15.7, rel=1e-6)


def test_torques_are_the_pd_law_clipped_at_the_limits(make):
    sim = make(1, physics_dt=0.02)
    state = still(1, z=30.0)
    state.joint_velocity = torch.tensor([[1.0, -2.0, 3.0] * 4])
    sim.write(torch.tensor([0]), state)
    offset = torch.tensor([[0.2, -0.3, 0.4, 3.0, -3.0, 3.0, 0.1, 0.1, -0.1, -0.7, 0.7, 1.2]])
    sim.step(default_targets(1) + offset)
    wanted = KP * offset.numpy() - KD * state.joint_velocity.numpy()
    expected = np.clip(wanted, -TORQUE_LIMITS, TORQUE_LIMITS)
    np.testing.assert_allclose(sim.read().joint_torque, expected, rtol=1e-5)
    assert (np.abs(wanted) > TORQUE_LIMITS).sum() == 3


def test_a_payload_and_a_weak_motor_act_in_the_physics(make):
    sim = make(3, physics_dt=0.02)
    sim.assign(torch.tensor([1]), torch.tensor([0]), dynamics([1.0], [0.0], [0.5]))
    sim.write(torch.arange(3), still(3, z=30.0))
    sim.step(default_targets(3) + torch.tensor([0.2, 0.0, 3.0] * 4))
    torque = sim.read().joint_torque
    assert torque[0, :3].tolist() == pytest.approx([6.0, 0.0, 45.43], rel=1e-5, abs=1e-5)
    assert torque[1, :3].tolist() == pytest.approx([3.0, 0.0, 45.43 / 2], rel=1e-5, abs=1e-5)


def test_threads_and_the_other_worlds_do_not_matter(make):
    results = []
    for threads in (1, 3):
        sim = make(5, (HARD,), threads)
        sim.write(torch.arange(5), still(5, z=0.33))
        for k in range(3):
            sim.step(default_targets(5) + 0.05 * k * torch.arange(5.0)[:, None])
        results.append(sim.state_dict())
    alone = make(1, (HARD,))
    alone.write(torch.tensor([0]), still(1, z=0.33))
    for k in range(3):
        alone.step(default_targets(1) + 0.05 * k * 4.0)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name
        assert torch.equal(value[4], alone.state_dict()[name][0]), name


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_state_names_the_world_its_course_and_targets(make, value):
    sim = make(4, (FLAT, SIMPLE))
    start = sim.state_dict()["state"].numpy()[[0, 2, 3]]
    states = np.repeat(start[:, None], 4, axis=1)
    states[2, 3, 5] = value
    script(sim, (states, 0.0))
    targets = torch.zeros(4, 12)
    targets[3, 0] = 0.5
    message = (
        r"world 3 has a non-finite state on course simple \(difficulty 0\.75, seed 3\); "
        r"its targets were \[0\.5, 0\.0, 0\.0"
    )
    with pytest.raises(SimulationError, match=message):
        sim.step(targets, torch.tensor([True, False, True, True]))


def test_the_first_of_several_diverged_worlds_is_named_and_inactive_ones_are_not(make):
    sim = make(3)
    state = still(3)
    state.base_linear_velocity[:, 1] = float("nan")
    sim.write(torch.arange(3), state)
    with pytest.raises(
        SimulationError,
        match=r"world 1 has a non-finite state on course flat \(difficulty 1\.0, seed 0\)",
    ):
        sim.step(default_targets(3), torch.tensor([False, True, True]))
    sim.write(torch.tensor([0, 2]), still(2))
    sim.step(default_targets(3), torch.tensor([True, False, True]))


# ---- saving --------------------------------------------------------------------------------------


def test_state_dict_is_an_exact_copy_and_is_restored_exactly(make):
    sim = make(2)
    sim.write(torch.arange(2), still(2))
    for k in range(3):
        sim.step(default_targets(2) + 0.05 * k)
    saved = sim.state_dict()
    assert {k: tuple(v.shape) for k, v in saved.items()} == {
        "state": (2, sim.state_dict()["state"].shape[1]),
        "target": (2, 12),
        "older": (2, 12),
        "torque": (2, 12),
        "foot": (2, 4),
        "body": (2, 9),
    }
    assert {v.dtype for v in saved.values()} == {torch.float64}
    state = sim.read()
    for name, key in (("joint_torque", "torque"), ("foot_force", "foot"), ("body_force", "body")):
        assert torch.equal(saved[key].float(), getattr(state, name)), name
    torch.testing.assert_close(
        saved["target"],
        (default_targets(2) + 0.1).double(),
        rtol=0,
        atol=1e-7,
    )
    kept = {k: v.clone() for k, v in saved.items()}
    sim.step(default_targets(2) - 0.1)
    after = sim.state_dict()
    other = make(2)
    other.load_state_dict(saved)
    for name, value in kept.items():
        assert torch.equal(saved[name], value), name  # the step did not change what was saved
        assert torch.equal(other.state_dict()[name], value), name
    other.step(default_targets(2) - 0.1)
    for name, value in after.items():
        assert torch.equal(other.state_dict()[name], value), name
        assert torch.equal(saved[name], kept[name]), name  # nor did going on from it


# ---- names ---------------------------------------------------------------------------------------


def shuffled(course):
    """The same scene with legs, actuators and sensors declared in another order."""
    root = ElementTree.fromstring(scene_xml(course))
    base = next(b for b in root.iter("body") if b.get("name") == "base")
    legs = base.findall("body")
    for leg in legs:
        base.remove(leg)
    base.extend(legs[::-1])
    for block in (root.find("actuator"), root.find("sensor")):
        block[:] = list(block)[::-1]
    return ElementTree.tostring(root, encoding="unicode")


def test_joints_actuators_and_sensors_are_found_by_name(make, monkeypatch):
    plain = make(2, physics_dt=0.01)
    monkeypatch.setattr(module, "scene_xml", shuffled)
    other = make(2, physics_dt=0.01)
    names = [other._models[0].actuator(k).name for k in range(12)]
    assert names == JOINTS[::-1]
    assert other._models[0].joint("RR_hip_joint").qposadr[0] == 7
    torch.testing.assert_close(other.read().joint_position, plain.read().joint_position)
    state = still(2, z=0.3)
    state.joint_velocity = torch.linspace(-3.0, 3.0, 24).reshape(2, 12)
    state.joint_position = state.joint_position + torch.linspace(-0.05, 0.1, 24).reshape(2, 12)
    targets = default_targets(2) + torch.linspace(-0.3, 0.2, 24).reshape(2, 12)
    for sim in (plain, other):
        sim.write(torch.arange(2), state)
        torch.testing.assert_close(sim.read().joint_position, state.joint_position)
        torch.testing.assert_close(sim.read().joint_velocity, state.joint_velocity)
        sim.step(targets, delay=torch.tensor([0.0, 0.010]))
        sim.step(targets + 0.1, delay=torch.tensor([0.010, 0.010]))
    a, b = plain.read(), other.read()
    for name, value in vars(a).items():
        torch.testing.assert_close(getattr(b, name), value, rtol=1e-3, atol=1e-4, msg=name)
    assert a.foot_force[0, 0] > 1.0  # on the ground


# ---- pictures ------------------------------------------------------------------------------------


class Pictures:
    def __init__(self):
        self.calls, self.closed = [], False

    def render(self, *arguments):
        self.calls.append(arguments)
        return "picture"

    def close(self):
        self.closed = True


def test_pictures_are_of_the_world_asked_for_and_closing_frees_everything(make):
    sim = make(2, (FLAT, HARD))
    sim.write(torch.tensor([1]), still(1, x=0.5, y=0.25, z=0.75))
    sim._pictures, rollout = Pictures(), sim._rollout
    closed = []
    sim._rollout = type("Rollout", (), {"close": lambda self: closed.append(True)})()
    assert sim.render(1) == "picture"
    assert sim.render(0, 32, 16, "camera") == "picture"
    (course, pose, *size), (other, start, *rest) = sim._pictures.calls
    assert (course, other, size, rest) == (HARD, FLAT, [640, 360, None], [32, 16, "camera"])
    np.testing.assert_allclose(pose, [0.5, 0.25, 0.75, 1, 0, 0, 0, *DEFAULT_POSE], rtol=1e-6)
    np.testing.assert_allclose(start, [0, 0, 0.33, 1, 0, 0, 0, *DEFAULT_POSE], rtol=1e-6)
    pose[:] = 9.0
    assert sim.read().base_position[1].tolist() == [0.5, 0.25, 0.75]  # a copy
    sim.close()
    assert (sim._pictures.closed, closed) == (True, [True])
    rollout.close()
