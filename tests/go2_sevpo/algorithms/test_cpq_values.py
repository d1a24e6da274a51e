"""CPQ in numbers: targets, the push on actions unlike the data, its multiplier, the actor's step.

The networks are replaced by ones that read their values off the observation, so that each line of
a batch says which values it stands for.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from go2_sevpo.algorithms import cpq as cpq_module
from go2_sevpo.algorithms.cpq import Cpq, CpqConfig
from go2_sevpo.data.dataset import Batch

RATE = 0.1
"""Of plain gradient descent in these tests."""


class Column(nn.Module):
    """Values (heads, B): a column of the observation per head, its slope times the action, and a
    trained shift.
    """

    def __init__(self, columns, slopes, shifts=(0.0, 0.0)):
        super().__init__()
        self.columns, self.slopes = list(columns), torch.tensor(slopes)
        self.shift = nn.Parameter(torch.tensor(shifts))

    def forward(self, obs, act):
        x = obs[..., self.columns] + self.shift + self.slopes * act
        return x.movedim(-1, 0)


class Body(nn.Module):
    """An actor's network: the mean is column 4 plus a trained shift, the log deviation -1 plus
    another.
    """

    def __init__(self):
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, obs):
        mean = obs[..., 4:5] + self.mean
        return torch.cat([mean, 0.0 * mean - 1.0 + self.log_std], -1)


class AutoEncoder(nn.Module):
    """Divergence is the squared distance of the action from column 5; the loss keeps what it was
    given.
    """

    latent = 2

    def __init__(self):
        super().__init__()
        self.scale, self.calls, self.pieces = nn.Parameter(torch.tensor(3.0)), [], []

    def divergence(self, obs, act):
        self.pieces.append(obs.shape[-2])
        return (act[..., 0] - obs[..., 5]).square()

    def loss(self, obs, act, noise, beta):
        self.calls.append((obs, noise, beta))
        return self.scale * (act[..., 0].square() + 0.5)


class Data:
    """As much of a dataset as the algorithm asks for."""

    num_obs, num_actions, device, lidar = 6, 1, torch.device("cpu"), None
    mean, std = torch.arange(6.0), torch.full((6,), 2.0)

    def __init__(self, batch=None):
        self.batch, self.shapes = batch, []

    def sample(self, shape, generator):
        self.shapes.append((shape, generator))
        return self.batch


SMALL = {"hidden": (3,), "vae_hidden": 4}
SLOPES_R, SLOPES_C = (0.5, -0.25), (0.75, 1.25)


def batch_of(obs, act=None, reward=None, cost=None, next_obs=None, terminal=None, timeout=None):
    obs = torch.tensor(obs)

    def column(x):
        return torch.zeros(obs.shape[:-1]) if x is None else torch.tensor(x)

    return Batch(
        obs,
        column(act)[..., None],
        column(reward),
        column(cost),
        obs if next_obs is None else torch.tensor(next_obs),
        column(terminal),
        column(timeout),
    )


def make(members=None, slopes_r=SLOPES_R, slopes_c=SLOPES_C, targets=(0.3, -0.6), **changes):
    """CPQ whose networks read the observation, trained by plain gradient descent."""
    algorithm = Cpq(CpqConfig(**{**SMALL, **changes}), Data(), members)
    algorithm.q_r, algorithm.q_c = Column((0, 1), slopes_r), Column((2, 3), slopes_c)
    algorithm.q_r_target = Column((0, 1), slopes_r, targets).requires_grad_(False)
    algorithm.q_c_target = Column((2, 3), slopes_c, targets[::-1]).requires_grad_(False)
    algorithm.actor.body, algorithm.vae = Body(), AutoEncoder()

    def descent(*modules):
        return torch.optim.SGD([p for m in modules for p in m.parameters()], RATE)

    algorithm.critic_optimizer = descent(algorithm.q_r, algorithm.q_c)
    algorithm.actor_optimizer = descent(algorithm.actor)
    algorithm.vae_optimizer = descent(algorithm.vae)
    algorithm.weight_optimizer = descent(algorithm.weight)
    return algorithm


ROWS = [
    # Q_r heads, Q_c heads, mean of the action, where the data's actions are.
    [1.0, 2.0, 0.5, 3.0, 0.3, 0.1],
    [3.0, -1.0, 2.0, 0.2, -0.9, -0.2],
    [0.2, 0.7, -1.5, -0.5, 0.6, 0.9],
    [-2.0, 1.5, 6.0, 4.0, -0.1, -0.8],
    [0.4, 0.3, 1.0, 1.1, 0.0, 0.4],
]
AFTER = [
    [2.0, 3.0, 0.8, 1.9, -0.4, 0.0],
    [1.0, -1.5, 2.5, 3.5, 0.8, 0.0],
    [0.1, 0.2, -0.3, 0.9, 0.2, 0.0],
    [5.0, 4.0, 0.1, 0.2, -0.7, 0.0],
    [-1.0, 2.0, 4.0, 1.2, 0.5, 0.0],
]
ACT, REWARD = [0.2, -0.4, 0.6, 0.1, -0.8], [1.0, -0.5, 0.3, 2.0, 0.7]
COST, TERMINAL, TIMEOUT = (
    [0.0, 0.5, 0.0, 1.0, 2.0],
    [0.0, 0.0, 1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0, 0.0],
)


def heads(row, pair, slopes, act, shifts=(0.0, 0.0)):
    return [row[i] + s * act + h for i, s, h in zip(pair, slopes, shifts)]


def normal(generator, *shape):
    return torch.randn(shape, generator=generator).numpy()


def actions(rows, noise):
    """tanh(mean + exp(-1) noise)."""
    return np.tanh(np.array([row[4] for row in rows]) + math.exp(-1) * noise)


def far_actions(generator, n, quantile):
    """Rows and actions whose divergence is at or above the quantile (numpy's, linear between
    ranks).
    """
    wide = [row for row in ROWS for _ in range(n)]
    act = actions(wide, normal(generator, len(wide), 1)[:, 0])
    divergence = (act - np.array([row[5] for row in wide])) ** 2
    far = divergence >= np.quantile(divergence, quantile)
    return [(row, a) for row, a, f in zip(wide, act, far) if f], far


# Settings


def test_defaults_are_osrls():
    c = CpqConfig()
    assert (c.episode_limit, c.limit, c.horizon, c.gamma, c.cost_scale) == (
        10.0,
        None,
        1000,
        0.99,
        1.0,
    )
    assert (c.ood_actions, c.ood_quantile, c.ood_margin, c.push) == (10, 0.75, 1.5, "margin")
    assert (c.vae_beta, c.vae_hidden, c.steps, c.batch) == (0.5, 400, 100000, 512)
    assert (c.actor_rate, c.rate, c.target_rate, c.hidden) == (1e-4, 1e-3, 0.005, (256, 256))


def test_another_push_is_an_error():
    with pytest.raises(ValueError, match="push is 'hard', expected one of margin, linear"):
        CpqConfig(push="hard")
    assert CpqConfig(push="linear").push == "linear"


def test_limit_is_converted_from_an_episodes_cost_or_given():
    """l (1 - gamma^T) / ((1 - gamma) T), times the cost scale."""
    config = CpqConfig(**SMALL, episode_limit=6.0, gamma=0.8, horizon=3, cost_scale=2.5)
    assert Cpq(config, Data()).limit == pytest.approx(2.5 * 6.0 * (1 + 0.8 + 0.64) / 3)
    config = CpqConfig(**SMALL, episode_limit=6.0, limit=0.7, cost_scale=2.5)
    assert Cpq(config, Data()).limit == 0.7
    assert Cpq(CpqConfig(**SMALL), Data()).limit == pytest.approx(1.0, rel=1e-4)


# Actions unlike the data


@pytest.mark.parametrize(("n", "quantile"), [(3, 0.75), (4, 0.5), (2, 0.9), (3, 0.0), (3, 1.0)])
@pytest.mark.parametrize("piece", [256, 4])
def test_cost_of_actions_unlike_the_data(monkeypatch, n, quantile, piece):
    """The mean of both heads over the actions at or above the divergence's quantile."""
    monkeypatch.setattr(cpq_module, "PIECE", piece)
    algorithm = make(ood_actions=n, ood_quantile=quantile)
    found = algorithm.ood_value(torch.tensor(ROWS), torch.Generator().manual_seed(4))
    chosen, far = far_actions(torch.Generator().manual_seed(4), n, quantile)
    assert 0 < len(chosen) <= 5 * n and (quantile == 0.0) == bool(far.all())
    expected = np.mean([heads(row, (2, 3), SLOPES_C, a) for row, a in chosen])
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert algorithm.q_c.shift.grad.tolist() == pytest.approx([0.5, 0.5])
    assert algorithm.actor.body.mean.grad is None, "the push must not move the actor"
    left = 5 * n
    sizes = []
    while left > 0:
        sizes.append(min(piece, left))
        left -= piece
    assert algorithm.vae.pieces == sizes


