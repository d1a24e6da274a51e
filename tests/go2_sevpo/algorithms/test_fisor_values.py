"""FISOR in numbers: expectiles, reachability, weights, optimiser steps and the deployed policy.

The networks are replaced by ones that read their values off the observation, so that each line of
a batch says which values it stands for.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from go2_sevpo.algorithms.fisor import Fisor, FisorConfig, reachability_target
from go2_sevpo.data.dataset import Batch

RATE = 0.1
"""Of plain gradient descent in these tests."""


class Column(nn.Module):
    """Values (heads, B): one column of the observation per head, plus ``slope`` times the action,
    plus a trained shift.
    """

    def __init__(self, columns, slope=0.0, shift=0.0, value=False):
        super().__init__()
        self.columns, self.slope, self.value = list(columns), slope, value
        self.shift = nn.Parameter(torch.full((len(self.columns), 1), shift))

    def forward(self, obs, act=None):
        x = obs[:, self.columns].T + self.shift
        x = x if act is None else x + self.slope * act[:, 0]
        return x[0] if self.value else x


class Actor(nn.Module):
    """A diffusion actor whose loss is its weight times the squared action plus one."""

    steps = 3

    def __init__(self, weight=2.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.calls = []

    def loss(self, obs, act, noise, t):
        self.calls.append((self.training, obs, noise, t))
        return self.weight * (1.0 + act[:, 0].square())


class Data:
    """As much of a dataset as the algorithm asks for; the batches drawn from it are kept."""

    num_obs, num_actions, device, lidar = 6, 1, torch.device("cpu"), None
    constraint = None
    mean, std = torch.arange(6.0), torch.full((6,), 2.0)

    def __init__(self):
        self.drawn = []

    def return_scale(self):
        return 0.25

    def sample(self, shape, generator):
        self.drawn.append((shape, generator))
        rows = torch.full((shape[-1], 6), float(len(self.drawn)))
        return batch_of(rows.tolist())


SMALL = {"critic_hidden": (3,), "actor": "mlp", "width": 4, "depth": 2, "dropout": 0.0}


def batch_of(obs, act=None, reward=None, cost=None, next_obs=None, terminal=None, timeout=None):
    obs = torch.tensor(obs)

    def column(x):
        return torch.zeros(len(obs)) if x is None else torch.tensor(x)

    return Batch(
        obs,
        column(act)[:, None],
        column(reward),
        column(cost),
        obs if next_obs is None else torch.tensor(next_obs),
        column(terminal),
        column(timeout),
    )


# Columns of an observation: two heads of Q_r, two heads of Q_h, V_r, V_h.
Q_R, Q_H, V_R, V_H = (0, 1), (2, 3), (4,), (5,)


def make(slope=0.0, **changes):
    """FISOR whose networks read the observation, trained by plain gradient descent."""
    algorithm = Fisor(FisorConfig(**{**SMALL, **changes}), Data())
    algorithm.q_r, algorithm.q_h = Column(Q_R, slope), Column(Q_H, slope)
    # Targets differ from what they follow.
    algorithm.q_r_target = Column(Q_R, slope, 0.5).requires_grad_(False)
    algorithm.q_h_target = Column(Q_H, slope, -0.25).requires_grad_(False)
    algorithm.v_r, algorithm.v_h = Column(V_R, value=True), Column(V_H, value=True)
    values = [*algorithm.v_r.parameters(), *algorithm.v_h.parameters()]
    algorithm.v_optimizer = torch.optim.SGD(values, RATE)
    critics = [*algorithm.q_r.parameters(), *algorithm.q_h.parameters()]
    algorithm.q_optimizer = torch.optim.SGD(critics, RATE)
    algorithm.actor, algorithm.average = Actor(), Actor(5.0).requires_grad_(False)
    algorithm.actor_optimizer = torch.optim.SGD(algorithm.actor.parameters(), RATE)
    return algorithm


# Settings


def test_defaults_are_the_authors():
    """FISOR's published settings; Table 8 of the paper has the same networks."""
    c = FisorConfig()
    assert (c.gamma, c.reward_tau, c.cost_tau) == (0.99, 0.9, 0.9)
    assert (c.violated, c.satisfied) == (25.0, -1.0)
    assert (c.reward_temperature, c.reward_clip) == (3.0, 100.0)
    assert (c.cost_temperature, c.cost_clip) == (5.0, 150.0)
    assert (c.steps, c.critic_batch, c.actor_batch, c.rate) == (1000000, 256, 1024, 3e-4)
    assert (c.actor_updates, c.decay_length, c.normalize_returns, c.h) == (2, 1.5, True, "cost")
    assert (c.critic_decay, c.target_rate, c.ema, c.warmup) == (False, 0.005, 0.001, 0.0)
    assert (c.critic_hidden, c.actor, c.width, c.depth) == ((256, 256), "resnet", 256, 3)
    assert (c.dropout, c.diffusion_steps, c.prediction) == (0.1, 5, "noise")
    assert (c.temperature, c.choice) == (1.0, "argmin_cost")


