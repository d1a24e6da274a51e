"""COptiDICE in numbers: divergence and inverse, occupancy weights, the cost's bound, every step.

The networks are replaced by ones that read their values off the observation, so that each line of
a batch says which values it stands for.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from go2_sevpo.algorithms.coptidice import Coptidice, CoptidiceConfig, f_soft, f_soft_inverse
from go2_sevpo.data.dataset import Batch

RATE = 0.1
"""Of plain gradient descent in these tests."""


class Column(nn.Module):
    """Values (B,): a column of the observation plus a trained shift."""

    def __init__(self, column):
        super().__init__()
        self.column, self.shift = column, nn.Parameter(torch.zeros(()))

    def forward(self, obs):
        return obs[..., self.column] + self.shift


class Body(nn.Module):
    """An actor's network: the mean is column 2 plus a trained shift, the log deviation -0.5 plus
    another.
    """

    def __init__(self):
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, obs):
        mean = obs[..., 2:3] + self.mean
        return torch.cat([mean, 0.0 * mean - 0.5 + self.log_std], -1)


class Data:
    """As much of a dataset as the algorithm asks for; row i of ``frames`` is the observation of
    row i.
    """

    num_obs, num_actions, device, lidar = 3, 1, torch.device("cpu"), None
    mean, std = torch.arange(3.0), torch.full((3,), 2.0)

    def __init__(self, batch=None, frames=((0.0, 0.0, 0.0),), lengths=(1,)):
        self.batch, self.frames, self.shapes = batch, torch.tensor(frames), []
        self.episodes = {"length": np.array(lengths)}

    def sample(self, shape, generator):
        self.shapes.append((shape, generator))
        return self.batch

    def rows(self, index):
        obs, zero = self.frames[index], torch.zeros(index.shape)
        return Batch(obs, zero, zero, zero, obs + 99.0, zero, zero)


SMALL = {"hidden": (3,)}
START = [0.7, -1.3, 0.0]
"""The first observation of every episode in these tests."""

ROWS = [[0.5, -0.3, 0.2], [-1.0, 0.8, -0.4], [2.0, 0.1, 0.6], [0.3, 2.5, -0.1], [-0.2, -0.9, 0.0]]
AFTER = [[1.5, 0.4, 0.0], [0.9, -0.7, 0.0], [-2.0, 1.6, 0.0], [1.1, 0.3, 0.0], [-3.0, 2.2, 0.0]]
ACT, REWARD = [0.2, -0.4, 0.6, 0.1, -0.8], [1.0, 5.0, -3.0, 2.0, 7.0]
COST, TERMINAL, TIMEOUT = (
    [0.0, 0.5, 0.0, 1.0, 2.0],
    [0.0, 0.0, 1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0, 0.0],
)


def batch_of(obs, act, reward, cost, next_obs, terminal, timeout):
    obs, act, reward, cost, next_obs, terminal, timeout = map(
        torch.tensor, (obs, act, reward, cost, next_obs, terminal, timeout)
    )
    return Batch(obs, act[..., None], reward, cost, next_obs, terminal, timeout)


BATCH = batch_of(ROWS, ACT, REWARD, COST, AFTER, TERMINAL, TIMEOUT)


def make(members=None, raw=(0.4, -0.8), **changes):
    """COptiDICE whose networks read the observation, trained by plain gradient descent."""
    algorithm = Coptidice(
        CoptidiceConfig(**{**SMALL, "batch": 5, **changes}), Data(BATCH, [START]), members
    )
    algorithm.nu, algorithm.chi, algorithm.actor.body = Column(0), Column(1), Body()
    for p, value in zip(algorithm.multipliers, raw):
        p.data.fill_(value)

    def descent(module):
        return torch.optim.SGD(module.parameters(), RATE)

    algorithm.nu_optimizer, algorithm.chi_optimizer = descent(algorithm.nu), descent(algorithm.chi)
    algorithm.actor_optimizer = descent(algorithm.actor)
    algorithm.multiplier_optimizer = descent(algorithm.multipliers)
    return algorithm


def softplus(x):
    return math.log1p(math.exp(x))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# Settings


def test_defaults_are_the_authors():
    c = CoptidiceConfig()
    assert (c.episode_limit, c.limit, c.horizon, c.gamma) == (10.0, None, 1000, 0.99)
    assert (c.cost_scale, c.reward_scale, c.alpha, c.epsilon) == (1.0, 0.1, 0.5, 0.01)
    assert (c.steps, c.batch, c.rate, c.hidden) == (100000, 512, 1e-4, (256, 256))


def test_limit_is_that_of_a_normalised_occupancy():
    """(1 - gamma) times the discounted limit: c (1 - gamma^T) / T of an episode's cost c, or the
    one given.
    """
    config = CoptidiceConfig(**SMALL, episode_limit=6.0, gamma=0.8, horizon=3, cost_scale=2.5)
    assert Coptidice(config, Data()).limit == pytest.approx(2.5 * 6.0 * (1 - 0.512) / 3)
    config = CoptidiceConfig(**SMALL, episode_limit=6.0, gamma=0.8, limit=0.7, cost_scale=2.5)
    assert Coptidice(config, Data()).limit == pytest.approx(0.2 * 0.7)
    assert Coptidice(CoptidiceConfig(**SMALL), Data()).limit == pytest.approx(0.01, rel=1e-4)


# The divergence


def test_divergence_in_numbers():
    """(w - 1)^2 / 2 from 1 on; w log w - w + 1 below, 1 at 0."""
    found = f_soft(torch.tensor([0.0, 0.2, 0.9, 1.0, 1.5, 4.0], dtype=torch.float64))
    expected = [1.0, 0.2 * math.log(0.2) + 0.8, 0.9 * math.log(0.9) + 0.1, 0.0, 0.125, 4.5]
    assert found.tolist() == pytest.approx(expected, rel=1e-7, abs=1e-8)


def test_divergence_is_bounded_at_the_least_weights():
    """Weights are counted as at least 1e-10: no logarithm of zero."""
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    f_soft(w).sum().backward()
    expected = 1e-10 * math.log(1e-10) - 1e-10 + 1
    assert f_soft(w).item() == pytest.approx(expected, abs=1e-13)
    assert torch.isfinite(w.grad).all()
    small = f_soft(torch.tensor([1e-9], dtype=torch.float64)).item()
    assert small == pytest.approx(1e-9 * math.log(1e-9) - 1e-9 + 1, abs=1e-13)


def test_inverse_inverts_the_numeric_derivative():
    w = torch.tensor([0.01, 0.1, 0.5, 0.99, 1.01, 2.0, 7.0], dtype=torch.float64)
    slope = (f_soft(w * (1 + 1e-5)) - f_soft(w * (1 - 1e-5))) / (2e-5 * w)
    torch.testing.assert_close(f_soft_inverse(slope), w, rtol=1e-6, atol=1e-8)


def test_inverse_in_numbers():
    """y + 1 from 0 on, exp(y) below, however far; its slope stays finite."""
    y = torch.tensor([-800.0, -2.0, -0.1, 0.0, 0.1, 3.0, 800.0], requires_grad=True)
    expected = [0.0, math.exp(-2), math.exp(-0.1), 1.0, 1.1, 4.0, 801.0]
    assert f_soft_inverse(y).tolist() == pytest.approx(expected, rel=1e-6)
    f_soft_inverse(y).sum().backward()
    slope = [0.0, math.exp(-2), math.exp(-0.1), 1.0, 1.0, 1.0, 1.0]
    assert y.grad.tolist() == pytest.approx(slope, rel=1e-6)


# Occupancy weights


def advantages(c, cost_weight, shift=0.0):
    """r - lambda c + gamma (1 - d) nu' - nu, scaled rewards and costs."""
    return [
        c["reward_scale"] * REWARD[i]
        - cost_weight * c["cost_scale"] * COST[i]
        + c["gamma"] * (1 - TERMINAL[i]) * (AFTER[i][0] + shift)
        - ROWS[i][0]
        - shift
        for i in range(5)
    ]


