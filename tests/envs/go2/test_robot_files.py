"""Both model files are held to the table of constants."""

import xml.etree.ElementTree as ET
from pathlib import Path

import mujoco
import numpy as np
import pytest

from go2_sevpo.envs.go2.description import model_files
from go2_sevpo.envs.go2.description import robot as r

ASSETS = Path(model_files.ASSET_DIR)


@pytest.fixture(scope="module")
def mjcf():
    return mujoco.MjModel.from_xml_path(str(ASSETS / "go2.xml"))


@pytest.fixture(scope="module")
def urdf():
    return ET.parse(ASSETS / "go2.urdf").getroot()


def test_files_are_what_the_table_generates():
    assert (ASSETS / "go2.xml").read_text() == model_files.mjcf()
    assert (ASSETS / "go2.urdf").read_text() == model_files.urdf()


def test_total_mass_is_15_02_kg_in_both(mjcf, urdf):
    assert mjcf.body_mass.sum() == pytest.approx(r.TOTAL_MASS, abs=0.05)
    total = sum(float(m.get("value")) for m in urdf.iter("mass"))
    assert total == pytest.approx(r.TOTAL_MASS, abs=0.05)
    assert total == pytest.approx(mjcf.body_mass.sum(), abs=1e-6)


def test_joint_names_order_limits_and_gains_in_the_mjcf(mjcf):
    names = [mjcf.joint(i).name for i in range(1, mjcf.njnt)]
    assert names == list(r.JOINT_NAMES)
    assert [mjcf.actuator(i).name for i in range(mjcf.nu)] == list(r.JOINT_NAMES)
    for i, name in enumerate(r.JOINT_NAMES):
        limits = r.joint_limits(name)
        assert mjcf.joint(name).range == pytest.approx([limits.lower, limits.upper], abs=1e-4)
        assert mjcf.actuator_forcerange[i] == pytest.approx([-limits.torque, limits.torque])
        assert mjcf.actuator_gainprm[i, 0] == r.KP
        assert mjcf.actuator_biasprm[i, :3] == pytest.approx([0, -r.KP, -r.KD])
        assert mjcf.dof_armature[6 + i] == r.ARMATURE


def test_joint_limits_in_the_urdf(urdf):
    joints = {j.get("name"): j for j in urdf.iter("joint")}
    for name in r.JOINT_NAMES:
        found, limits = joints[name].find("limit"), r.joint_limits(name)
        assert [float(found.get(k)) for k in ("lower", "upper", "effort", "velocity")] == [
            limits.lower,
            limits.upper,
            limits.torque,
            limits.velocity,
        ]
    feet = [j for n, j in joints.items() if n.endswith("foot_joint")]
    assert len(feet) == 4
    assert all(j.get("dont_collapse") == "true" for j in feet)


def test_inertias_and_centres_match_between_files(mjcf, urdf):
    links = {k.get("name"): k.find("inertial") for k in urdf.iter("link")}
    for leg in r.LEGS:
        for segment in ("hip", "thigh"):
            name = f"{leg}_{segment}"
            com = [float(x) for x in links[name].find("origin").get("xyz").split()]
            assert mjcf.body(name).ipos == pytest.approx(com, abs=1e-8)
            tensor = {k: float(v) for k, v in links[name].find("inertia").attrib.items()}
            full = np.array(
                [
                    [tensor["ixx"], tensor["ixy"], tensor["ixz"]],
                    [tensor["ixy"], tensor["iyy"], tensor["iyz"]],
                    [tensor["ixz"], tensor["iyz"], tensor["izz"]],
                ]
            )
            rotation = np.zeros(9)
            mujoco.mju_quat2Mat(rotation, mjcf.body(name).iquat)
            rotation = rotation.reshape(3, 3)
            assert rotation @ np.diag(mjcf.body(name).inertia) @ rotation.T == pytest.approx(
                full, abs=1e-8
            )


def test_foot_merged_into_calf_keeps_mass_and_centre(mjcf):
    calf = r.link_inertial("FL", "calf")
    body = mjcf.body("FL_calf")
    assert body.mass[0] == pytest.approx(calf.mass + r.FOOT.mass)
    expected = (calf.mass * np.array(calf.com) + r.FOOT.mass * np.array([0, 0, -r.LINK_LENGTH])) / (
        calf.mass + r.FOOT.mass
    )
    assert body.ipos == pytest.approx(expected, abs=1e-6)


def test_left_and_right_mirror(mjcf):
    for segment in r.SEGMENTS:
        for left, right in (("FL", "FR"), ("RL", "RR")):
            a, b = mjcf.body(f"{left}_{segment}"), mjcf.body(f"{right}_{segment}")
            assert a.ipos == pytest.approx(b.ipos * [1, -1, 1], abs=1e-9)
            assert a.pos == pytest.approx(b.pos * [1, -1, 1], abs=1e-9)


def test_unknown_joint_is_named():
    with pytest.raises(KeyError, match="unknown Go2 joint 'FL_knee_joint'"):
        r.joint_limits("FL_knee_joint")


def test_sdk_order_has_the_same_joints():
    assert sorted(r.SDK_JOINT_NAMES) == sorted(r.JOINT_NAMES)
    assert r.SDK_JOINT_NAMES[0] == "FR_hip_joint"
