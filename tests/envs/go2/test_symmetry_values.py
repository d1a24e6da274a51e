"""The mirror against physics: a mirrored robot on a mirrored course senses the mirrored numbers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from go2_sevpo.envs.go2 import symmetry
from go2_sevpo.envs.go2.description.geometry import foot_positions
from go2_sevpo.envs.go2.description.terrain import TerrainMaps
from go2_sevpo.envs.go2.observations import frame, map_fields, sense
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.simulators.base import Dynamics
from tests.envs.go2 import reference as ref

DEFAULT = torch.tensor(ref.DEFAULT_POSE)
OTHER_SIDE = [1, 0, 3, 2]  # FL FR RL RR to FR FL RR RL
Y = np.array([1.0, -1.0, 1.0])


def mirrored_legs(numbers):
    """Joint numbers (..., 12) in the mirror: legs change sides, hips turn the other way."""
    legs = np.asarray(numbers).reshape(-1, 4, 3)[:, OTHER_SIDE] * [-1.0, 1.0, 1.0]
    return legs.reshape(np.shape(numbers))


def a_robot(seed):
    rng = np.random.default_rng(seed)
    return {
        "position": np.array([0.4, 0.13, 0.3]) + rng.uniform(-0.2, 0.2, 3),
        "angles": rng.uniform(-0.4, 0.4, 3) + [0.0, 0.0, 1.3],
        "linear": rng.normal(size=3),
        "angular": rng.normal(size=3),
        "joints": np.array(ref.DEFAULT_POSE) + rng.uniform(-0.4, 0.4, 12),
        "rates": rng.uniform(-9, 9, 12),
        "forces": np.array([30.0, 0.5, 1.0, 55.0])[rng.permutation(4)],
        "action": rng.uniform(-1, 1, 12),
    }


def reflect(robot):
    """The same robot seen in a mirror that stands in the plane y = 0."""
    return {
        "position": robot["position"] * Y,
        "angles": robot["angles"] * [-1.0, 1.0, -1.0],  # roll, pitch, yaw
        "linear": robot["linear"] * Y,
        "angular": -robot["angular"] * Y,  # an axial vector
        "joints": mirrored_legs(robot["joints"]),
        "rates": mirrored_legs(robot["rates"]),
        "forces": robot["forces"][OTHER_SIDE],
        "action": mirrored_legs(robot["action"]),
    }


def state_of(robot):
    return ref.make_state(
        base_position=[robot["position"]],
        base_quaternion=[ref.quaternion(*robot["angles"])],
        base_linear_velocity=[robot["linear"]],
        base_angular_velocity=[robot["angular"]],
        joint_position=[robot["joints"]],
        joint_velocity=[robot["rates"]],
        foot_force=[robot["forces"]],
    )


@pytest.fixture(scope="module")
def maps():
    """A course without any symmetry, and its mirror image."""
    return TerrainMaps([ref.uneven_course(), ref.uneven_course(mirrored=True)], torch.device("cpu"))


def observe(robots, course, maps, targets):
    """265 numbers: the frames of three robots, newest first, and the map around the newest."""
    courses = torch.tensor([course])
    parts = []
    for robot in robots:
        state = state_of(robot)
        action = torch.tensor(robot["action"], dtype=torch.float32)[None]
        parts.append(frame(state, sense(state, courses, maps), action, DEFAULT))
    state = state_of(robots[0])
    ways = torch.tensor(np.array([targets]), dtype=torch.float32)
    parts.append(map_fields(state, sense(state, courses, maps), ways, torch.tensor([[0.013]])))
    return torch.cat(parts, dim=1)[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_mirrored_robot_on_the_mirrored_course_senses_the_mirrored_observation(maps, seed):
    robots = [a_robot(10 * seed + k) for k in range(3)]
    targets = np.array([[1.1, 0.9, 0.2], [0.2, -0.7, 0.0]])
    plain = observe(robots, 0, maps, targets)
    mirror = observe([reflect(x) for x in robots], 1, maps, targets * Y)
    index, sign = symmetry.observation_mirror()
    assert_close(plain[index] * sign, mirror, atol=3e-5, rtol=1e-5)
    assert_close(mirror[index] * sign, plain, atol=3e-5, rtol=1e-5)
    # Nothing is alike on both sides, so that every number was put to the test.
    changed = (plain - mirror).abs() > 1e-4
    assert changed[138:144].sum() == 2  # the sines of the bearings
    assert changed[144:229].sum() > 20
    assert changed[229:].sum() > 20
    assert changed[:46].sum() > 35


def test_mirrors_of_single_fields_as_they_are_made():
    assert symmetry._joints() == ([3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8], [-1.0, 1.0, 1.0] * 4)
    # The scan runs from right to left within each of its 17 rows.
    assert symmetry._scan() == (
        [5 * row + k for row in range(17) for k in (4, 3, 2, 1, 0)],
        [1.0] * 85,
    )
    # Under the foot, ahead, left, behind, right at 6 and at 12 cm: left and right change places.
    ring = (0, 1, 4, 3, 2, 5, 8, 7, 6)
    assert symmetry._foot_heights() == (
        [9 * leg + k for leg in OTHER_SIDE for k in ring],
        [1.0] * 36,
    )


def test_observation_mirror_by_index():
    index, sign = symmetry.observation_mirror()
    legs = [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
    one_frame = [0, 1, 2, 3, 4, 5]
    one_frame += [start + k for start in (6, 18, 30) for k in legs] + [43, 42, 45, 44]
    expected = [46 * t + k for t in range(3) for k in one_frame] + list(range(138, 144))
    expected += [144 + 5 * row + k for row in range(17) for k in (4, 3, 2, 1, 0)]
    ring = (0, 1, 4, 3, 2, 5, 8, 7, 6)  # left and right change places at 6 and at 12 cm
    expected += [229 + 9 * leg + k for leg in OTHER_SIDE for k in ring]
    assert index.tolist() == expected
    hips = [-1.0, 1.0, 1.0] * 4
    signs = ([-1.0, 1.0, -1.0] + [1.0, -1.0, 1.0] + hips * 3 + [1.0] * 4) * 3
    signs += [1.0, -1.0, 1.0] * 2 + [1.0] * 121
    assert sign.tolist() == signs
    assert index.dtype == torch.int64


def test_action_mirror_by_index_and_by_where_the_feet_go():
    index, sign = symmetry.action_mirror()
    assert index.tolist() == [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
    assert sign.tolist() == [-1.0, 1.0, 1.0] * 4
    action = torch.tensor(np.random.default_rng(4).uniform(-1, 1, 12), dtype=torch.float32)
    # Targets are 1.2 rad per unit around the default pose; sides change places, y changes sign.
    feet = foot_positions((DEFAULT + 1.2 * action)[None])[0]
    mirror = foot_positions((DEFAULT + 1.2 * action[index] * sign)[None])[0]
    assert_close(mirror, feet[OTHER_SIDE] * torch.tensor([1.0, -1.0, 1.0]), atol=1e-6, rtol=1e-5)


def privileged(robot, course, maps):
    """What the environment gives a critic, without a simulator."""
    state = state_of(robot)
    world = SimpleNamespace(
        view=None,
        _state=state,
        _sensed=sense(state, torch.tensor([course]), maps),
        max_episode_length=1000,
        dynamics=Dynamics(torch.tensor([1.1]), torch.tensor([0.7]), torch.tensor([0.95])),
        delay=torch.tensor([0.004]),
        episode_length=torch.tensor([300]),
        kind_ids=torch.tensor([0]),
    )
    return Go2Parkour.privileged(world)[0]


def test_privileged_mirror_by_index_and_by_a_mirrored_robot(maps):
    index, sign = symmetry.privileged_mirror()
    assert index.tolist() == [0, 1, 2, 4, 3, 6, 5, 7, 8, 9, 10, 11, 12, 13]
    assert sign.tolist() == [1.0, -1.0] + [1.0] * 12
    robot = a_robot(8)
    plain, mirror = privileged(robot, 0, maps), privileged(reflect(robot), 1, maps)
    assert_close(plain[index] * sign, mirror, atol=1e-5, rtol=1e-5)
    assert plain[1].abs() > 0.1
    assert (plain[3:7] != mirror[3:7]).all()


def test_privileged_numbers_by_hand(maps):
    robot = {**a_robot(8), "position": np.array([0.763, -0.058, 0.31])}  # above the second slab
    found = privileged(robot, 0, maps).tolist()
    x, y, z = robot["position"]
    expected = (ref.rotation(*robot["angles"]).T @ robot["linear"]).tolist()
    expected += (robot["forces"] / 100).tolist()
    below = ref.surface(ref.uneven_course(), *ref.centre_of(*ref.cell_of(x, y)))
    expected += [1.1, 0.35, 0.95, 0.2, z - below, 0.7, 1.0]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "mirror",
    [symmetry.observation_mirror, symmetry.action_mirror, symmetry.privileged_mirror],
)
def test_mirroring_twice_is_nothing(mirror):
    index, sign = mirror()
    numbers = torch.arange(1.0, 1.0 + len(index))
    once = numbers[index] * sign
    assert_close(once[index] * sign, numbers)
