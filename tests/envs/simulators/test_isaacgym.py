"""The Isaac Gym back end: geometry, import order, entry points and a short collection and play over
the stand-in.
"""

import gc
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import Box, make_course
from go2_sevpo.envs.go2.description.model_files import ASSET_DIR
from go2_sevpo.envs.simulators.base import Dynamics
from go2_sevpo.envs.simulators.isaacgym.early import prepare, wants_isaacgym
from go2_sevpo.envs.simulators.isaacgym.simulator import (
    CELL_LENGTH,
    CELL_WIDTH,
    box_mesh,
    cell_origins,
    load_isaacgym,
)
from go2_sevpo.envs.simulators.registry import announce, make_simulator
from tests.isaacgym_standin.load import install

ROOT = Path(__file__).resolve().parents[3]
STANDIN = ROOT / "tests" / "isaacgym_standin"


def run(*arguments, standin=True):
    path = os.pathsep.join([str(ROOT), *([str(STANDIN)] if standin else [])])
    env = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    env.pop("ISAACGYM_STANDIN_AFTER_TORCH", None)
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=env,
        cwd=str(ROOT),
        capture_output=True,
        text=True,
    )


def volume(vertices, triangles):
    a, b, c = (vertices[triangles[:, k]].astype(float) for k in range(3))
    return np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6


def test_boxes_become_closed_outward_meshes():
    course = make_course("hard", 1.0, 3)
    vertices, triangles = box_mesh(course.boxes, np.array([20.0, 5.0, 0.0]))
    assert vertices.dtype == np.float32 and triangles.dtype == np.uint32
    # Divergence theorem: only outward triangles without holes give the boxes' volume.
    assert volume(vertices, triangles) == pytest.approx(
        sum(8 * np.prod(b.half_size) for b in course.boxes), rel=1e-4
    )
    edges = np.sort(
        np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1
    )
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_cells_do_not_overlap_and_stay_near_the_origin():
    origins = cell_origins(1900)
    x, y = np.round(origins[:, 0] / CELL_LENGTH), np.round(origins[:, 1] / CELL_WIDTH)
    assert len({(a, b) for a, b in zip(x, y)}) == 1900
    assert np.abs(origins).max() < 500  # float32 keeps a tenth of a millimetre there
    for kind in ("simple", "hard"):
        reach = [
            np.abs(b.rotation()) @ b.half_size + np.abs(b.position)
            for b in make_course(kind, 1.0, 1).boxes
        ]
        assert (
            max(r[1] for r in reach) < CELL_WIDTH / 2 and max(r[0] for r in reach) < CELL_LENGTH - 2
        )


def test_command_line_is_read_before_anything_is_imported():
    assert wants_isaacgym(["expert", "--simulator", "isaacgym"]) and wants_isaacgym(
        ["--simulator=isaacgym"]
    )
    assert not wants_isaacgym(["--simulator", "mujoco", "isaacgym"]) and not wants_isaacgym([])
    code = (
        "import go2_sevpo.envs.simulators.isaacgym.early, sys; sys.exit('torch' in "
        "sys.modules or 'mujoco' in sys.modules)"
    )
    assert run("-c", code).returncode == 0


def test_absent_isaacgym_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "isaacgym_standin" not in p])
    for name in [n for n in sys.modules if n.split(".")[0] == "isaacgym"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit, match="needs NVIDIA's Isaac Gym Preview 4 .*docs/isaacgym.md"):
        prepare(["--simulator", "isaacgym"])
    with pytest.raises(ValueError, match="needs NVIDIA's Isaac Gym Preview 4"):
        load_isaacgym()
    found = run(
        "-m", "go2_sevpo.deploy.play.cli", "expert", "--simulator", "isaacgym", standin=False
    )
    assert (
        found.returncode == 1 and found.stdout == "" and len(found.stderr.strip().splitlines()) == 1
    )


def test_torch_first_is_explained():
    code = (
        "import torch\nfrom go2_sevpo.envs.simulators.registry import make_simulator\nfrom "
        "go2_sevpo.envs.go2.description.course import make_course\n"
        "try: make_simulator('isaacgym', 1, [make_course('flat', 0.0, 0)])\nexcept "
        "ValueError as e: print(e)"
    )
    assert (
        "Isaac Gym must be imported before torch: give '--simulator isaacgym'"
        in run("-c", code).stdout
    )


