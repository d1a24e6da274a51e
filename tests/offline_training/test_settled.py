"""When a training may end before its published number of steps."""

import pytest

from go2_sevpo.envs.safety_gymnasium.tasks import find_task
from go2_sevpo.offline_training.evaluation.best import CURVE
from go2_sevpo.offline_training.evaluation.settled import settled
from go2_sevpo.runs.csv_log import append_row

TASK = find_task("CarGoal1")
SPAN = TASK.return_max - TASK.return_min


def write(folder, returns, costs=None, members=2):
    for k, value in enumerate(returns):
        for member in range(members):
            # Members differ, their mean is what is given.
            row = {"step": 100 * (k + 1), "member": member, "return": value + (-1) ** member}
            append_row(folder / CURVE, {**row, "cost": 5.0 if costs is None else costs[k]})


@pytest.mark.parametrize(
    "change, expected", [(0.0, True), (0.019, True), (0.021, False), (-0.021, False)]
)
def test_the_return_must_rest(tmp_path, change, expected):
    write(tmp_path, [9.0] * 3 + [5.0] * 5 + [5.0 + change * SPAN] * 5)
    assert settled(tmp_path, TASK, 10.0) is expected


@pytest.mark.parametrize(
    "limit, change, expected", [(10, 2.4, True), (10, 2.6, False), (0, 1, False)]
)
def test_the_cost_must_rest_too(tmp_path, limit, change, expected):
    write(tmp_path, [5.0] * 10, [5.0] * 5 + [5.0 + change] * 5)
    assert settled(tmp_path, TASK, limit) is expected


def test_single_evaluations_may_differ(tmp_path):
    write(tmp_path, [0.0, 10.0, 0.0, 10.0, 5.0] * 2)
    assert settled(tmp_path, TASK, 10.0)


def test_nothing_is_said_before_ten_evaluations(tmp_path):
    assert not settled(tmp_path, TASK, 10.0)
    write(tmp_path, [5.0] * 9)
    assert not settled(tmp_path, TASK, 10.0)