@pytest.mark.parametrize("gamma", [0.0, 1.0, -0.1, 1.5])
def test_gamma_outside_its_bounds_is_an_error(gamma):
    with pytest.raises(ValueError, match=rf"gamma is {gamma}, expected a number in \(0, 1\)"):
        FisorConfig(gamma=gamma)


@pytest.mark.parametrize(
    ("satisfied", "violated"), [(0.0, 1.0), (-1.0, 0.0), (1.0, 2.0), (-2.0, -1.0)]
)
def test_h_needs_both_signs(satisfied, violated):
    with pytest.raises(
        ValueError, match=f"h is {satisfied} and {violated}, expected satisfied < 0 < "
    ):
        FisorConfig(satisfied=satisfied, violated=violated)


def test_another_choice_is_an_error():
    with pytest.raises(ValueError, match="choice is 'best', expected one of first, first_safe"):
        FisorConfig(choice="best")
    assert (
        FisorConfig(satisfied=-0.01, violated=0.01, gamma=0.999, choice="first").choice == "first"
    )


# Values


def test_reachability_target_in_numbers():
    """(1 - gamma) h + gamma max(h, V'); h at terminals. gamma = 0.8."""
    h, after = (
        torch.tensor([-1.0, -1.0, 25.0, 25.0, -1.0]),
        torch.tensor([-3.0, 4.0, 7.0, 30.0, 9.0]),
    )
    found = reachability_target(h, after, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]), 0.8)
    # .2 * -1 + .8 * max; the last ends.
    assert found.tolist() == pytest.approx([-1.0, 3.0, 25.0, 29.0, -1.0], rel=1e-6)


def expected_critics(rows, act, reward, cost, after, terminal, c, slope=0.5):
    """One step of both values, then of both critics, written out."""
    shift = {"v_r": 0.0, "v_h": 0.0}
    n = len(rows)
    v_loss = 0.0
    for row, a in zip(rows, act):
        q_r = min(row[0], row[1]) + 0.5 + slope * a
        q_h = max(row[2], row[3]) - 0.25 + slope * a
        # IQL weighs tau where Q_r > V_r; the reversed expectile where Q_h < V_h.
        w_r = c["reward_tau"] if q_r > row[4] else 1 - c["reward_tau"]
        w_h = c["cost_tau"] if q_h < row[5] else 1 - c["cost_tau"]
        shift["v_r"] += RATE * 2 * w_r * (q_r - row[4]) / n
        shift["v_h"] += RATE * 2 * w_h * (q_h - row[5]) / n
        v_loss += (w_r * (q_r - row[4]) ** 2 + w_h * (q_h - row[5]) ** 2) / n
    heads = np.zeros(4)
    q_loss, mean_target = 0.0, 0.0
    for row, a, r, cost_now, nxt, end in zip(rows, act, reward, cost, after, terminal):
        target_r = r + (0.0 if end else c["gamma"] * (nxt[4] + shift["v_r"]))
        h = c["violated"] if cost_now > 0 else c["satisfied"]
        target_h = h
        if not end:
            target_h = (1 - c["gamma"]) * h + c["gamma"] * max(h, nxt[5] + shift["v_h"])
        for k, target in enumerate((target_r, target_r, target_h, target_h)):
            error = row[k] + slope * a - target
            heads[k] -= RATE * 2 * error / n
            q_loss += error**2 / n
        mean_target += target_r / n
    return shift, heads, v_loss, q_loss, mean_target


