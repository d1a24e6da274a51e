"""The Isaac Gym back end: geometry, import order, entry points and a short collection and play over
the stand-in.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from go2_sevpo.envs.go2.description.course import Box, make_course
from go2_sevpo.envs.simulators.isaacgym.early import prepare, wants_isaacgym
from go2_sevpo.envs.simulators.isaacgym.simulator import (
    CELL_LENGTH,
    CELL_WIDTH,
    box_mesh,
    cell_origins,
    load_isaacgym,
)
from go2_sevpo.envs.simulators.registry import make_simulator

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


def test_box_frame_is_the_courses():
    box = Box((1.0, 2.0, 3.0), (0.5, 0.25, 0.125))
    vertices, _ = box_mesh([box], np.zeros(3))
    assert np.allclose(vertices.min(0), [0.5, 1.75, 2.875]) and np.allclose(
        vertices.max(0), [1.5, 2.25, 3.125]
    )


def test_doctor_measures_and_reports():
    found = run("-m", "go2_sevpo.deploy.doctor.cli", "--isaacgym")
    assert "DOF order" in found.stdout and "FL_hip_joint" in found.stdout, (
        found.stdout + found.stderr
    )
    lines = [x for x in found.stdout.split("Isaac Gym\n")[1].splitlines() if x.startswith("  ")]
    assert len(lines) >= 13 and all(x.startswith("  ok") for x in lines), found.stdout
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

    verdicts = {name: right for name, right, _ in examine(Other)}
    assert verdicts["angular velocity is in the world frame"] is False
    assert verdicts["free fall"] is True
