"""What a preset's section says beside an algorithm's settings, and for which task."""

import json

import pytest

from go2_sevpo.envs.safety_gymnasium.tasks import find_task
from go2_sevpo.offline_training.train import Args, preset_of, reward_scale_of, settings_of, task_of

TEXT = """
cpq-osrl:
  steps: 7
  reward_scale: 0.5
  until_settled: true
  safety_gymnasium: {reward_scale: 0.1, batch: 3}
  lidar: {batch: 4, choice: escape}
  tasks: {SwimmerVelocity: {reward_scale: 0.01}, CarGoal1: {batch: 5}}
bc-osrl: {steps: 9}
"""


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(TEXT)
    return str(path)


def data_of(folder, task):
    """A file that is of a task by the JSON beside it."""
    path = folder / f"{task}.hdf5"
    path.write_bytes(b"")
    path.with_suffix(".json").write_text(json.dumps({"task": task}))
    return path


@pytest.mark.parametrize(
    "task, scale, batch",
    [
        (None, 0.5, 512),
        ("HalfCheetahVelocity", 0.1, 3),
        ("SwimmerVelocity", 0.01, 3),
        ("CarGoal2", 0.1, 4),
        ("CarGoal1", 0.1, 5),
    ],
)
def test_narrower_parts_lie_over_wider_ones(preset, tmp_path, task, scale, batch):
    paths = () if task is None else (data_of(tmp_path, task),)
    args = Args(paths, tmp_path / "out", algorithm="cpq-osrl", preset=preset)
    assert reward_scale_of(args) == scale
    values = settings_of(args)
    assert values["steps"] == 7 and values.get("batch", 512) == batch
    assert ("choice" in values) == (task is not None and task.startswith("Car"))
    # Parts and what concerns the training are no settings of the algorithm.
    assert not {"lidar", "tasks", "safety_gymnasium", "reward_scale", "until_settled"} & set(values)


def test_what_is_asked_for_overrules_the_preset(preset, tmp_path):
    args = Args((), tmp_path, algorithm="cpq-osrl", preset=preset, reward_scale=3.0)
    assert reward_scale_of(args) == 3.0
    assert reward_scale_of(Args((), tmp_path, algorithm="bc-osrl", preset=preset)) == 1.0


def test_names_that_fix_their_data_have_the_section_of_the_plain_ones(preset, tmp_path):
    assert preset_of(preset, "bc-safe-osrl", None) == {"steps": 9}
    with pytest.raises(ValueError, match="no settings for bc, only for cpq-osrl, bc-osrl"):
        preset_of(preset, "bc-safe", None)
    with pytest.raises(ValueError, match="no preset 'none'"):
        preset_of("none", "bc", None)


def test_published_scales(tmp_path):
    for name in ("cpq-osrl", "coptidice-osrl", "bcq-lag", "bear-lag", "ccac-osrl"):
        for preset in ("safety", "paper"):
            found = preset_of(preset, name, find_task("CarGoal1"))
            assert found["reward_scale"] == 0.1, (name, preset)
    assert preset_of("paper", "ccac-osrl", find_task("SwimmerVelocity"))["reward_scale"] == 0.01
    for name in ("sevpo", "fisor"):
        assert preset_of("paper", name, find_task("CarGoal1"))["reward_scale"] == 0
        assert "reward_scale" not in preset_of("paper", name, None)


def test_the_task_is_that_of_the_first_file_that_says_so(tmp_path):
    unknown = tmp_path / "x.hdf5"
    unknown.write_bytes(b"")
    assert task_of((unknown, data_of(tmp_path, "CarPush1"))) is find_task("CarPush1")
    assert task_of((unknown,)) is None