def inverse(y):
    return math.exp(y) if y < 0 else y + 1


CASES = [
    {},
    {
        "gamma": 0.7,
        "alpha": 0.3,
        "reward_scale": 0.5,
        "cost_scale": 2.0,
        "limit": 0.2,
        "epsilon": 0.3,
    },
    {
        "gamma": 0.5,
        "alpha": 2.0,
        "reward_scale": 1.0,
        "cost_scale": 0.25,
        "limit": 9.0,
        "epsilon": 0.001,
    },
]


@pytest.mark.parametrize("changes", CASES)
def test_weights_are_the_inverse_at_the_advantage_over_alpha(changes):
    algorithm, c = make(**changes), {**vars(CoptidiceConfig()), **changes}
    w, e = algorithm.weights(BATCH, torch.tensor(1.3))
    expected = advantages(c, 1.3)
    assert e.tolist() == pytest.approx(expected, rel=1e-5)
    assert w.tolist() == pytest.approx([inverse(x / c["alpha"]) for x in expected], rel=1e-5)
    assert min(expected) < 0 < max(expected)


def test_each_member_has_its_own_multiplier():
    algorithm = make(members=2)
    double = Batch(
        *(
            torch.stack([x, x])
            for x in (
                BATCH.obs,
                BATCH.act,
                BATCH.reward,
                BATCH.cost,
                BATCH.next_obs,
                BATCH.terminal,
                BATCH.timeout,
            )
        )
    )
    w, e = algorithm.weights(double, torch.tensor([1.3, -0.4]))
    c = vars(CoptidiceConfig())
    for k, value in enumerate((1.3, -0.4)):
        expected = advantages(c, value)
        assert e[k].tolist() == pytest.approx(expected, rel=1e-5)
        assert w[k].tolist() == pytest.approx([inverse(x / 0.5) for x in expected], rel=1e-5)
    start = torch.tensor(START).expand(2, 5, 3)
    ell, share = algorithm.bound(double, start, w.detach(), torch.tensor([0.5, 2.0]))
    for k, tau in enumerate((0.5, 2.0)):
        expected_ell, expected_share = bound_of(c, w[k].tolist(), tau)
        assert ell[k].tolist() == pytest.approx(expected_ell, rel=1e-5)
        assert share[k].tolist() == pytest.approx(expected_share, rel=1e-4)