ROWS = [
    # Q_r heads, Q_h heads, V_r, V_h: each head is the smaller one at least once.
    [1.0, 2.0, 0.5, 3.0, 0.3, 4.0],
    [3.0, -1.0, 2.0, -2.0, 0.9, 0.2],
    [0.2, 0.7, -1.5, -0.5, 2.0, -0.1],
    [-2.0, 1.5, 6.0, 4.0, -1.0, -3.0],
]
AFTER = [
    [0.0, 0.0, 0.0, 0.0, 1.1, 5.0],
    [0.0, 0.0, 0.0, 0.0, -0.6, -2.0],
    [0.0, 0.0, 0.0, 0.0, 2.2, 0.4],
    [0.0, 0.0, 0.0, 0.0, 0.7, 8.0],
]
ACT, REWARD, COST = [0.2, -0.4, 0.6, 0.1], [1.0, -0.5, 0.3, 2.0], [0.0, 0.5, 0.0, 1.0]
TERMINAL, TIMEOUT = [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gamma": 0.7, "reward_tau": 0.8, "cost_tau": 0.6, "target_rate": 0.2},
        {"gamma": 0.4, "reward_tau": 0.65, "cost_tau": 0.95, "violated": 3.0, "satisfied": -0.5},
    ],
)
def test_one_step_of_values_and_critics(changes):
    """Values first, critics with the new values; a time-out does not end a backup."""
    algorithm = make(slope=0.5, **changes)
    found = algorithm.update_critics(batch_of(ROWS, ACT, REWARD, COST, AFTER, TERMINAL, TIMEOUT))
    c = {**vars(FisorConfig()), **changes}
    shift, heads, v_loss, q_loss, target = expected_critics(
        ROWS, ACT, REWARD, COST, AFTER, TERMINAL, c
    )
    assert algorithm.v_r.shift.item() == pytest.approx(shift["v_r"], rel=1e-5)
    assert algorithm.v_h.shift.item() == pytest.approx(shift["v_h"], rel=1e-5)
    moved = torch.cat([algorithm.q_r.shift, algorithm.q_h.shift])[:, 0].tolist()
    assert moved == pytest.approx(heads.tolist(), rel=1e-5)
    rate = c["target_rate"]
    followed = torch.cat([algorithm.q_r_target.shift, algorithm.q_h_target.shift])[:, 0].tolist()
    old = np.array([0.5, 0.5, -0.25, -0.25])
    assert followed == pytest.approx((old + rate * (heads - old)).tolist(), rel=1e-5)
    assert found["v_loss"].item() == pytest.approx(v_loss, rel=1e-5)
    assert found["q_loss"].item() == pytest.approx(q_loss, rel=1e-5)
    assert found["q_r"].item() == pytest.approx(target, rel=1e-5)
    assert found["v_h"].item() == pytest.approx(np.mean([row[5] for row in ROWS]), rel=1e-5)
    assert found["v_h_max"].item() == pytest.approx(4.0)


# The actor's weights


def weights_of(rows, **changes):
    algorithm = make(slope=0.5, **changes)
    # Shifts of the targets are undone, so that rows hold what the weights see at the action 0.
    algorithm.q_r_target.shift.data.zero_()
    algorithm.q_h_target.shift.data.zero_()
    algorithm.q_r.shift.data.fill_(50.0)
    algorithm.q_h.shift.data.fill_(50.0)
    with torch.no_grad():
        return [x.tolist() for x in algorithm.weights(batch_of(rows, [0.0] * len(rows)))]


def test_safe_transitions_weigh_the_exponential_of_the_reward_advantage():
    """min(exp(3 (Q_r - V_r)), 100), Q_r the lesser head; V_h <= 0 and Q_h <= 0, the bounds
    included.
    """
    rows = [
        [1.2, 0.7, -1.0, -2.0, 0.5, -0.5],
        [0.1, 0.4, 0.0, -3.0, 0.6, 0.0],
        [3.5, 9.0, -4.0, 0.0, 2.0, -1.0],  # exp(4.5) = 90.0
        [9.0, 3.54, -4.0, 0.0, 2.0, -1.0],  # exp(4.62) = 101.5: clipped
        [60.0, 60.0, -4.0, -0.1, 2.0, -1.0],
    ]
    weight, safe, unsafe = weights_of(rows)
    expected = [math.exp(3 * 0.2), math.exp(3 * -0.5), math.exp(4.5), 100.0, 100.0]
    assert weight == pytest.approx(expected, rel=1e-4)
    assert safe == [True] * 5 and unsafe == [False] * 5