def test_rows_are_taken_in_pieces_of_256():
    assert cpq_module.PIECE == 256


@pytest.mark.parametrize("piece", [256, 4])
def test_members_have_their_own_quantile(monkeypatch, piece):
    monkeypatch.setattr(cpq_module, "PIECE", piece)
    algorithm = make(members=2, ood_actions=3, ood_quantile=0.75)
    rows = torch.tensor([ROWS, [[x + 1.0 for x in row] for row in ROWS]])
    rows[1, :, 4] = torch.tensor([0.0, 0.4, -0.3, 0.9, -1.2])
    found = algorithm.ood_value(rows, torch.Generator().manual_seed(4))
    noise = normal(torch.Generator().manual_seed(4), 2, 15, 1)[..., 0]
    expected = []
    for k in range(2):
        wide = [row for row in rows[k].tolist() for _ in range(3)]
        act = actions(wide, noise[k])
        divergence = (act - np.array([row[5] for row in wide])) ** 2
        far = divergence >= np.quantile(divergence, 0.75)
        values = [np.mean(heads(r, (2, 3), SLOPES_C, a)) for r, a, f in zip(wide, act, far) if f]
        expected.append(np.mean(values))
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


# The critics' step


def expected_step(algorithm, c, weight=0.0):
    """One step of the critics and of log alpha, written out; noise drawn as a batch, then for the
    push.
    """
    generator, n = torch.Generator().manual_seed(9), len(ROWS)
    act = actions(AFTER, normal(generator, n, 1)[:, 0])
    shift = {"r": np.zeros(2), "c": np.zeros(2)}
    loss, means = {"r": 0.0, "c": 0.0}, {"r": 0.0, "c": 0.0}
    for i, (row, after, a_next) in enumerate(zip(ROWS, AFTER, act)):
        next_r = min(heads(after, (0, 1), SLOPES_R, a_next, (0.3, -0.6)))
        next_c = min(heads(after, (2, 3), SLOPES_C, a_next, (-0.6, 0.3)))
        go_on = c["gamma"] * (1 - TERMINAL[i])
        target = {
            "r": REWARD[i] + (go_on * next_r if next_c <= algorithm.limit else 0.0),
            "c": c["cost_scale"] * COST[i] + go_on * next_c,
        }
        for key, pair, slopes in (("r", (0, 1), SLOPES_R), ("c", (2, 3), SLOPES_C)):
            error = np.array(heads(row, pair, slopes, ACT[i])) - target[key]
            shift[key] -= RATE * 2 * error / n
            loss[key] += (error**2).sum() / n
            means[key] += target[key] / n
    chosen, _ = far_actions(generator, c["ood_actions"], c["ood_quantile"])
    outside = np.mean([heads(row, (2, 3), SLOPES_C, a) for row, a in chosen])
    gap = outside - c["ood_margin"] * algorithm.limit
    alpha = math.exp(weight)
    if c["push"] == "linear" or gap < 0:
        shift["c"] += RATE * alpha / 2
    return shift, weight - RATE * alpha * gap, loss, means, outside, gap


