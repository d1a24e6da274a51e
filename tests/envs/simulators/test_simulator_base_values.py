"""What every back end is made from, their names, and rollouts over MuJoCo (docs/simulators.md)."""

import sys
import types
from dataclasses import fields

import mujoco
import numpy as np
import pytest
import torch
from mujoco import rollout as mujoco_rollout

from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.simulators import registry, rolling
from go2_sevpo.envs.simulators.base import (
    Dynamics,
    RobotState,
    SimulationError,
    late_targets,
    physics_steps,
)
from go2_sevpo.envs.simulators.rolling import ThreadedRollout, make_rollout

COURSES = [make_course("flat", 0.0, 0)]


# ---- base ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("physics_dt", "steps"),
    [(0.02, 1), (0.01, 2), (0.005, 4), (0.004, 5), (0.0025, 8), (0.02 + 9e-10, 1)],
)
def test_physics_steps_in_a_control_step_of_20_ms(physics_dt, steps):
    assert physics_steps(1, COURSES, physics_dt) == steps


@pytest.mark.parametrize("physics_dt", [0.003, 0.04, 0.007, 0.0199, 0.02 + 2e-9, 0.02 - 2e-9, 0.1])
def test_a_physics_step_that_does_not_divide_is_refused(physics_dt):
    message = rf"physics step is {physics_dt} s, expected a divisor of the control step 0\.02 s"
    with pytest.raises(ValueError, match=message):
        physics_steps(1, COURSES, physics_dt)


@pytest.mark.parametrize(("worlds", "courses"), [(0, COURSES), (-1, COURSES), (1, [])])
def test_no_world_and_no_course_are_refused(worlds, courses):
    message = f"got {worlds} worlds and {len(courses)} courses, expected at least one of each"
    with pytest.raises(ValueError, match=message):
        physics_steps(worlds, courses, 0.005)


def test_nominal_dynamics_are_factors_of_one_and_no_payload():
    nominal = Dynamics.nominal(3, torch.device("cpu"))
    values = [x.tolist() for x in vars(nominal).values()]
    assert values[:3] == [[1.0] * 3, [0.0] * 3, [1.0] * 3]
    # The joints are the model files': no damping, 0.01 kg m^2, 0.2 N m, no loss of torque.
    assert values[3:] == [pytest.approx([x] * 3) for x in (0.0, 0.01, 0.2, 0.0)]
    assert list(vars(nominal)) == [
        *("friction", "payload", "motor_strength"),
        *("damping", "armature", "friction_loss", "droop"),
    ]
    nominal.friction[0] = 0.5
    assert nominal.motor_strength.tolist() == [1.0] * 3  # tensors of their own
    elsewhere = Dynamics.nominal(1, torch.device("meta"))
    assert {x.device.type for x in vars(elsewhere).values()} == {"meta"}
    assert Dynamics.nominal(2).friction.device.type == "cpu"


def test_select_takes_rows_of_every_field():
    sizes = {
        "base_position": 3,
        "base_quaternion": 4,
        "base_linear_velocity": 3,
        "base_angular_velocity": 3,
        "joint_position": 12,
        "joint_velocity": 12,
        "joint_torque": 12,
        "foot_force": 4,
        "body_force": 9,
    }
    assert [f.name for f in fields(RobotState)] == list(sizes)
    values = (torch.arange(3.0 * k).reshape(3, k) + i for i, k in enumerate(sizes.values()))
    state = RobotState(**dict(zip(sizes, values)))
    part = state.select(torch.tensor([2, 0]))
    for i, (name, k) in enumerate(sizes.items()):
        rows = [[2.0 * k + j + i for j in range(k)], [float(j + i) for j in range(k)]]
        assert getattr(part, name).tolist() == rows, name


def test_a_simulation_error_is_a_runtime_error():
    assert issubclass(SimulationError, RuntimeError)


# ---- registry ------------------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch):
    """Every back end replaced by one that keeps its arguments."""
    calls = []
    for module, name in (
        ("mujoco", "MujocoSimulator"),
        ("mujoco_warp", "MujocoWarpSimulator"),
        ("isaacgym.simulator", "IsaacGymSimulator"),
    ):
        fake = types.ModuleType(module)
        setattr(fake, name, lambda *arguments, name=name: calls.append((name, arguments)) or name)
        monkeypatch.setitem(sys.modules, f"go2_sevpo.envs.simulators.{module}", fake)
    return calls