def test_unsafe_states_weigh_the_exponential_of_the_reachability_advantage():
    """min(exp(5 (V_h - Q_h)), 150), Q_h the greater head; V_h > 0, whatever Q_h is."""
    rows = [
        [1.0, 2.0, 0.4, -2.0, 0.5, 0.3],
        [1.0, 2.0, -1.0, -0.2, 0.5, 0.1],
        [1.0, 2.0, -5.0, 0.5, 0.5, 1.5],  # exp(5) = 148.4
        [1.0, 2.0, 0.48, -5.0, 0.5, 1.5],  # exp(5.1) = 164.0: clipped
        [1.0, 2.0, 0.0, 0.0, 0.5, 1e-6],
        [1.0, 2.0, -90.0, -90.0, 0.5, 1.0],
    ]
    weight, safe, unsafe = weights_of(rows)
    expected = [math.exp(-0.5), math.exp(1.5), math.exp(5.0), 150.0, 1.0, 150.0]
    assert weight == pytest.approx(expected, rel=1e-4)
    assert safe == [False] * 6 and unsafe == [True] * 6


def test_a_safe_state_with_an_unsafe_action_weighs_nothing():
    rows = [[9.0, 9.0, 1e-6, -1.0, 0.0, 0.0], [9.0, 9.0, -1.0, 2.0, 0.0, -4.0]]
    weight, safe, unsafe = weights_of(rows)
    assert weight == [0.0, 0.0]
    assert safe == [False, False] and unsafe == [False, False]


def test_other_temperatures_and_clips():
    rows = [[0.7, 0.7, -1.0, -1.0, 0.5, -1.0], [0.0, 0.0, 0.2, 0.2, 0.5, 0.5]]
    rows += [[1.7, 1.7, -1.0, -1.0, 0.5, -1.0], [0.0, 0.0, -1.2, -1.2, 0.5, 0.5]]
    changes = {
        "reward_temperature": 2.0,
        "cost_temperature": 1.5,
        "reward_clip": 7.0,
        "cost_clip": 11.0,
    }
    weight, _, _ = weights_of(rows, **changes)
    assert weight == pytest.approx([math.exp(0.4), math.exp(0.45), 7.0, 11.0], rel=1e-4)


def test_weights_judge_the_action_of_the_data():
    """Columns plus half the action: Q_r 0.6, Q_h 0.1 > 0 at 0.2; Q_r 0.3, Q_h -0.2 at -0.4."""
    algorithm = make(slope=0.5)
    algorithm.q_r_target.shift.data.zero_()
    algorithm.q_h_target.shift.data.zero_()
    rows = [[0.5, 0.5, 0.0, 0.0, 0.0, 0.0]] * 2
    weight, safe, _ = algorithm.weights(batch_of(rows, [0.2, -0.4]))
    assert safe.tolist() == [False, True]
    assert weight.tolist() == pytest.approx([0.0, math.exp(0.9)], rel=1e-5)


# Steps of the actor

LINES = [
    [1.2, 0.7, -1.0, -2.0, 0.5, -0.5],
    [1.0, 2.0, 0.4, -2.0, 0.5, 0.3],
    [9.0, 9.0, 0.5, 0.5, 0.0, 0.0],
]
"""Safe, unsafe, neither, for targets without shift."""


