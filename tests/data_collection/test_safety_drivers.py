"""Drivers of the Button and Push tasks and Ant's gait: what they see, do and pay."""

import functools
import importlib.util

import numpy as np
import pytest

from go2_sevpo.data_collection.safety_gymnasium import drivers
from go2_sevpo.data_collection.safety_gymnasium.controllers import BIN_WAYS, rollout
from go2_sevpo.data_collection.safety_gymnasium.drivers import (
    DRIVERS,
    ButtonDriver,
    PushDriver,
    nearer,
    place,
)
from go2_sevpo.data_collection.safety_gymnasium.gait import START, Gait, gait_search, random_gait
from go2_sevpo.envs.safety_gymnasium.quick import pseudo_lidar
from go2_sevpo.envs.safety_gymnasium.tasks import TASKS

if importlib.util.find_spec("safety_gymnasium") is None:
    pytest.skip("Safety-Gymnasium is not installed", allow_module_level=True)


def seen(*points):
    """A lidar's 16 readings of points (m) around a body that stands upright at the origin."""
    away = np.array(points, dtype=float).reshape(-1, 2)
    return pseudo_lidar(away, np.zeros(3), np.eye(3), 16, 3.0)


def observed(**lidars):
    """An observation with four lidars of points, in the order given; empty ones see nothing."""
    parts = [np.zeros(24)] + [seen(*p) if p else np.zeros(16) for p in lidars.values()]
    return np.concatenate(parts)


def ahead(driver, obs):
    """The way a driver wants to go before it goes around things, of length 1."""
    way = driver.senses(obs)[0]
    return way / np.linalg.norm(way)


@pytest.mark.parametrize("angle", np.linspace(0.01, 6.27, 12))
def test_a_single_thing_is_found_where_it_is(angle):
    point = 1.7 * np.array([np.cos(angle), np.sin(angle)])
    np.testing.assert_allclose(place(seen(point)), point, atol=1e-9)
    assert not place(np.zeros(16)).any()


def test_things_look_nearer_and_empty_bins_stay_empty():
    lidar = seen((0.1, 2.0))
    shifted = nearer(lidar, 0.3)
    assert (shifted[lidar > 0] - lidar[lidar > 0]).tolist() == pytest.approx([0.1] * 3)
    assert not shifted[lidar == 0].any()
    assert nearer(seen((0.0, 0.1)), 1.0).max() == 1.0


def test_a_wrong_button_is_in_the_way_and_the_right_one_is_not():
    driver = ButtonDriver(0.5)
    obs = observed(buttons=[(0, -1.0), (1.0, 0)], goal=[(0, -1.0)], hazards=[], gremlins=[])
    way, _, solid = driver.senses(obs)
    assert (way / np.linalg.norm(way)) @ (0, -1) > 0.9
    assert solid[BIN_WAYS @ (1.0, 0.0) > 0.9].any()
    assert not solid[BIN_WAYS @ (0.0, -1.0) > 0.9].any()


def test_gremlins_are_kept_farther_away_from_than_hazards():
    driver = ButtonDriver(0.5)
    points = {"buttons": [], "goal": [(0, -2.0)], "hazards": [], "gremlins": []}
    hazard = driver.senses(observed(**{**points, "hazards": [(1.0, 0)]}))[1]
    gremlin = driver.senses(observed(**{**points, "gremlins": [(1.0, 0)]}))[1]
    assert gremlin.max() - hazard.max() == pytest.approx(drivers.GREMLIN / 3.0)


def test_the_box_is_pushed_from_behind_and_driven_around_from_before():
    driver = PushDriver(0.0)

    def way(box, goal):
        return ahead(driver, observed(goal=[goal], hazards=[], pillars=[], box=[box]))

    # Behind the box, goal beyond it: straight on.
    assert way((0, -0.4), (0, -2.0)) @ (0, -1) == pytest.approx(1.0, abs=0.05)
    # Beside the box: back along the push's line, to get behind it.
    assert way((0.4, 0), (0.4, -2.0)) @ (0, 1) > 0.9
    # Between box and goal: not into the box.
    assert way((0, 0.4), (0, -2.0)) @ (0, 1) < 0.1
    # From afar: to the place behind the box.
    assert way((2.0, 0), (2.0, -1.0)) @ (2.0, drivers.BEHIND) > 0.99 * np.hypot(2.0, 0.35)
    # Where the goal is out of sight nothing is pushed.
    unseen = observed(goal=[], hazards=[], pillars=[], box=[(0, -0.4)])
    assert ahead(driver, unseen) @ (0, -1) < 0.99


def test_every_navigation_task_has_drivers_from_careless_to_careful():
    assert sorted(DRIVERS) == sorted(name for name, task in TASKS.items() if task.lidar)
    for make in DRIVERS.values():
        drawn = [make(np.random.default_rng(k)) for k in range(60)]
        ignored = np.mean([d.margin <= d.radius for d in drawn])
        assert 0.05 < ignored < 0.8
        assert make(np.random.default_rng(3)) == make(np.random.default_rng(3))


def played(task, driver, seeds, steps=1000):
    from go2_sevpo.envs.safety_gymnasium.environment import make

    env, rng = make(task), np.random.default_rng(0)
    rows = [rollout(env, lambda o: driver.act(o, rng), seed, steps)[:2] for seed in seeds]
    return np.mean(rows, axis=0)


@pytest.mark.slow
def test_buttons_are_pressed_and_care_lowers_what_it_costs():
    careless = played("CarButton1", ButtonDriver(0.1, 0.8, 0.1), range(1000, 1004))
    careful = played("CarButton1", ButtonDriver(1.0, 0.8, 0.1), range(1000, 1004))
    assert careless[0] > 5 and careless[1] > 20
    assert careful[1] < 0.8 * careless[1]


@pytest.mark.slow
def test_boxes_are_pushed_to_goals():
    assert played("CarPush1", PushDriver(0.0, 0.9, 0.1), range(1000, 1004))[0] > 4


def test_a_gait_walks_ahead_and_its_clock_is_its_own():
    gait, quiet = Gait(START.copy()), np.random.default_rng(0)
    first, _, rows = played_gait(gait, quiet)
    assert first > 150 + 50, "more than standing for 150 steps"
    again, _, same = played_gait(Gait(START.copy()), quiet)
    assert (first, len(rows)) == (again, len(same))
    assert gait.time == pytest.approx(150 * 0.05)


def played_gait(gait, rng):
    from go2_sevpo.envs.safety_gymnasium.environment import make

    return rollout(make("AntVelocity"), functools.partial(gait.act, rng=rng), 5, 150)


@pytest.mark.slow
def test_the_search_makes_gaits_faster_and_repeats():
    quiet = {"say": lambda _: None}
    found = gait_search(3, 0, 2, population=8, best=3, steps=100, keep=3, **quiet)
    again = gait_search(3, 0, 1, population=8, best=3, steps=100, keep=3, **quiet)
    assert [g.numbers.tolist() for g in found] == [g.numbers.tolist() for g in again]
    drawn = [random_gait(np.random.default_rng(k), found) for k in range(20)]
    assert len({d.pace for d in drawn}) == 20
    assert all(0.7 <= d.pace <= 1.15 and 0 <= d.noise <= 0.2 for d in drawn)


def test_ants_first_quaternion_has_length_1():
    from go2_sevpo.envs.safety_gymnasium.environment import make

    env = make("AntVelocity")
    for seed in range(5):
        obs = env.reset(seed=seed)[0]
        assert np.linalg.norm(obs[1:5]) == pytest.approx(1.0, abs=1e-6)