@pytest.mark.slow
def test_collects_and_plays_through_the_entry_points(tmp_path):
    data, out = tmp_path / "data", tmp_path / "play"
    collected = run(
        "-m",
        "go2_sevpo.data_collection.collect",
        "--policy",
        "expert",
        "--course",
        "simple",
        "--episodes",
        "2",
        "--out",
        data,
        "--simulator",
        "isaacgym",
    )
    assert collected.returncode == 0, collected.stderr
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["simulator"] == "isaacgym" and manifest["episodes"] == 2
    assert manifest["transitions"] > 100  # the expert does walk: another simulator, the same robot
    played = run(
        "-m",
        "go2_sevpo.deploy.play.cli",
        "expert",
        "--course",
        "flat",
        "--episodes",
        "2",
        "--simulator",
        "isaacgym",
        "--out",
        out,
    )
    assert played.returncode == 0, played.stderr
    assert json.loads((out / "report.json").read_text())["success_rate"] == 1.0


def test_viewer_runs_until_its_window_is_closed(tmp_path):
    command = (
        "-m",
        "go2_sevpo.deploy.play.cli",
        "expert",
        "--course",
        "flat",
        "--episodes",
        "2",
        "--viewer",
        "--out",
        tmp_path / "play",
    )
    seen = run(*command, "--simulator", "isaacgym")
    assert seen.returncode == 0, seen.stderr
    assert "10 frames drawn" in seen.stdout and not (tmp_path / "play").exists()
    with pytest.raises(ValueError, match="the simulator mujoco has no window of its own"):
        make_simulator("mujoco", 1, [make_course("flat", 0.0, 0)], viewer=True)


def course(seed, kind="hard"):
    return make_course(kind, 1.0, seed)


def standing_height(sim, world=0):
    for _ in range(40):
        sim.step(torch.tensor(r.DEFAULT_JOINT_POSITIONS).repeat(sim.num_envs, 1))
    return float(sim.read().base_position[world, 2])


def make(n, courses, **options):
    return make_simulator("isaacgym", n, courses, device="cpu", **options)


def test_one_simulation_serves_all_that_was_announced():
    """The stand-in ends the process at a second simulation; its states do not leak."""
    install()
    first, second = [course(0)], [course(1), course(2)]
    carried = torch.tensor([1.0, 2.0, 0.5])
    announce([("isaacgym", 3, second, carried), ("mujoco", 9, [course(7)], torch.zeros(9))])
    a = make(1, first, payload=torch.tensor([0.25]))
    assert a.fixed_payload.tolist() == [1.0] and a.num_envs == 1
    assert 0.2 < standing_height(a) < 0.4
    a.push(torch.tensor([0]), torch.tensor([[3.0, 0.0, 0.0]]))
    a.close()
    b = make(3, second, payload=carried)
    assert b.fixed_payload.tolist() == carried.tolist()
    state = b.read()
    assert torch.allclose(state.base_position[:, 2], torch.tensor(r.NOMINAL_BASE_HEIGHT))
    assert state.base_linear_velocity.abs().max() == 0 and state.foot_force.max() == 0
    assert 0.2 < standing_height(b, 2) < 0.4
    with pytest.raises(ValueError, match="another environment is using it: close that one first"):
        make(1, first)
    a.close()  # a second time: it has nothing to give back
    with pytest.raises(ValueError, match="close that one first"):
        make(1, first)
    del b, a  # forgotten without being closed
    gc.collect()
    make(1, first, payload=torch.tensor([0.25])).close()


def test_what_the_simulation_lacks_is_named():
    install()
    make(2, [course(0)], payload=torch.ones(2)).close()
    with pytest.raises(ValueError, match="it has 2 worlds, asked for are 3; it lacks 1 of the 2"):
        make(3, [course(0), course(5)], payload=torch.ones(3))
    with pytest.raises(ValueError, match=r"asked for are none. Announce all .*parkour.announce"):
        make(2, [course(0)])
    with pytest.raises(ValueError, match="physics_dt=0.005.*asked for is .*physics_dt=0.002"):
        make(2, [course(0)], payload=torch.ones(2), physics_dt=0.002)
    with pytest.raises(ValueError, match="it was made without graphics"):
        make(2, [course(0)], payload=torch.ones(2), viewer=True)


def test_friction_is_set_once_and_in_buckets():
    api = install()
    calls = []
    sim = make(2, [course(0, "flat")])
    real = api.Gym.set_actor_rigid_shape_properties
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            api.Gym,
            "set_actor_rigid_shape_properties",
            lambda *a: calls.append(a[-1][0].friction) or real(*a),
        )
        for factor in (1.0, 0.751, 0.7500001, 0.76):
            dynamics = replace(Dynamics.nominal(2), friction=torch.tensor([factor, 1.0]))
            sim.assign(torch.arange(2), torch.zeros(2, dtype=torch.long), dynamics)
    sim.close()
    # 0.751 and 0.7500001 are 48/64; 0.76 is 49/64; robot = 2 f g - g with g = 0.8.
    assert calls == pytest.approx([0.4, 0.8 * (2 * 49 / 64 - 1)])