@pytest.mark.parametrize("warm", [False, True])
def test_actor_clones_with_the_weights_and_its_average_follows(warm):
    algorithm = make(ema=0.2)
    algorithm.q_r_target.shift.data.zero_()
    algorithm.q_h_target.shift.data.zero_()
    algorithm.actor.eval()
    act = [0.5, -1.0, 0.3]
    found = algorithm.update_actor(batch_of(LINES, act), warm, torch.Generator().manual_seed(0))
    weight = [1.0] * 3 if warm else [math.exp(0.6), math.exp(-0.5), 0.0]
    slope = [1 + a * a for a in act]
    # The loss is the actor's weight times the slope; its gradient the mean of weighted slopes.
    gradient = sum(w * s for w, s in zip(weight, slope)) / 3
    assert algorithm.actor.weight.item() == pytest.approx(2.0 - RATE * gradient, rel=1e-5)
    moved = 5.0 + 0.2 * (2.0 - RATE * gradient - 5.0)
    assert algorithm.average.weight.item() == pytest.approx(moved, rel=1e-5)
    assert found["actor_loss"].item() == pytest.approx(2 * gradient, rel=1e-5)
    assert found["clone_loss"].item() == pytest.approx(2 * sum(slope) / 3, rel=1e-5)
    assert found["safe_share"].item() == pytest.approx(1 / 3)
    assert found["unsafe_share"].item() == pytest.approx(1 / 3)
    ((training, obs, noise, t),) = algorithm.actor.calls
    assert training, "dropout must be on"
    np.testing.assert_allclose(obs.numpy(), LINES, rtol=1e-6)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(noise, torch.randn(3, 1, generator=generator))
    assert torch.equal(t, torch.randint(3, (3,), generator=generator))


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"),
    [(0.0, 10, [False] * 10), (0.3, 10, [True] * 3 + [False] * 7), (1.0, 4, [True] * 4)],
)
def test_warm_start_lasts_its_share_of_the_steps(monkeypatch, warmup, steps, expected):
    algorithm = make(warmup=warmup, steps=steps, critic_batch=5, actor_batch=7, actor_updates=1)
    seen = []

    def critics(batch):
        seen.append(("critics", len(batch.obs), batch.obs[0, 0].item()))
        return {"from_critics": torch.tensor(1.0)}

    def actor(batch, warm, generator):
        assert generator is source
        seen.append(("actor", len(batch.obs), batch.obs[0, 0].item(), warm))
        return {"from_actor": torch.tensor(2.0)}

    monkeypatch.setattr(algorithm, "update_critics", critics)
    monkeypatch.setattr(algorithm, "update_actor", actor)
    data, source = Data(), torch.Generator()
    for step in range(steps):
        metrics = algorithm.update("policy", step, data, source)
        assert metrics == {"from_critics": torch.tensor(1.0), "from_actor": torch.tensor(2.0)}
    # One draw every step, the actor first, the values on its first rows.
    assert data.drawn == [((7,), source)] * steps
    assert [x[:2] for x in seen] == [("actor", 7), ("critics", 5)] * steps
    assert [x[2] for x in seen[::2]] == [x[2] for x in seen[1::2]] == list(range(1, steps + 1))
    assert [x[3] for x in seen[::2]] == expected


def test_two_actor_updates_share_one_draw_and_the_values_see_its_first_rows(monkeypatch):
    """The authors' step: halves of 2048 rows for the actor, the first 256 for the values, rewards
    scaled.
    """
    algorithm = make(critic_batch=3, actor_batch=4, actor_updates=2)
    seen = []

    def take(name):
        def took(batch, *rest):
            seen.append((name, batch.obs[:, 0].tolist(), batch.reward.tolist()))
            return {}

        return took

    monkeypatch.setattr(algorithm, "update_critics", take("values"))
    monkeypatch.setattr(algorithm, "update_actor", take("actor"))
    data = Data()

    def numbered(shape, generator):
        assert shape == (8,)
        obs = torch.zeros(8, 6)
        obs[:, 0] = torch.arange(8.0)
        return batch_of(obs.tolist(), reward=[8.0] * 8)

    monkeypatch.setattr(data, "sample", numbered)
    algorithm.update("policy", 0, data, torch.Generator())
    # Data's returns are scaled by 0.25.
    assert seen == [
        ("actor", [0, 1, 2, 3], [2.0] * 4),
        ("actor", [4, 5, 6, 7], [2.0] * 4),
        ("values", [0, 1, 2], [2.0] * 3),
    ]


def test_the_authors_schedule_ends_at_a_quarter(monkeypatch):
    """A cosine over 3e6 updates of which 2e6 are done; each of a step's two updates counts."""
    algorithm = make(steps=1000, rate=0.02)
    rates = []
    monkeypatch.setattr(algorithm, "update_critics", lambda batch: {})

    def note(batch, warm, generator):
        rates.append(algorithm.actor_optimizer.param_groups[0]["lr"])
        return {}

    monkeypatch.setattr(algorithm, "update_actor", note)
    monkeypatch.setattr(Data, "sample", lambda s, n, g: batch_of([[0.0] * 6] * n[0]))
    for step in (0, 999):
        algorithm.update("policy", step, Data(), torch.Generator())
    updates = [0, 1, 1998, 1999]
    expected = [0.01 * (1.0 + math.cos(math.pi * k / 3000)) for k in updates]
    assert rates == pytest.approx(expected, rel=1e-9)
    assert rates[-1] == pytest.approx(0.25 * 0.02, rel=2e-3)


