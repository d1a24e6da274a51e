"""The quick forms of Safety-Gymnasium's steps against the package's own.

The package runs unchanged in a process of its own; observations, rewards and costs of the same
seeds and actions must be the same numbers.
"""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from go2_sevpo.envs.safety_gymnasium.environment import make

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("safety_gymnasium") is None, reason="Safety-Gymnasium is not installed"
)

NAVIGATION = ("CarGoal1", "CarGoal2", "CarButton1", "CarButton2", "CarPush1", "CarPush2")
PARTS = ("gremlins", "buttons", "vases_contact")
PLAIN = """
import sys
from go2_sevpo.envs.safety_gymnasium import environment
environment.quicken_steps = lambda: None
from tests.envs.test_safety_quick import trace
import numpy as np, json
np.savez(sys.argv[1], **trace(*json.loads(sys.argv[2])))
"""


def trace(tasks, seeds, steps):
    """What is observed, earned and paid by a car that drives about and bumps into things."""
    found = {}
    for task in tasks:
        env = make(task)
        rows = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            obs, _ = env.reset(seed=seed)
            for k in range(steps):
                ahead = rng.normal([0.8, 0.7], 0.5)
                action = np.clip(ahead, -1, 1) if k // 40 % 2 else rng.uniform(-1, 1, 2)
                obs, reward, _, _, info = env.step(action)
                parts = [
                    info.get(f"cost_{c}", 0.0) for c in ("gremlins", "buttons", "vases_contact")
                ]
                rows.append(np.concatenate([obs, [reward, info["cost"], *parts]]))
        found[task] = np.array(rows)
    return found


def compare(tmp_path, tasks, seeds, steps):
    work = (list(tasks), list(seeds), steps)
    path = tmp_path / "plain.npz"
    subprocess.run([sys.executable, "-c", PLAIN, str(path), json.dumps(work)], check=True)
    ours = trace(*work)
    with np.load(path) as theirs:
        for task in tasks:
            np.testing.assert_array_equal(ours[task], theirs[task], err_msg=task)
    return ours


def test_moving_and_displaced_things_are_seen_and_charged_as_the_package_does(tmp_path):
    found = compare(tmp_path, ["CarButton2", "CarGoal2"], [0], 80)
    assert all(rows.shape == (80, size + 5) for rows, size in zip(found.values(), (88, 72)))


@pytest.mark.slow
def test_all_navigation_tasks(tmp_path):
    found = compare(tmp_path, NAVIGATION, range(3), 300)
    charged = [task for task, rows in found.items() if 0 < rows[:, -4].sum() < 900]
    assert len(charged) >= len(found) / 2, charged  # or equal costs would say little
    assert any(found[t][:, -3].any() for t in ("CarButton1", "CarButton2")), "a gremlin is touched"
    assert any(found[t][:, -2].any() for t in ("CarButton1", "CarButton2")), "a wrong button, too"
    assert found["CarGoal2"][:, -1].any(), "and a vase"
