"""The robot's table against Unitree's published numbers, and what the contracts promise."""

import json
import re

import numpy as np
import pytest

from go2_sevpo.envs import contracts
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.policies.contract import ContractError
from tests.envs.go2 import reference as ref

LEGS = ("FL", "FR", "RL", "RR")
# Unitree's go2_description: mass, centre of mass (m, link axes), inertia: xx yy zz xy xz yz.
PUBLISHED = {
    "base": (
        6.921,
        (0.021112, 0.0, -0.005366),
        (0.02448, 0.098077, 0.107, 0.00012166, 0.0014849, -3.12e-05),
    ),
    "hip": (
        0.678,
        (-0.0054, 0.00194, -0.000105),
        (0.00048, 0.000884, 0.000596, -3.01e-06, 1.11e-06, -1.42e-06),
    ),
    "thigh": (
        1.152,
        (-0.00374, -0.0223, -0.0327),
        (0.00584, 0.0058, 0.00103, 8.72e-05, -0.000289, 0.000808),
    ),
    "calf": (
        0.154,
        (0.00548, -0.000975, -0.115),
        (0.00108, 0.0011, 3.29e-05, 3.4e-07, 1.72e-05, 8.28e-06),
    ),
    "foot": (0.04, (0.0, 0.0, 0.0), (9.6e-06, 9.6e-06, 9.6e-06, 0.0, 0.0, 0.0)),
}
LIMITS = {  # lower, upper (rad), torque (N m), velocity (rad/s)
    "F_hip": (-1.0472, 1.0472, 23.7, 30.1),
    "R_hip": (-1.0472, 1.0472, 23.7, 30.1),
    "F_thigh": (-1.5708, 3.4907, 23.7, 30.1),
    "R_thigh": (-0.5236, 4.5379, 23.7, 30.1),
    "F_calf": (-2.7227, -0.83776, 45.43, 15.70),
    "R_calf": (-2.7227, -0.83776, 45.43, 15.70),
}


def joint_names(legs):
    return tuple(f"{leg}_{part}_joint" for leg in legs for part in ("hip", "thigh", "calf"))


def tensor_of(numbers):
    xx, yy, zz, xy, xz, yz = numbers
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def numbers_of(link):
    return (link.mass, link.com, link.inertia)


# ---- the robot -----------------------------------------------------------------------------------


def test_names_and_orders():
    assert r.LEGS == LEGS
    assert r.SEGMENTS == ("hip", "thigh", "calf")
    assert joint_names(LEGS) == r.JOINT_NAMES
    assert joint_names(("FR", "FL", "RR", "RL")) == r.SDK_JOINT_NAMES
    bodies = ["base"] + [f"{leg}_{part}" for leg in LEGS for part in ("thigh", "calf")]
    assert tuple(bodies) == r.CONTACT_BODIES


def test_published_links():
    assert numbers_of(r.BASE) == PUBLISHED["base"]
    assert numbers_of(r.FOOT) == PUBLISHED["foot"]
    for part in ("hip", "thigh", "calf"):
        assert numbers_of(r.link_inertial("FL", part)) == PUBLISHED[part]


def test_masses_sum_to_the_published_total():
    legs = sum(r.link_inertial(leg, part).mass for leg in LEGS for part in r.SEGMENTS)
    assert r.TOTAL_MASS == 15.02
    assert r.BASE.mass + legs + 4 * r.FOOT.mass == pytest.approx(15.02, abs=0.05)


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("part", ["hip", "thigh", "calf"])
def test_links_of_other_legs_are_seen_in_mirrors(leg, part):
    # Right links are mirrored in y = 0, rear hips in x = 0 as well; rear thighs and calves are not.
    x = -1.0 if leg[0] == "R" and part == "hip" else 1.0
    y = -1.0 if leg[1] == "R" else 1.0
    mass, com, inertia = PUBLISHED[part]
    mirror = np.diag([x, y, 1.0])
    found = r.link_inertial(leg, part)
    assert found.mass == mass
    assert np.array(found.com) == pytest.approx(mirror @ com, abs=1e-12)
    assert found.matrix() == pytest.approx(mirror @ tensor_of(inertia) @ mirror, abs=1e-12)


@pytest.mark.parametrize("x", [False, True])
@pytest.mark.parametrize("y", [False, True])
def test_mirrored_inertial(x, y):
    link = r.Inertial(2.0, (0.1, 0.2, 0.3), (4.0, 5.0, 6.0, 0.7, 0.8, 0.9))
    mirror = np.diag([-1.0 if x else 1.0, -1.0 if y else 1.0, 1.0])
    found = link.mirrored(x=x, y=y)
    assert found.mass == 2.0
    assert np.array(found.com) == pytest.approx(mirror @ [0.1, 0.2, 0.3])
    assert found.matrix() == pytest.approx(mirror @ tensor_of(link.inertia) @ mirror)
    assert link.mirrored() == link