def test_back_ends_by_name_and_their_arguments(made):
    payload = torch.tensor([0.5, 1.0])
    make = registry.make_simulator
    assert make("mujoco", 2, COURSES, 3, 0.01, payload, "cpu") == "MujocoSimulator"
    assert make("mujoco", 4, COURSES) == "MujocoSimulator"
    warp = make("mujoco-warp", 5, COURSES, 6, 0.004, payload, "cuda:0")
    assert warp == "MujocoWarpSimulator"
    isaac = make("isaacgym", 7, COURSES, 8, 0.002, payload, "cuda:1", True)
    assert isaac == make("isaacgym", 9, COURSES) == "IsaacGymSimulator"
    assert made == [
        ("MujocoSimulator", (2, COURSES, 3, 0.01)),
        ("MujocoSimulator", (4, COURSES, 0, 0.005)),
        ("MujocoWarpSimulator", (5, COURSES, 6, 0.004, "cuda:0")),
        ("IsaacGymSimulator", (7, COURSES, 8, 0.002, payload, "cuda:1", True)),
        ("IsaacGymSimulator", (9, COURSES, 0, 0.005, None, None, False)),
    ]


def test_the_names_are_the_documented_ones():
    assert registry.SIMULATORS == ("mujoco", "mujoco-warp", "isaacgym")


@pytest.mark.parametrize("name", ["mujoco", "mujoco-warp"])
def test_only_isaacgym_has_a_window(made, name):
    with pytest.raises(ValueError, match=f"the simulator {name} has no window of its own"):
        registry.make_simulator(name, 1, COURSES, viewer=True)
    assert made == []


def test_mujoco_runs_on_the_cpu_alone(made):
    with pytest.raises(
        ValueError,
        match="the simulator mujoco runs on the CPU, device is 'cuda:0'",
    ):
        registry.make_simulator("mujoco", 1, COURSES, device="cuda:0")
    assert made == []


@pytest.mark.parametrize("viewer", [False, True])
def test_an_unknown_name_lists_the_known_ones(made, viewer):
    message = "unknown simulator 'mujoko', expected one of mujoco, mujoco-warp, isaacgym"
    with pytest.raises(ValueError, match=message):
        registry.make_simulator("mujoko", 1, COURSES, viewer=viewer)


# ---- rollouts ------------------------------------------------------------------------------------

PENDULUM = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body pos="0 0 1">
      <joint name="swing" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0.3 0 0" mass="{mass}"/>
    </body>
  </worldbody>
  <actuator><motor name="swing" joint="swing" gear="2"/></actuator>
  <sensor><jointpos joint="swing"/><jointvel joint="swing"/></sensor>
</mujoco>
"""
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS.value


def pendulums(worlds, steps):
    """Models of different masses, start states (N, S) and controls (N, T, 1)."""
    scenes = [PENDULUM.format(mass=0.5 + 0.25 * i) for i in range(worlds)]
    models = [mujoco.MjModel.from_xml_string(scene) for scene in scenes]
    rng = np.random.default_rng(0)
    start = np.zeros((worlds, mujoco.mj_stateSize(models[0], FULL)))
    start[:, 1:3] = rng.normal(size=(worlds, 2))
    return models, start, rng.normal(size=(worlds, steps, 1))


def by_hand(models, start, control):
    """States and sensors after every step, from MuJoCo's own step function."""
    states, sensors = [], []
    for model, first, row in zip(models, start, control):
        data = mujoco.MjData(model)
        mujoco.mj_setState(model, data, first, FULL)
        for value in row:
            data.ctrl[:] = value
            mujoco.mj_step(model, data)
            now = np.empty(len(first))
            mujoco.mj_getState(model, data, now, FULL)
            states.append(now)
            sensors.append(data.sensordata.copy())
    worlds, steps = control.shape[:2]
    return np.reshape(states, (worlds, steps, -1)), np.reshape(sensors, (worlds, steps, -1))


def rolled(rollout, models, data, start, control, steps):
    state, sensors = (
        np.full((len(models), steps, start.shape[1]), np.nan),
        np.full((len(models), steps, 2), np.nan),
    )
    rollout.rollout(
        models,
        data,
        start,
        control,
        nstep=steps,
        state=state,
        sensordata=sensors,
        skip_checks=True,
    )
    rollout.close()
    return state, sensors