CASES = [
    {"limit": 1.5},  # The gap is negative: the push acts.
    {"limit": 1.2},  # A little above 0: no push.
    {
        "limit": 0.4,
        "push": "linear",
        "gamma": 0.7,
        "ood_margin": 0.5,
    },  # Positive, pushed all the same.
    {"limit": 0.4, "gamma": 0.7, "ood_margin": 0.5},  # Positive, margin reached: no push.
    {
        "limit": 2.0,
        "gamma": 0.6,
        "cost_scale": 3.0,
        "target_rate": 0.3,
        "ood_actions": 4,
        "ood_quantile": 0.5,
    },
]


@pytest.mark.parametrize("weight", [0.0, -0.7])
@pytest.mark.parametrize("changes", CASES)
def test_one_step_of_the_critics(changes, weight):
    """Targets from the lesser heads, reward only through next actions within the limit; alpha by
    dual ascent.
    """
    algorithm = make(**changes)
    algorithm.weight[0].data.fill_(weight)
    c = {**vars(CpqConfig()), **changes}
    shift, moved, loss, means, outside, gap = expected_step(algorithm, c, weight)
    assert (gap > 0) == (changes["limit"] in (0.4, 1.2))
    assert changes["limit"] != 1.2 or gap < 0.5
    batch = batch_of(ROWS, ACT, REWARD, COST, AFTER, TERMINAL, TIMEOUT)
    found = algorithm.update_critics(batch, torch.Generator().manual_seed(9))
    assert algorithm.q_r.shift.tolist() == pytest.approx(shift["r"].tolist(), rel=1e-4)
    assert algorithm.q_c.shift.tolist() == pytest.approx(shift["c"].tolist(), rel=1e-4)
    assert algorithm.weight[0].item() == pytest.approx(moved, rel=1e-4)
    rate = c["target_rate"]
    for target, key, old in (
        (algorithm.q_r_target, "r", np.array([0.3, -0.6])),
        (algorithm.q_c_target, "c", np.array([-0.6, 0.3])),
    ):
        assert target.shift.tolist() == pytest.approx(
            (old + rate * (shift[key] - old)).tolist(), rel=1e-4
        )
    assert found["q_r_loss"].item() == pytest.approx(loss["r"], rel=1e-4)
    assert found["q_c_loss"].item() == pytest.approx(loss["c"], rel=1e-4)
    assert found["q_r"].item() == pytest.approx(means["r"], rel=1e-4)
    assert found["q_c"].item() == pytest.approx(means["c"], rel=1e-4)
    assert found["q_c_ood"].item() == pytest.approx(outside, rel=1e-4)
    assert found["alpha"].item() == pytest.approx(math.exp(weight), rel=1e-5)


