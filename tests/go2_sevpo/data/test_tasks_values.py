"""The nine Safety-Gymnasium tasks by DSRL's published constants (Liu et al.

2024, dsrl/infos.py, files' names).
"""

import json

import pytest

from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.safety_gymnasium import tasks
from go2_sevpo.envs.safety_gymnasium.tasks import TASKS, find_task, task_of_file

# Name: version, observation and action sizes, least and greatest return, greatest episode cost,
# trajectories; then the safe transitions of the SEVPO paper's Table 6.
PUBLISHED = {
    "CarButton1": (0, 88, 2, 0.0028926206826067613, 44.420003345738984, 250, 2656, 1600000),
    "CarButton2": (0, 88, 2, 0.001767391717990563, 41.99513815522894, 300, 3755, 1600000),
    "CarGoal1": (0, 72, 2, 0.012232819540852091, 39.907809198384705, 120, 1671, 560000),
    "CarGoal2": (0, 72, 2, 0.001032874531954775, 28.902897990056502, 200, 4105, 1600000),
    "CarPush1": (0, 88, 2, 0.013700173533941762, 16.304467598905237, 200, 2871, 1200000),
    "CarPush2": (0, 88, 2, 0.00029391133526335267, 15.141648491514314, 250, 4407, 1600000),
    "AntVelocity": (1, 27, 8, 6.1519012451171875, 2976.276611328125, 250, 2249, 1600000),
    "HalfCheetahVelocity": (1, 17, 6, 5.7509765625, 2806.93310546875, 250, 2495, 1600000),
    "SwimmerVelocity": (1, 8, 2, 0.07114458084106445, 238.95831298828125, 200, 1686, 1200000),
}


def test_tasks_are_the_papers_nine_in_its_order():
    assert list(TASKS) == list(PUBLISHED)
    assert tasks.EPISODE_STEPS == 1000
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_constants_of_a_task(name):
    t = TASKS[name]
    assert (
        t.version,
        t.num_obs,
        t.num_actions,
        t.return_min,
        t.return_max,
        t.max_cost,
        t.trajectories,
        t.safe_samples,
    ) == PUBLISHED[name]


def test_names_of_files_and_environments():
    car, ant = TASKS["CarGoal1"], TASKS["AntVelocity"]
    assert car.file_name == "SafetyCarGoal1Gymnasium-v0-120-1671.hdf5"
    assert ant.file_name == "SafetyAntVelocityGymnasium-v1-250-2249.hdf5"
    assert car.env_id == "SafetyCarGoal1-v0" and ant.env_id == "SafetyAntVelocity-v1"
    assert car.registered_id == "go2_sevpo/SafetyCarGoal1-v0"
    assert ant.registered_id == "go2_sevpo/SafetyAntVelocity-v1"
    assert car.offline_id == "OfflineCarGoal1Gymnasium-v0"
    assert ant.offline_id == "OfflineAntVelocityGymnasium-v1"


def test_lidars_follow_the_cars_24_sensor_numbers():
    # accelerometer, velocimeter, gyro, magnetometer, rear wheel's velocity (3 each) and rotation
    # (9)
    for name, task in TASKS.items():
        assert task.lidar == (5 * 3 + 9 if "Car" in name else None)
        if task.lidar is not None:
            lidars = 4 if name[3:-1] in ("Button", "Push") else 3
            assert task.num_obs == 24 + 16 * lidars


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("CarGoal1", 0.012232819540852091, 0.0),
        ("CarGoal1", 39.907809198384705, 1.0),
        ("CarGoal1", 0.0, -0.012232819540852091 / 39.89557637884385),
        ("HalfCheetahVelocity", 2806.93310546875 + 0.5 * 2801.18212890625, 1.5),  # not clipped
        ("SwimmerVelocity", 119.514728784561155, 0.5),
    ],
)
def test_normalised_return_is_the_share_of_the_published_range(name, value, expected):
    assert TASKS[name].normalised_return(value) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_task_is_found_by_each_of_its_names():
    for task in TASKS.values():
        for name in (task.name, task.env_id, task.offline_id, task.file_name):
            assert find_task(name) is task
    for wrong in ("go2_sevpo/SafetyCarGoal1-v0", "cargoal1", ""):
        with pytest.raises(
            DatasetError,
            match=f"^unknown task '{wrong}', expected one of CarButton1, CarButton2, "
            f"CarGoal1, CarGoal2, "
            "CarPush1, CarPush2, AntVelocity, HalfCheetahVelocity, SwimmerVelocity$",
        ):
            find_task(wrong)


def test_a_files_task_is_what_stands_beside_it_or_its_name(tmp_path):
    named = tmp_path / "SafetyCarPush1Gymnasium-v0-200-2871.hdf5"
    assert task_of_file(named) is TASKS["CarPush1"]
    assert (
        task_of_file(tmp_path / "SafetySwimmerVelocityGymnasium-v1-mine.hdf5").name
        == "SwimmerVelocity"
    )
    for other in (
        "SafetyCarPush1Gymnasium-v1-200.hdf5",  # another version
        "SafetyCarPush1Gymnasium-v0.hdf5",
        "my-SafetyCarPush1Gymnasium-v0-200-2871.hdf5",
        "mix.hdf5",
    ):
        assert task_of_file(tmp_path / other) is None
    beside = named.with_suffix(".json")
    beside.write_text(json.dumps({"task": "AntVelocity"}), encoding="utf-8")
    assert task_of_file(named) is TASKS["AntVelocity"]
    mix = tmp_path / "mix.json"
    mix.write_text(json.dumps({"task": "CarGoal2"}), encoding="utf-8")
    assert task_of_file(tmp_path / "mix.hdf5") is TASKS["CarGoal2"]
    # What stands beside it decides even if it names no task, is a list, or no JSON at all.
    for text in ('{"task": "CarRun"}', "{}", "[]", "no json"):
        beside.write_text(text, encoding="utf-8")
        assert task_of_file(named) is None