def test_h_of_the_data_takes_the_place_of_the_two_numbers():
    data = Data()
    with pytest.raises(ValueError, match="h=data needs the constraint's value in the data"):
        Fisor(FisorConfig(**SMALL, h="data"), data)
    data.constraint = torch.zeros(1)
    algorithm = Fisor(FisorConfig(**SMALL, h="data", normalize_returns=False), data)
    assert algorithm.reward_scale == 1.0
    batch = batch_of([[0.0] * 6] * 2, cost=[1.0, 0.0])
    batch.constraint = torch.tensor([0.3, -1.7])
    assert algorithm.values_of_h(batch).tolist() == batch.constraint.tolist()
    two = Fisor(FisorConfig(**SMALL), data)
    assert two.values_of_h(batch).tolist() == [25.0, -1.0] and two.reward_scale == 0.25
    with pytest.raises(ValueError, match="h is 'both', expected one of cost, data"):
        FisorConfig(h="both")
    with pytest.raises(ValueError, match="decay_length is 0.5, expected at least 1"):
        FisorConfig(decay_length=0.5)


@pytest.mark.parametrize("decay", [False, True])
def test_learning_rates_fall_as_a_cosine(monkeypatch, decay):
    """The actor's always; the critics' on request."""
    algorithm = make(
        steps=8, rate=0.02, critic_decay=decay, decay_length=1.0, actor_updates=1, critic_batch=4
    )
    monkeypatch.setattr(algorithm, "update_critics", lambda batch: {})
    monkeypatch.setattr(algorithm, "update_actor", lambda batch, warm, generator: {})
    for step in (0, 2, 5):
        algorithm.update("policy", step, Data(), torch.Generator())
        expected = 0.01 * (1 + math.cos(math.pi * step / 8))
        rates = [
            x.param_groups[0]["lr"]
            for x in (algorithm.actor_optimizer, algorithm.v_optimizer, algorithm.q_optimizer)
        ]
        others = expected if decay else RATE
        assert rates == pytest.approx([expected, others, others])


# Construction and deployment


def sizes(critic):
    return [tuple(layer.weight.shape) for layer in critic.layers]


@pytest.mark.parametrize("members", [None, 3])
def test_networks_have_the_settings_sizes(members):
    config = FisorConfig(
        critic_hidden=(5, 4),
        width=6,
        depth=2,
        dropout=0.2,
        diffusion_steps=4,
        prediction="clean",
        rate=0.007,
        steps=11,
    )
    algorithm = Fisor(config, Data(), members)
    n = 2 * (members or 1)
    for critic in (algorithm.q_r, algorithm.q_h, algorithm.q_r_target, algorithm.q_h_target):
        assert sizes(critic) == [(n, 7, 5), (n, 5, 4), (n, 4, 1)]
        assert critic.members == members
    for value in (algorithm.v_r, algorithm.v_h):
        shapes = [tuple(m.weight.shape) for m in value.net if not isinstance(m, nn.ReLU)]
        plain = [(5, 6), (4, 5), (1, 4)]
        assert shapes == (plain if members is None else [(3, b, a) for a, b in plain])
    actor = algorithm.actor
    assert (actor.steps, actor.prediction, actor.denoiser.kind, actor.denoiser.depth) == (
        4,
        "clean",
        "resnet",
        2,
    )
    assert [block.drop.p for block in actor.denoiser.blocks] == [0.2, 0.2]
    assert actor.denoiser.from_obs.weight.shape[-2:] == ((6, 6))
    assert actor.denoiser.out.weight.shape == ((1, 6) if members is None else (3, 6, 1))
    assert algorithm.members == members and algorithm.shape(2) == (
        (2,) if members is None else (3, 2)
    )
    assert algorithm.stages == ("policy",) and algorithm.steps("policy") == 11
    assert algorithm.config is config