@pytest.mark.parametrize(("cost", "expected"), [(1.5, 5.0), (1.50001, 3.0), (1.4999, 5.0)])
def test_next_actions_at_the_limit_count_as_within(cost, expected):
    """r + gamma 1{Q_c' <= l} Q_r' = 3 + 0.5 * 4."""
    algorithm = make(
        slopes_r=(0.0, 0.0), slopes_c=(0.0, 0.0), targets=(0.0, 0.0), limit=1.5, gamma=0.5
    )
    after = [[4.0, 4.0, cost, cost, 0.0, 0.0]]
    found = algorithm.update_critics(
        batch_of(after, reward=[3.0], next_obs=after), torch.Generator().manual_seed(0)
    )
    assert found["q_r"].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("raw", "alpha"), [(6.0, math.exp(5.0)), (-6.0, math.exp(-5.0)), (4.9, math.exp(4.9))]
)
def test_log_alpha_is_kept_within_five(raw, alpha):
    algorithm = make(limit=1.0)
    algorithm.weight[0].data.fill_(raw)
    algorithm.weight_optimizer = torch.optim.SGD(algorithm.weight.parameters(), 1e-9)
    found = algorithm.update_critics(batch_of(ROWS), torch.Generator().manual_seed(0))
    assert found["alpha"].item() == pytest.approx(alpha, rel=1e-5)
    assert algorithm.weight[0].item() == pytest.approx(max(-5.0, min(5.0, raw)))


@pytest.mark.parametrize(("limit", "expected"), [(100.0, 5.0), (-100.0, -5.0)])
def test_log_alpha_is_cut_after_a_step(limit, expected):
    """Ascent while the gap is negative, descent while it is positive."""
    algorithm = make(limit=limit)
    algorithm.update_critics(batch_of(ROWS), torch.Generator().manual_seed(0))
    assert algorithm.weight[0].item() == expected


@pytest.mark.parametrize(("raw", "limit"), [(5.0, 0.0), (-5.0, 100.0)])
def test_log_alpha_at_its_bound_can_come_back(raw, limit):
    algorithm = make(limit=limit)
    algorithm.weight[0].data.fill_(raw)
    rate = 1e-4 if raw > 0 else RATE
    algorithm.weight_optimizer = torch.optim.SGD(algorithm.weight.parameters(), rate)
    algorithm.update_critics(batch_of(ROWS), torch.Generator().manual_seed(0))
    assert abs(algorithm.weight[0].item()) < 4.99


def test_members_have_their_own_alpha():
    algorithm = make(members=2, limit=1.0)
    assert algorithm.weight[0].shape == (2,)
    rows = torch.tensor([ROWS, ROWS])
    rows[0, :, 2:4] -= 3.0
    rows[1, :, 2:4] += 3.0
    algorithm.update_critics(batch_of(rows.tolist()), torch.Generator().manual_seed(0))
    assert algorithm.weight[0][0] > 0.1 and algorithm.weight[0][1] < -0.1