# The cost's upper bound


def bound_of(c, w, tau):
    """ell = (1 - gamma) chi(s0) + w (c + gamma (1 - d) chi' - chi); weights of mean 1 from exp(ell
    / tau).
    """
    ell = []
    for i in range(5):
        step = c["cost_scale"] * COST[i] + c["gamma"] * (1 - TERMINAL[i]) * AFTER[i][1] - ROWS[i][1]
        ell.append((1 - c["gamma"]) * START[1] + w[i] * step)
    raw = [math.exp(x / tau) for x in ell]
    return ell, [5 * x / sum(raw) for x in raw]


@pytest.mark.parametrize("changes", CASES)
@pytest.mark.parametrize("tau", [0.5, 4.0])
def test_bound_weighs_costly_samples_more(changes, tau):
    algorithm, c = make(**changes), {**vars(CoptidiceConfig()), **changes}
    w = [0.4, 1.7, 0.9, 2.2, 0.1]
    start = torch.tensor([START] * 5)
    ell, share = algorithm.bound(BATCH, start, torch.tensor(w), torch.tensor(tau))
    expected, weights = bound_of(c, w, tau)
    assert ell.tolist() == pytest.approx(expected, rel=1e-5)
    assert share.tolist() == pytest.approx(weights, rel=1e-4)
    assert share.mean().item() == pytest.approx(1.0, rel=1e-6)
    assert not share.requires_grad and ell.requires_grad
    ell.sum().backward()
    # d ell / d chi's shift.
    slope = [(1 - c["gamma"]) + w[i] * (c["gamma"] * (1 - TERMINAL[i]) - 1) for i in range(5)]
    assert algorithm.chi.shift.grad.item() == pytest.approx(sum(slope), rel=1e-5)