@pytest.mark.parametrize("dry", [0.0, 0.2, 0.6])
def test_dry_friction_brakes_by_its_torque(dry):
    """A knee that turns freely in the air loses I dv = tau dt; I from MuJoCo's mass matrix."""
    install()
    sim = make(1, [course(0, "flat")])
    sim._dry[:] = dry
    sim._strength[:] = 0.0  # no motors
    state = sim._standing()
    state.base_position[:, 2] = 20.0
    state.joint_velocity[0, 2] = 4.0
    sim.write(torch.tensor([0]), state)
    sim.step(torch.zeros(1, 12))
    lost = 4.0 - float(sim.read().joint_velocity[0, 2])
    sim.close()
    model = mujoco.MjModel.from_xml_path(str(ASSET_DIR / "go2.xml"))
    data = mujoco.MjData(model)
    data.qpos[7:] = r.DEFAULT_JOINT_POSITIONS
    data.qpos[3] = 1.0
    mujoco.mj_forward(model, data)
    knee = model.joint("FL_calf_joint").dofadr[0]
    force, answer = np.zeros((1, model.nv)), np.zeros((1, model.nv))
    force[0, knee] = 1.0
    mujoco.mj_solveM(model, data, answer, force)
    inertia = 1.0 / answer[0, knee]
    assert lost == pytest.approx(dry * r.CONTROL_DT / inertia, abs=0.12 + 0.1 * dry)


def test_gpu_pipeline_draws_what_was_fetched(monkeypatch):
    api = install()
    api.SEMANTICS.pipeline = "gpu"
    sim = make(1, [course(0, "flat")], viewer=True)
    sim._gpu = True  # as on a GPU: no fetch_results between physics steps
    fetched = []
    real = api.Gym.fetch_results
    monkeypatch.setattr(api.Gym, "fetch_results", lambda *a: fetched.append(1) or real(*a))
    for _ in range(3):
        sim.step(torch.tensor(r.DEFAULT_JOINT_POSITIONS)[None])
    assert len(fetched) == 3 and sim.window.handle.in_sight == 3
    sim.close()


def test_box_frame_is_the_courses():
    box = Box((1.0, 2.0, 3.0), (0.5, 0.25, 0.125))
    vertices, _ = box_mesh([box], np.zeros(3))
    assert np.allclose(vertices.min(0), [0.5, 1.75, 2.875]) and np.allclose(
        vertices.max(0), [1.5, 2.25, 3.125]
    )


@pytest.mark.slow
def test_doctor_measures_and_reports():
    found = run("-m", "go2_sevpo.deploy.doctor.cli", "--isaacgym")
    assert "DOF order" in found.stdout and "FL_hip_joint" in found.stdout, (
        found.stdout + found.stderr
    )
    lines = [x for x in found.stdout.split("Isaac Gym\n")[1].splitlines() if x.startswith("  ")]
    assert len(lines) == 19 and all(x.startswith("  ok") for x in lines), found.stdout
    absent = run("-m", "go2_sevpo.deploy.doctor.cli", "--isaacgym", standin=False)
    assert absent.returncode == 1 and "needs NVIDIA's Isaac Gym Preview 4" in absent.stderr


def test_doctor_notices_what_contradicts_the_back_end(monkeypatch):
    """A simulation that reports angular velocities in the body frame and includes friction fails by
    name.
    """
    from go2_sevpo.deploy.doctor.isaacgym import examine
    from tests.envs.simulators.test_simulator import isaacgym_stand_in

    class Other:
        def __init__(self, *args, **options):
            self.__dict__["sim"] = isaacgym_stand_in(*args, **options)

        def __getattr__(self, name):
            return getattr(self.__dict__["sim"], name)

        def write(self, ids, state):
            from dataclasses import replace

            from go2_sevpo.envs.go2.description.geometry import rotation_matrix

            spin = state.base_angular_velocity
            turned = (rotation_matrix(state.base_quaternion) @ spin[..., None])[..., 0]
            self.__dict__["sim"].write(ids, replace(state, base_angular_velocity=turned))

    from go2_sevpo.deploy.doctor import isaacgym as doctor

    found = examine(Other, (doctor.free_fall, doctor.frames))
    verdicts = {name: right for name, right, _ in found}
    assert verdicts["angular velocity is in the world frame"] is False
    assert verdicts["free fall"] is True