# The whole step


def test_one_step_of_auto_encoder_and_actor(monkeypatch):
    """The actor ascends the lesser Q_r, where the lesser Q_c keeps the limit; no gradient of Q_c
    itself.
    """
    algorithm = make(limit=0.45, vae_beta=0.7, batch=5)
    seen = []
    monkeypatch.setattr(
        algorithm,
        "update_critics",
        lambda *given: seen.append(given) or {"other": torch.tensor(1.0)},
    )
    batch = batch_of(ROWS, ACT)
    data, source = Data(batch), torch.Generator().manual_seed(2)
    found = algorithm.update("policy", 0, data, source)
    assert data.shapes == [((5,), source)] and seen == [(batch, source)]
    generator = torch.Generator().manual_seed(2)
    z = normal(generator, 5, 2)
    ((obs, noise, beta),) = algorithm.vae.calls
    assert obs is batch.obs
    assert noise.numpy().tolist() == z.tolist() and beta == 0.7
    slope = np.mean([a * a + 0.5 for a in ACT])
    assert algorithm.vae.scale.item() == pytest.approx(3.0 - RATE * slope, rel=1e-5)
    assert found["vae_loss"].item() == pytest.approx(3.0 * slope, rel=1e-5)
    drawn = normal(generator, 5, 1)[:, 0]
    gain, wider, loss, cost, within = 0.0, 0.0, 0.0, 0.0, 0
    for row, a, e in zip(ROWS, actions(ROWS, drawn), drawn):
        q_r, q_c = heads(row, (0, 1), SLOPES_R, a), min(heads(row, (2, 3), SLOPES_C, a))
        cost += q_c / 5
        if q_c <= 0.45:
            best = SLOPES_R[int(np.argmin(q_r))] * (1 - a * a)
            gain += best / 5
            wider += best * math.exp(-1) * e / 5
            loss -= min(q_r) / 5
            within += 1
    assert 0 < within < 5
    assert algorithm.actor.body.mean.item() == pytest.approx(RATE * gain, rel=1e-4)
    assert algorithm.actor.body.log_std.item() == pytest.approx(RATE * wider, rel=1e-4)
    assert found["actor_loss"].item() == pytest.approx(loss, rel=1e-4)
    assert found["q_c_policy"].item() == pytest.approx(cost, rel=1e-4)
    assert found["other"].item() == 1.0
    assert algorithm.q_r.shift.tolist() == [0.0, 0.0] and algorithm.q_c.shift.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("cost", "moves"), [(0.45, True), (0.4501, False)])
def test_actors_action_at_the_limit_counts_as_within(monkeypatch, cost, moves):
    algorithm = make(slopes_c=(0.0, 0.0), limit=0.45)
    algorithm.limit = float(torch.tensor(0.45))
    monkeypatch.setattr(algorithm, "update_critics", lambda batch, generator: {})
    rows = [[1.0, 9.0, cost, 7.0, 0.0, 0.0]]
    algorithm.update("policy", 0, Data(batch_of(rows)), torch.Generator().manual_seed(0))
    assert (algorithm.actor.body.mean.item() > 0.01) == moves


def test_a_step_of_members_draws_for_each_of_them():
    algorithm = make(members=2, limit=1.0, batch=5)
    data = Data(batch_of([ROWS, AFTER], [ACT, ACT]))
    algorithm.update("policy", 0, data, torch.Generator().manual_seed(2))
    assert data.shapes[0][0] == (2, 5)
    assert algorithm.vae.calls[0][1].shape == (2, 5, 2)


def test_a_step_trains_the_critics_too():
    algorithm = make(limit=1.0)
    data = Data(batch_of(ROWS, ACT, REWARD, COST, AFTER, TERMINAL))
    found = algorithm.update("policy", 0, data, torch.Generator().manual_seed(2))
    assert {"q_r_loss", "q_c_ood", "alpha", "vae_loss", "actor_loss", "q_c_policy"} <= set(found)
    assert algorithm.q_r.shift.abs().min() > 0 and algorithm.q_c.shift.abs().min() > 0


# Construction and deployment