# One step of everything


@pytest.mark.parametrize("changes", CASES)
@pytest.mark.parametrize("raw", [(0.4, -0.8), (-1.5, 0.9)])
def test_one_step(changes, raw):
    algorithm, c = make(raw=raw, **changes), {**vars(CoptidiceConfig()), **changes}
    found = algorithm.update("policy", 0, algorithm_data(), torch.Generator().manual_seed(0))
    cost_weight, tau = softplus(raw[0]), softplus(raw[1]) + 1e-4
    gamma, alpha = c["gamma"], c["alpha"]
    e = advantages(c, cost_weight)
    w = [inverse(x / alpha) for x in e]
    slope = [(1 - gamma) + w[i] * (gamma * (1 - TERMINAL[i]) - 1) for i in range(5)]
    # nu: (1 - gamma) nu(s0) + w e - alpha f(w). As w maximises w e - alpha f(w), only e moves
    # with nu.
    assert algorithm.nu.shift.item() == pytest.approx(-RATE * np.mean(slope), rel=1e-4)
    f = [x * math.log(x) - x + 1 if x < 1 else (x - 1) ** 2 / 2 for x in w]
    nu_loss = np.mean([(1 - gamma) * START[0] + w[i] * e[i] - alpha * f[i] for i in range(5)])
    assert found["nu_loss"].item() == pytest.approx(nu_loss, rel=1e-4)
    # chi: the bound's weighted estimate.
    _, share = bound_of(c, w, tau)
    chi = np.mean([s * g for s, g in zip(share, slope)])
    assert algorithm.chi.shift.item() == pytest.approx(-RATE * chi, rel=1e-4)
    # tau (epsilon - KL): it grows while the weights lie further from the data than epsilon.
    divergence = np.mean([s * math.log(s) for s in share])
    assert found["divergence"].item() == pytest.approx(divergence, rel=1e-4)
    moved = raw[1] - RATE * sigmoid(raw[1]) * (c["epsilon"] - divergence)
    assert algorithm.multipliers[1].item() == pytest.approx(moved, rel=1e-4)
    # lambda (limit - expected cost): it grows while the cost lies above the limit.
    cost = np.mean([s * x * c["cost_scale"] * k for s, x, k in zip(share, w, COST)])
    moved = raw[0] - RATE * sigmoid(raw[0]) * (algorithm.limit - cost)
    assert algorithm.multipliers[0].item() == pytest.approx(moved, rel=1e-4)
    assert found["cost"].item() == pytest.approx(cost, rel=1e-4)
    # Actor: likelihood weighted by w.
    variance, x = math.exp(-1.0), [math.atanh(a) for a in ACT]
    gaps = [x[i] - ROWS[i][2] for i in range(5)]
    pull = np.mean([w[i] * gaps[i] / variance for i in range(5)])
    wider = np.mean([w[i] * (gaps[i] ** 2 / variance - 1) for i in range(5)])
    assert algorithm.actor.body.mean.item() == pytest.approx(RATE * pull, rel=1e-4)
    assert algorithm.actor.body.log_std.item() == pytest.approx(RATE * wider, rel=1e-4)
    likelihood = [
        -0.5 * gaps[i] ** 2 / variance
        + 0.5
        - 0.5 * math.log(2 * math.pi)
        - math.log(1 - ACT[i] ** 2)
        for i in range(5)
    ]
    loss = -np.mean([w[i] * likelihood[i] for i in range(5)])
    assert found["actor_loss"].item() == pytest.approx(loss, rel=1e-4)
    assert found["w"].item() == pytest.approx(np.mean(w), rel=1e-4)
    assert found["cost_weight"].item() == pytest.approx(cost_weight, rel=1e-5)
    assert found["tau"].item() == pytest.approx(tau, rel=1e-5)


