"""Costs that see a fall: stage 1 on a chain of states, against its own dynamic programming."""

import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config, regions
from go2_sevpo.algorithms.conservative import ConservativeConfig, ConservativeCritics
from go2_sevpo.algorithms.selection import select
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.data.shards import Episodes
from tests.conftest import make_episodes

LENGTH = 6
"""States 0 .. 5 of the chain; from the last one the robot falls, or stands for ever."""
GAMMA, ALPHA, TAU = 0.9, 0.98, 0.9


def chain(falls=7, stops=2):
    """Episodes along the chain: ``falls`` step off its end, ``stops`` turn back to the start from
    state 2 and are cut by a time-out there.
    """
    columns = {
        k: [] for k in ("observations", "next_observations", "actions", "costs", "terminals")
    }
    table = {"length": [], "fall": [], "success": []}
    eye = np.eye(LENGTH + 1, dtype=np.float32)
    for number in range(falls + stops):
        is_fall = number < falls
        path = [*range(LENGTH), LENGTH] if is_fall else [0, 1, 2, 0]
        for k, (now, then) in enumerate(zip(path[:-1], path[1:])):
            columns["observations"].append(eye[now])
            columns["next_observations"].append(eye[then])
            columns["actions"].append([1.0 if then > now else -1.0])
            last = k == len(path) - 2
            columns["costs"].append(float(is_fall and last))
            columns["terminals"].append(float(is_fall and last))
        for key, value in zip(table, (len(path) - 1, is_fall, not is_fall)):
            table[key].append(int(value))
    found = {k: np.array(v, dtype=np.float32) for k, v in columns.items()}
    ends = np.zeros(len(found["costs"]), np.float32)
    ends[np.cumsum(table["length"]) - 1] = 1.0
    found.update(timeouts=ends - found["terminals"], rewards=np.zeros(len(ends), np.float32))
    episodes = {k: np.array(v) for k, v in table.items()}
    episodes.update({"return": 0.0 * episodes["length"], "cost": episodes["fall"].astype(float)})
    return OfflineDataset([Episodes(found, episodes)])


def solve(data, falls):
    """V_c and Q_c by iteration: Q_c = c + alpha gamma V_c(s'), V_c the expectile of its rows' Q_c.

    Written from Eqs. 6 and 7 alone; the expectile of numbers q is where the weighted mean rests.
    """
    state = [int(np.argmax(x)) for x in data_frames(data, data.first)]
    after = [int(np.argmax(x)) for x in data_frames(data, data.second)]
    cost, terminal = data.cost.numpy().copy(), data.terminal.numpy()
    discount = ALPHA * GAMMA
    if falls == "absorbing":
        # The fall's cost comes again on every step of eternity: a geometric series.
        cost = cost * np.where(terminal > 0, sum(discount**k for k in range(2000)), 1.0)
    value = np.zeros(LENGTH + 1)
    for _ in range(120):
        q = cost + discount * (1.0 - terminal) * value[after]
        for s in range(LENGTH):
            mine = q[[k for k, x in enumerate(state) if x == s]]
            m = mine.mean()
            for _ in range(15):
                w = np.where(mine > m, 1.0 - TAU, TAU)
                m = (w * mine).sum() / w.sum()
            value[s] = m
    return value[:LENGTH]


def data_frames(data, rows):
    return (data.frames[rows] * data.std + data.mean).numpy()


def learn(data, falls, steps=4000):
    torch.manual_seed(0)
    config = ConservativeConfig(
        gamma=GAMMA,
        alpha=ALPHA,
        tau=TAU,
        falls=falls,
        critic_hidden=(32,),
        critic_steps=steps,
        critic_batch=128,
        rate=2e-3,
        target_rate=0.05,
        critic_decay=True,
    )
    critics = ConservativeCritics(config, data)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        critics.update_conservative(data.sample(128, generator))
    return critics


def values_of(critics, data):
    states = torch.eye(LENGTH + 1)[:LENGTH]
    with torch.no_grad():
        return critics.v_c((states - data.mean) / data.std).numpy()


def test_by_dynamic_programming_an_absorbing_fall_warns_monotonically():
    data = chain()
    ending, absorbing = solve(data, "end"), solve(data, "absorbing")
    discount = ALPHA * GAMMA
    assert ending[LENGTH - 1] == pytest.approx(1.0)
    assert absorbing[LENGTH - 1] == pytest.approx(1.0 / (1.0 - discount))
    assert (np.diff(absorbing) > 0).all()
    # Ten times the cost of a step that only costs 1: no limit for both.
    assert absorbing[LENGTH - 1] > 8.0 * ending[LENGTH - 1]


@pytest.mark.slow
@pytest.mark.parametrize("falls", ["end", "absorbing"])
def test_stage_1_finds_what_dynamic_programming_finds(falls):
    data = chain()
    expected, found = solve(data, falls), values_of(learn(data, falls), data)
    scale = expected.max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=0.02)
    assert (np.diff(found[2:]) > 0).all()