def test_inertia_tensor_is_laid_out_symmetrically():
    link = r.Inertial(1.0, (0.0, 0.0, 0.0), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    assert link.matrix().tolist() == [[1.0, 4.0, 5.0], [4.0, 2.0, 6.0], [5.0, 6.0, 3.0]]


def test_combined_links_by_points():
    """Two rigid bodies made of points: mass, centre and inertia of all points together."""
    rng = np.random.default_rng(0)

    def body(count):
        masses, places = rng.uniform(0.1, 1.0, count), rng.normal(size=(count, 3))
        return masses, places

    def inertial_of(masses, places):
        centre = masses @ places / masses.sum()
        d = places - centre
        tensor = sum(m * (v @ v * np.eye(3) - np.outer(v, v)) for m, v in zip(masses, d))
        xx, yy, zz = np.diag(tensor)
        products = (tensor[0, 1], tensor[0, 2], tensor[1, 2])
        return r.Inertial(masses.sum(), tuple(centre), (xx, yy, zz, *products))

    (ma, pa), (mb, pb), origin = body(5), body(4), (0.3, -0.7, 1.1)
    together = inertial_of(np.concatenate([ma, mb]), np.concatenate([pa, pb + np.array(origin)]))
    found = r.combine(inertial_of(ma, pa), inertial_of(mb, pb), origin)
    assert found.mass == pytest.approx(together.mass)
    assert found.com == pytest.approx(together.com)
    assert found.inertia == pytest.approx(together.inertia)


def test_lengths_places_and_shapes():
    assert (r.HIP_X, r.HIP_Y, r.THIGH_Y, r.LINK_LENGTH) == (0.1934, 0.0465, 0.0955, 0.213)
    assert r.FOOT_RADIUS == 0.022
    assert r.FOOT_OFFSET == (-0.002, 0.0, -0.213)  # the sphere is 2 mm behind the foot link
    assert r.IMU_POSITION == (-0.02557, 0.0, 0.04232)
    assert r.BASE_BOX == (0.3762, 0.0935, 0.114)
    assert r.HEAD_UPPER == {"radius": 0.05, "length": 0.09, "pos": (0.285, 0.0, 0.01)}
    assert r.HEAD_LOWER == {"radius": 0.047, "pos": (0.293, 0.0, -0.06)}
    assert r.HIP_CYLINDER == {"radius": 0.046, "length": 0.04, "y": 0.08}
    assert r.THIGH_BOX == (0.0245, 0.034, 0.213)
    assert r.CALF_CYLINDERS == (
        {"radius": 0.013, "length": 0.12, "pos": (0.01, 0.0, -0.06), "pitch": -0.2},
        {"radius": 0.011, "length": 0.065, "pos": (0.02, 0.0, -0.148), "pitch": 0.05},
    )
    assert (r.ARMATURE, r.FRICTION_LOSS) == (0.01, 0.2)


@pytest.mark.parametrize("leg", range(4))
def test_origins_of_hips_and_thighs(leg):
    assert r.hip_origin(LEGS[leg]) == tuple(ref.HIP_ORIGINS[leg])
    assert r.thigh_origin(LEGS[leg]) == tuple(ref.THIGH_ORIGINS[leg])


def test_joint_limits_are_the_published_ones():
    limits = [LIMITS[f"{name[0]}_{name.split('_')[1]}"] for name in joint_names(LEGS)]
    for name, expected in zip(joint_names(LEGS), limits):
        found = r.joint_limits(name)
        assert (found.lower, found.upper, found.torque, found.velocity) == expected
    assert tuple(zip(*limits)) == (
        r.LOWER_LIMITS,
        r.UPPER_LIMITS,
        r.TORQUE_LIMITS,
        r.VELOCITY_LIMITS,
    )


def test_an_unknown_joint_is_named_with_the_known_ones():
    message = "unknown Go2 joint 'FL_knee_joint', expected one of FL_hip_joint, .*, RR_calf_joint"
    with pytest.raises(KeyError, match=message):
        r.joint_limits("FL_knee_joint")


def test_default_pose_stands_at_its_nominal_height():
    # Hips 0.1 outwards, thighs 0.8 in front and 1.0 behind, calves -1.5.
    assert r.DEFAULT_JOINT_POSITIONS == ref.DEFAULT_POSE
    assert dict(zip(joint_names(LEGS), ref.DEFAULT_POSE)) == r.DEFAULT_POSE
    lowest = ref.feet_in_base(ref.DEFAULT_POSE)[:, 2].min()
    assert r.NOMINAL_BASE_HEIGHT == 0.33
    assert 0.022 - lowest == pytest.approx(0.33, abs=0.015)


def test_gains_and_timing():
    # docs/courses.md: kp 30, kd 0.7, 1.2 rad per unit action; 200 Hz physics, 50 Hz control.
    assert (r.KP, r.KD, r.ACTION_SCALE) == (30.0, 0.7, 1.2)
    assert (r.PHYSICS_DT, r.DECIMATION, r.CONTROL_DT) == (0.005, 4, 0.02)


# ---- contracts -----------------------------------------------------------------------------------


def test_go2_contract_field_by_field():
    contract = environment_contract()
    layout = contract.pop("observation")
    assert contract == {
        "contract_version": 1,
        "robot": "unitree_go2",
        "joint_names": list(joint_names(LEGS)),
        "default_joint_positions": list(ref.DEFAULT_POSE),
        "kp": [30.0] * 12,
        "kd": [0.7] * 12,
        "action_scale": [1.2] * 12,
        "action_clip": 1.0,
        "torque_limits": [23.7, 23.7, 45.43] * 4,
        "control_dt": 0.02,
    }
    assert (layout["frames"], layout["size"]) == (3, 265)
    sizes = {f["name"]: (f["size"], f["scale"]) for f in layout["fields"]}
    assert sizes["joint_velocity@-2"] == (12, 0.05)
    assert sizes["height_scan"] == (85, 2.5)
    assert json.loads(json.dumps(environment_contract())) == environment_contract()


# Safety-Gymnasium's tasks of the paper: version, number of observations.
SAFETY = {
    "CarButton1": (0, 88),
    "CarButton2": (0, 88),
    "CarGoal1": (0, 72),
    "CarGoal2": (0, 72),
    "CarPush1": (0, 88),
    "CarPush2": (0, 88),
    "AntVelocity": (1, 27),
    "HalfCheetahVelocity": (1, 17),
    "SwimmerVelocity": (1, 8),
}
STEPS = {
    "Car": 0.04,
    "Ant": 0.05,
    "HalfCheetah": 0.05,
    "Swimmer": 0.04,
}  # s, of Safety-Gymnasium's models


@pytest.mark.parametrize("name", sorted(SAFETY))
def test_safety_gymnasium_contracts(name):
    version, size = SAFETY[name]
    robot = re.match("Car|Ant|HalfCheetah|Swimmer", name).group()
    assert contracts.contract_for(f"go2_sevpo/Safety{name}-v{version}") == {
        "contract_version": 1,
        "robot": robot,
        "environment": f"go2_sevpo/Safety{name}-v{version}",
        "control_dt": STEPS[robot],
        "action_clip": 1.0,
        "observation": {"name": f"Safety{name}-v{version}", "size": size},
    }


def test_reach_avoid_contract():
    assert contracts.contract_for("go2_sevpo/ReachAvoid-v0") == {
        "contract_version": 1,
        "robot": "reach_avoid_vehicle",
        "control_dt": 0.05,
        "action_clip": 1.0,
        "action_names": ["acceleration", "angular_velocity"],
        "observation": {"names": ["x", "y", "v", "cos_theta", "sin_theta"], "size": 5},
    }


def test_no_name_means_the_go2():
    assert contracts.GO2 == "go2_sevpo/Go2Parkour-v0"
    for name in (None, "", "go2_sevpo/Go2Parkour-v0"):
        assert contracts.contract_for(name) == environment_contract()


def test_every_environment_has_a_contract_and_others_are_refused():
    names = {f"go2_sevpo/Safety{k}-v{v}" for k, (v, _) in SAFETY.items()}
    assert set(contracts.CONTRACTS) == names | {
        "go2_sevpo/Go2Parkour-v0",
        "go2_sevpo/Go2Parkour-v2",
        "go2_sevpo/ReachAvoid-v0",
    }
    message = (
        "^no contract for environment 'go2_sevpo/Other-v0', expected one of "
        "go2_sevpo/Go2Parkour-v0, go2_sevpo/Go2Parkour-v2, go2_sevpo/ReachAvoid-v0,"
        " go2_sevpo/SafetyCarButton1-v0, .*SafetySwimmerVelocity-v1$"
    )
    with pytest.raises(ContractError, match=message):
        contracts.contract_for("go2_sevpo/Other-v0")