def algorithm_data():
    return Data(BATCH, [START])


def test_without_a_radius_the_estimate_itself_is_compared_with_the_limit():
    algorithm = make(epsilon=0.0)
    found = algorithm.update("policy", 0, algorithm_data(), torch.Generator().manual_seed(0))
    w = [inverse(x / 0.5) for x in advantages(vars(CoptidiceConfig()), softplus(0.4))]
    cost = np.mean([x * k for x, k in zip(w, COST)])
    assert found["cost"].item() == pytest.approx(cost, rel=1e-4)
    assert found["divergence"].item() == 0.0
    assert algorithm.chi.shift.item() == 0.0
    assert algorithm.multipliers[1].item() == pytest.approx(-0.8)
    moved = 0.4 - RATE * sigmoid(0.4) * (algorithm.limit - cost)
    assert algorithm.multipliers[0].item() == pytest.approx(moved, rel=1e-4)


@pytest.mark.parametrize("epsilon", [0.05, 0.0])
def test_members_learn_as_if_alone(epsilon):
    """Two members with different multipliers: each moves as the algorithm alone with that
    multiplier.
    """
    lone = [make(raw=raw, epsilon=epsilon) for raw in ((0.4, -0.8), (-1.5, 0.9))]
    pair = make(members=2, epsilon=epsilon)
    for p, values in zip(pair.multipliers, ((0.4, -1.5), (-0.8, 0.9))):
        p.data = torch.tensor(values)
    double = Batch(
        *(
            torch.stack([x, x])
            for x in (
                BATCH.obs,
                BATCH.act,
                BATCH.reward,
                BATCH.cost,
                BATCH.next_obs,
                BATCH.terminal,
                BATCH.timeout,
            )
        )
    )
    data = Data(double, [START])
    pair.update("policy", 0, data, torch.Generator().manual_seed(0))
    assert data.shapes[0][0] == (2, 5)
    for one in lone:
        one.update("policy", 0, algorithm_data(), torch.Generator().manual_seed(0))
    for k in range(2):
        expected = [one.multipliers[k].item() for one in lone]
        assert pair.multipliers[k].tolist() == pytest.approx(expected, rel=1e-4)
    # Their shared stand-ins feel the sum of both.
    for name in ("nu", "chi"):
        total = sum(getattr(one, name).shift.item() for one in lone)
        assert getattr(pair, name).shift.item() == pytest.approx(total, rel=1e-4, abs=1e-7)


# First observations