def test_one_step_of_equation_7_counts_a_falls_last_step_for_ever():
    """The target of Q_c by hand, and only falls are multiplied."""
    data = chain(1, 1)
    critics = ConservativeCritics(
        ConservativeConfig(gamma=GAMMA, alpha=ALPHA, falls="absorbing"), data
    )
    assert data.fall.nonzero().flatten().tolist() == [LENGTH - 1]
    cost = torch.ones(len(data))
    seen = critics.seen_cost(cost, data.fall)
    expected = [1.0] * len(data)
    expected[LENGTH - 1] = 1.0 / (1.0 - ALPHA * GAMMA)
    assert seen.tolist() == pytest.approx(expected)
    plain = ConservativeCritics(ConservativeConfig(cost_scale=2.5), data)
    assert plain.seen_cost(cost, None).tolist() == [2.5] * len(data)


# The limit by false alarms


def test_the_limit_is_what_so_many_calm_steps_exceed():
    values = torch.arange(1000.0)[torch.randperm(1000)]
    assert regions.upper_quantile(values, 0.01).item() == 989.0  # ten are above
    assert regions.upper_quantile(values, 0.0).item() == 999.0
    both = regions.upper_quantile(torch.stack([values, 2 * values]), 0.1)
    assert both.tolist() == [899.0, 1798.0]


def test_calm_steps_are_those_behind_which_nobody_falls():
    data = OfflineDataset([make_episodes((5, 4, 3))])  # the first and the third fall
    for steps in (1, 2, 4, 100):
        expected = []
        for row, (left, falls) in enumerate(
            [(4 - k, True) for k in range(5)]
            + [(3 - k, False) for k in range(4)]
            + [(2 - k, True) for k in range(3)]
        ):
            if not falls or left >= steps:
                expected.append(row)
        assert data.calm_rows(steps).tolist() == expected


SMALL = {
    "critic_hidden": (8,),
    "critic_batch": 8,
    "critic_steps": 2,
    "policy_steps": 2,
    "actor": "mlp",
    "width": 8,
    "depth": 2,
    "actor_batch": 8,
    "actor_updates": 1,
    "unsafe_objective": "none",
    "b2": 0.0,
    "falls": "absorbing",
    "false_alarms": 0.1,
    "calm_steps": 3,
    "lookahead": 0,
}


@pytest.mark.parametrize("members", [None, 2])
def test_the_limit_is_settled_when_stage_2_begins_and_goes_into_the_checkpoint(dataset, members):
    config = make_config("sevpo", SMALL)
    algorithm = make_algorithm("sevpo", config, dataset, members)
    generator = torch.Generator().manual_seed(0)
    for step in range(2):
        algorithm.update("critics", step, dataset, generator)
    assert "limit" not in algorithm.state_dict() and algorithm.limit == 1.0
    # Every Q_c passes, so that something is left to draw.
    algorithm.q_c_target.layers[-1].bias.data.fill_(-1000.0)
    algorithm.update("policy", 0, dataset, generator)
    calm = dataset.calm_rows(3)
    for member in range(members or 1):
        with torch.no_grad():
            rows = calm if members is None else calm.expand(members, -1)
            values = algorithm.v_c(dataset.rows(rows).obs)
        mine = values if members is None else values[member]
        above = (mine > algorithm.limit_of(member)).sum().item()
        assert above == int(0.1 * len(calm))
        assert algorithm.policy(member=member).limit == pytest.approx(algorithm.limit_of(member))
    again = make_algorithm("sevpo", config, dataset, members)
    again.load_state_dict(algorithm.state_dict())
    assert [again.limit_of(k) for k in range(members or 1)] == [
        algorithm.limit_of(k) for k in range(members or 1)
    ]
    assert again.limit_settled


def test_data_without_calm_steps_say_so(dataset):
    config = make_config("sevpo", {**SMALL, "critic_steps": 0, "calm_steps": 100})
    only_falls = OfflineDataset([make_episodes((5, 6), fall_every=1)])
    algorithm = make_algorithm("sevpo", config, only_falls)
    with pytest.raises(ValueError, match="do not fall for 100 steps, found none; give a limit"):
        algorithm.settle_limit(only_falls)


def test_the_lookahead_sees_a_fall_as_stage_1_does():
    """With a limit above 1 a fall in sight must not pass as a step that costs 1."""
    data = chain(1, 1)
    settings = {**SMALL, "critic_steps": 0, "lookahead": 2, "false_alarms": None, "limit": 2.0}
    for falls, expected in (("end", True), ("absorbing", False)):
        algorithm = make_algorithm(
            "sevpo", make_config("sevpo", {**settings, "falls": falls}), data
        )
        for network in (algorithm.v_c.net[-1], algorithm.q_c_target.layers[-1]):
            for parameter in network.parameters():
                parameter.data.zero_()
        safe = select(algorithm, data, False).safe
        assert bool(safe[LENGTH - 2]) is expected and bool(safe[LENGTH - 3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"falls": "never"}, "falls is 'never', expected one of end, absorbing"),
        ({"alpha": 0.0}, r"alpha is 0.0, expected a number in \(0, 1\]"),
        ({"false_alarms": 1.0}, r"false_alarms is 1.0, expected a share in \[0, 1\)"),
    ],
)
def test_settings_without_a_meaning_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ConservativeConfig(**settings)