def parameters(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("members", [None, 3])
def test_networks_have_the_settings_sizes(members):
    config = CpqConfig(hidden=(5, 4), vae_hidden=7, rate=0.007, actor_rate=0.003, steps=11, batch=6)
    algorithm = Cpq(config, Data(), members)
    n = 2 * (members or 1)
    for critic in (algorithm.q_r, algorithm.q_c, algorithm.q_r_target, algorithm.q_c_target):
        assert [tuple(x.weight.shape) for x in critic.layers] == [(n, 7, 5), (n, 5, 4), (n, 4, 1)]
        assert critic.members == members

    def shapes(mlp):
        sizes = [tuple(m.weight.shape) for m in mlp.net if not isinstance(m, nn.ReLU)]
        return [x[::-1] for x in sizes] if members is None else sizes

    lead = () if members is None else (3,)
    assert shapes(algorithm.actor.body) == [(*lead, 6, 5), (*lead, 5, 4), (*lead, 4, 2)]
    assert shapes(algorithm.vae.encoder) == [(*lead, 7, 7), (*lead, 7, 7), (*lead, 7, 4)]
    assert algorithm.weight[0].tolist() == (0.0 if members is None else [0.0] * 3)
    assert algorithm.steps("policy") == 11 and algorithm.stages == ("policy",)
    pairs = (
        (algorithm.critic_optimizer, (algorithm.q_r, algorithm.q_c), 0.007),
        (algorithm.actor_optimizer, (algorithm.actor,), 0.003),
        (algorithm.vae_optimizer, (algorithm.vae,), 0.007),
        (algorithm.weight_optimizer, (algorithm.weight,), 0.007),
    )
    for optimizer, modules, rate in pairs:
        assert parameters(optimizer) == {id(p) for m in modules for p in m.parameters()}
        assert isinstance(optimizer, torch.optim.Adam) and optimizer.param_groups[0]["lr"] == rate
    for source, copied in (
        (algorithm.q_r, algorithm.q_r_target),
        (algorithm.q_c, algorithm.q_c_target),
    ):
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), copied.parameters()))
        assert not any(p.requires_grad for p in copied.parameters())
    assert not torch.equal(algorithm.q_r.layers[0].weight, algorithm.q_c.layers[0].weight)
    assert set(algorithm.state_dict()) == {
        "actor",
        "q_r",
        "q_r_target",
        "q_c",
        "q_c_target",
        "vae",
        "weight",
        "actor_optimizer",
        "critic_optimizer",
        "vae_optimizer",
        "weight_optimizer",
    }


@pytest.mark.parametrize("member", [None, 0, 2])
def test_policy_is_the_tanh_of_the_mean_of_the_normalised_observation(member):
    algorithm = Cpq(CpqConfig(hidden=(5, 4), vae_hidden=3), Data(), None if member is None else 3)
    policy = algorithm.policy() if member is None else algorithm.policy(member=member)
    obs = torch.randn(7, 6)
    seen = (obs - torch.arange(6.0)) / 2.0
    lead = seen if member is None else seen.expand(3, -1, -1)
    mean = torch.tanh(algorithm.actor.parameters_of(lead)[0]).detach()
    with torch.no_grad():
        found = policy(obs, torch.randn(7, 1, 1, 1))[0]
    torch.testing.assert_close(found, mean if member is None else mean[member])
    assert policy.sizes == [6, 5, 4, 1] and policy.unit == 1.0 and not policy.training
    assert policy.std.tolist() == [0.0] and policy.squash and policy.activation == "relu"
    assert policy.normalizer is algorithm.normalizer


def test_the_first_members_policy_is_given_unless_another_is_asked_for():
    algorithm = Cpq(CpqConfig(**SMALL), Data(), 2)
    found, first, second = (
        algorithm.policy(**asked).mlp[0].weight for asked in ({}, {"member": 0}, {"member": 1})
    )
    assert torch.equal(found, first) and not torch.equal(found, second)


def test_noise_is_standard_normal_of_the_actions_shape():
    algorithm = make()
    found = algorithm._noise(torch.zeros(2, 4, 6), torch.Generator().manual_seed(3))
    expected = torch.randn((2, 4, 1), generator=torch.Generator().manual_seed(3))
    assert torch.equal(found, expected)


def test_networks_are_built_on_the_datas_device():
    """Nothing is computed there; only places are looked at."""
    data = Data()
    data.device = torch.device("meta")
    algorithm = Cpq(CpqConfig(**SMALL), data)
    for name in Cpq.modules:
        assert {p.device.type for p in getattr(algorithm, name).parameters()} == {"meta"}