def test_first_observations_are_those_of_episodes():
    frames = [[float(i), 0.0, 0.0] for i in range(9)]
    data = Data(BATCH, frames, lengths=(2, 4, 3))
    algorithm = Coptidice(CoptidiceConfig(**SMALL, batch=200), data)
    assert algorithm.starts.tolist() == [0, 2, 6]
    floats = Coptidice(CoptidiceConfig(**SMALL), Data(lengths=(2.0, 4.0, 3.0))).starts
    assert floats.dtype == torch.int64 and torch.equal(floats, algorithm.starts)
    found = algorithm.initial(data, torch.Generator().manual_seed(0))
    assert found.shape == (200, 3) and set(found[:, 0].tolist()) == {0.0, 2.0, 6.0}
    pick = torch.randint(3, (200,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(found[:, 0], torch.tensor([0.0, 2.0, 6.0])[pick])
    several = Coptidice(CoptidiceConfig(**SMALL, batch=200), data, 3)
    assert several.initial(data, torch.Generator().manual_seed(0)).shape == (3, 200, 3)


def test_one_step_draws_a_batch_and_as_many_first_observations():
    algorithm = make(batch=5)
    data, seen = Data(BATCH, [START, [50.0, 50.0, 50.0]], lengths=(2,)), []
    rows = data.rows
    data.rows = lambda index: seen.append(index.tolist()) or rows(index)
    source = torch.Generator().manual_seed(0)
    state = source.get_state()
    algorithm.update("policy", 0, data, source)
    assert data.shapes == [((5,), source)] and seen == [[0] * 5]
    assert not torch.equal(source.get_state(), state), "episodes are drawn from the same source"


# Construction and deployment


@pytest.mark.parametrize("members", [None, 3])
def test_networks_have_the_settings_sizes(members):
    algorithm = Coptidice(
        CoptidiceConfig(hidden=(5, 4), rate=0.007, steps=11, batch=6), Data(), members
    )

    def shapes(mlp):
        sizes = [tuple(m.weight.shape) for m in mlp.net if not isinstance(m, nn.ReLU)]
        return [x[::-1] for x in sizes] if members is None else sizes

    lead = () if members is None else (3,)
    assert shapes(algorithm.actor.body) == [(*lead, 3, 5), (*lead, 5, 4), (*lead, 4, 2)]
    for value in (algorithm.nu, algorithm.chi):
        assert shapes(value) == [(*lead, 3, 5), (*lead, 5, 4), (*lead, 4, 1)]
    assert not torch.equal(algorithm.nu.net[0].weight, algorithm.chi.net[0].weight)
    assert [p.tolist() for p in algorithm.multipliers] == [
        0.0 if members is None else [0.0] * 3
    ] * 2
    for name in ("actor", "nu", "chi"):
        optimizer = getattr(algorithm, f"{name}_optimizer")
        held = {id(p) for p in optimizer.param_groups[0]["params"]}
        assert held == {id(p) for p in getattr(algorithm, name).parameters()}
        assert isinstance(optimizer, torch.optim.Adam) and optimizer.param_groups[0]["lr"] == 0.007
    held = {id(p) for p in algorithm.multiplier_optimizer.param_groups[0]["params"]}
    assert held == {id(p) for p in algorithm.multipliers}
    assert algorithm.multiplier_optimizer.param_groups[0]["lr"] == 0.007
    assert algorithm.steps("policy") == 11 and algorithm.stages == ("policy",)
    assert set(algorithm.state_dict()) == {
        "actor",
        "nu",
        "chi",
        "multipliers",
        "actor_optimizer",
        "nu_optimizer",
        "chi_optimizer",
        "multiplier_optimizer",
    }


@pytest.mark.parametrize("member", [None, 0, 2])
def test_policy_is_the_tanh_of_the_mean_of_the_normalised_observation(member):
    algorithm = Coptidice(CoptidiceConfig(hidden=(5, 4)), Data(), None if member is None else 3)
    policy = algorithm.policy() if member is None else algorithm.policy(member=member)
    obs = torch.randn(7, 3)
    seen = (obs - torch.arange(3.0)) / 2.0
    lead = seen if member is None else seen.expand(3, -1, -1)
    mean = torch.tanh(algorithm.actor.parameters_of(lead)[0]).detach()
    with torch.no_grad():
        found = policy(obs, torch.randn(7, 1, 1, 1))[0]
    torch.testing.assert_close(found, mean if member is None else mean[member])
    default = algorithm.policy()(obs, torch.randn(7, 1, 1, 1))[0].detach()
    torch.testing.assert_close(default, mean if member is None else mean[0])


def test_networks_are_built_on_the_datas_device():
    """Nothing is computed there; only places are looked at."""
    data = Data()
    data.device = torch.device("meta")
    algorithm = Coptidice(CoptidiceConfig(**SMALL), data)
    for name in Coptidice.modules:
        assert {p.device.type for p in getattr(algorithm, name).parameters()} == {"meta"}
    assert algorithm.starts.device.type == "meta"