def parameters(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def test_each_optimizer_has_its_networks():
    algorithm = Fisor(FisorConfig(**SMALL, rate=0.007), Data())
    pairs = (
        (algorithm.v_optimizer, (algorithm.v_r, algorithm.v_h)),
        (algorithm.q_optimizer, (algorithm.q_r, algorithm.q_h)),
        (algorithm.actor_optimizer, (algorithm.actor,)),
    )
    for optimizer, modules in pairs:
        assert parameters(optimizer) == {id(p) for m in modules for p in m.parameters()}
        assert isinstance(optimizer, torch.optim.Adam)
        assert optimizer.param_groups[0]["lr"] == 0.007
    copies = (
        (algorithm.q_r, algorithm.q_r_target),
        (algorithm.q_h, algorithm.q_h_target),
        (algorithm.actor, algorithm.average),
    )
    for source, copied in copies:
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), copied.parameters()))
        assert all(a is not b for a, b in zip(source.parameters(), copied.parameters()))
        assert not any(p.requires_grad for p in copied.parameters())
        assert not copied.training
    assert not torch.equal(algorithm.q_r.layers[0].weight, algorithm.q_h.layers[0].weight)
    assert algorithm.normalizer.mean.tolist() == list(range(6))
    assert set(algorithm.state_dict()) == {
        "v_r",
        "q_r",
        "q_r_target",
        "v_h",
        "q_h",
        "q_h_target",
        "actor",
        "average",
        "v_optimizer",
        "q_optimizer",
        "actor_optimizer",
    }


def test_policy_plays_the_average_judged_by_the_reachability_value():
    """Candidates with the least Q_h; states and candidates are unsafe above 0."""
    algorithm = Fisor(FisorConfig(**SMALL, temperature=0.3), Data())
    policy = algorithm.policy()
    assert policy.diffusion is algorithm.average and policy.normalizer is algorithm.normalizer
    assert (
        policy.cost_critic is algorithm.q_h_target and policy.reward_critic is algorithm.q_r_target
    )
    assert policy.cost_value is algorithm.v_h
    assert (policy.temperature, policy.choice, policy.limit) == (0.3, "argmin_cost", 0.0)
    assert algorithm.policy("argmax_reward").choice == "argmax_reward"
    first = Fisor(FisorConfig(**SMALL, choice="first"), Data())
    assert first.policy().choice == "first" and first.policy("escape").choice == "escape"


def test_policy_of_a_member():
    algorithm = Fisor(FisorConfig(**SMALL), Data(), members=3)
    obs, act = torch.randn(3, 5, 6), torch.randn(3, 5, 1)
    policies = [algorithm.policy(), *(algorithm.policy(member=k) for k in range(3))]
    for k, policy in zip((0, 0, 1, 2), policies):
        torch.testing.assert_close(
            policy.cost_critic(obs[k], act[k]), algorithm.q_h_target(obs, act)[:, k].detach()
        )
        torch.testing.assert_close(
            policy.reward_critic(obs[k], act[k]), algorithm.q_r_target(obs, act)[:, k].detach()
        )
        torch.testing.assert_close(policy.cost_value(obs[k]), algorithm.v_h(obs)[k].detach())
        noise = torch.randn(5, 5, 1)
        wide = algorithm.average.sample(obs, noise.expand(3, -1, -1, -1))
        torch.testing.assert_close(
            policy.diffusion.sample(obs[k], noise), wide[k], rtol=1e-5, atol=1e-5
        )


def test_every_member_draws_its_own_batch(monkeypatch):
    algorithm = Fisor(FisorConfig(**SMALL, critic_batch=5, actor_batch=7), Data(), members=3)
    column = torch.arange(42.0).reshape(3, 14)
    batch = Batch(*[column] * 7)

    def sample(shape, generator):
        assert shape == (3, 14)
        return batch

    seen = []

    def look(batch, *rest):
        seen.append(batch.cost.tolist())
        return {}

    monkeypatch.setattr(algorithm, "update_critics", look)
    monkeypatch.setattr(algorithm, "update_actor", look)
    algorithm.update("policy", 0, SimpleNamespace(sample=sample), torch.Generator())
    parts = column[:, :7], column[:, 7:], column[:, :5]
    assert seen == [part.tolist() for part in parts]


def test_networks_are_built_on_the_datas_device():
    """Nothing is computed there; only places are looked at."""
    data = Data()
    data.device = torch.device("meta")
    algorithm = Fisor(FisorConfig(**SMALL), data)
    for name in ("q_r", "q_h", "q_r_target", "q_h_target", "v_r", "v_h", "actor", "average"):
        assert {p.device.type for p in getattr(algorithm, name).parameters()} == {"meta"}