@pytest.fixture
def old_mujoco(monkeypatch):
    """``mujoco.rollout`` before it had a pool: one model a call, and the number of rollouts."""
    calls = []

    def rollout(
        model,
        data,
        initial_state,
        control,
        *,
        control_spec,
        skip_checks,
        nroll,
        nstep,
        state,
        sensordata,
    ):
        assert (control_spec, skip_checks, nroll) == (mujoco.mjtState.mjSTATE_CTRL.value, True, 1)
        assert control.shape[:2] == (1, nstep)
        assert isinstance(model, mujoco.MjModel)
        calls.append((model, data))
        found = by_hand([model], initial_state, control)
        state[:], sensordata[:] = found

    monkeypatch.setattr(rolling, "mj_rollout", types.SimpleNamespace(rollout=rollout))
    return calls


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 8])
def test_threaded_rollouts_roll_each_world_once_with_its_own_model(old_mujoco, threads):
    models, start, control = pendulums(5, 4)
    data = [mujoco.MjData(models[0]) for _ in range(max(threads, 1))]
    expected = by_hand(models, start, control)
    found = rolled(make_rollout(threads), models, data, start, control, 4)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert len(old_mujoco) == 5
    for model, scratch in old_mujoco:
        world = next(i for i in range(5) if models[i] is model)
        assert scratch is data[world % max(threads, 1)]  # no two threads share one
    assert {id(model) for model, _ in old_mujoco} == {id(model) for model in models}


@pytest.mark.skipif(
    not hasattr(mujoco_rollout, "Rollout"),
    reason="MuJoCo before its own thread pool",
)
@pytest.mark.parametrize("threads", [1, 2])
def test_threaded_rollouts_equal_mujocos_pool_bit_for_bit(monkeypatch, threads):
    models, start, control = pendulums(5, 4)
    pool = make_rollout(threads)
    assert not isinstance(pool, ThreadedRollout)
    data = [mujoco.MjData(models[0]) for _ in range(threads)]
    expected = rolled(pool, models, data, start, control, 4)

    def rollout(model, data, *arrays, nroll, skip_checks, **options):
        assert (nroll, skip_checks) == (1, True)
        mujoco_rollout.rollout([model], [data], *arrays, skip_checks=False, **options)

    old = types.SimpleNamespace(rollout=rollout)
    monkeypatch.setattr(rolling, "mj_rollout", old)
    data = [mujoco.MjData(models[0]) for _ in range(threads)]
    found = rolled(ThreadedRollout(threads), models, data, start, control, 4)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def test_an_old_mujoco_gets_python_threads_and_a_new_one_its_pool(monkeypatch):
    monkeypatch.setattr(rolling, "mj_rollout", types.SimpleNamespace())
    one, three = make_rollout(1), make_rollout(3)
    assert isinstance(one, ThreadedRollout) and isinstance(three, ThreadedRollout)
    assert (one._threads, one._pool, three._threads) == (1, None, 3)
    assert three._pool._max_workers == 3
    three.close()
    one.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        three._pool.submit(int)
    monkeypatch.setattr(
        rolling,
        "mj_rollout",
        types.SimpleNamespace(Rollout=lambda nthread: ("pool", nthread)),
    )
    # MuJoCo's pool counts 0 as "in this thread".
    assert [make_rollout(n) for n in (0, 1, 2, 5)] == [
        ("pool", 0),
        ("pool", 0),
        ("pool", 2),
        ("pool", 5),
    ]


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (0, [0, 0, 0, 0]),
        (1, [1, 0, 0, 0]),
        (3, [1, 1, 1, 0]),
        (4, [1, 1, 1, 1]),
        (5, [2, 1, 1, 1]),  # 25 ms: the targets of two steps ago hold for the first 5 ms
        (8, [2, 2, 2, 2]),
    ],
)
def test_targets_that_hold_during_a_control_step(wait, expected):
    assert late_targets(np.array([wait]), 4).tolist() == [expected]


def test_late_targets_by_a_queue():
    # Targets are given at steps 0, 4, 8, ... and arrive ``wait`` physics steps later.
    for wait in range(9):
        arrived = [[m for m in range(10) if 4 * m + wait <= t][-1:] for t in range(32)]
        for step in range(3, 8):
            late = late_targets(np.array([wait]), 4)[0]
            found = [[step - k] for k in late.tolist()]
            assert found == arrived[4 * step : 4 * step + 4], wait


def test_delays_of_more_than_two_control_steps_are_refused():
    with pytest.raises(ValueError, match="^delay is 9 physics steps, expected at most 8 "):
        late_targets(np.array([0, 9]), 4)
