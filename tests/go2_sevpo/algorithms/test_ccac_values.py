"""CCAC in numbers: budgets, critics, the push on generated pairs, actor and multipliers.

The networks are replaced by ones that read their values off the observation, so that each line of
a batch says which values it stands for.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from go2_sevpo.algorithms.ccac import LOG_WEIGHT, Ccac, CcacConfig
from go2_sevpo.data.dataset import Batch

RATE = 0.1
"""Of plain gradient descent in these tests."""

SLOPES_R, SLOPES_C = (0.5, -0.25, 0.1, 0.9), (0.75, 1.25, -0.5, 0.3)
OFFSETS_R, OFFSETS_C = (0.0, 0.3, -0.1, -0.4), (0.2, -0.3, 0.1, 0.5)
TARGET_R, TARGET_C = (0.6, -0.2, 0.3, 0.1), (-0.5, 0.4, 0.2, -0.1)
"""Of four heads each: slopes in the action, and constants of the networks and of their targets."""


class Heads(nn.Module):
    """Values (4, B): a column, twice the budget's feature (the last column), a slope of the
    action, a constant.
    """

    def __init__(self, column, slopes, constants):
        super().__init__()
        self.column, self.slopes = column, torch.tensor(slopes)
        self.shift = nn.Parameter(torch.tensor(constants))

    def forward(self, obs, act):
        x = obs[..., self.column, None] + 2.0 * obs[..., -1:] + self.shift + self.slopes * act
        return x.movedim(-1, 0)


class Body(nn.Module):
    """An actor's network: the mean is column 2 plus the budget's feature plus a trained shift."""

    def __init__(self):
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, obs):
        mean = obs[..., 2:3] + obs[..., -1:] + self.mean
        return torch.cat([mean, 0.0 * mean - 1.0 + self.log_std], -1)


class Multiplier(nn.Module):
    """log lambda = constant - feature / 2."""

    def __init__(self, constant):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(constant))

    def forward(self, feature):
        return self.shift - 0.5 * feature


class Classifier(nn.Module):
    """Dear where observation, action and minus twice the reference's feature sum up to more than
    0.
    """

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, obs, act, feature):
        return obs[..., :1] + act - 2.0 * feature + self.shift


class Pairs(nn.Module):
    """Generated pairs: the latent is the observation's first two numbers and the action's; keeps
    what it was given.
    """

    latent = 2

    def __init__(self):
        super().__init__()
        self.scale, self.calls = nn.Parameter(torch.tensor(3.0)), []

    def decode(self, z, condition):
        return torch.cat([z, condition], -1), torch.tanh(0.5 * z[..., 1:])

    def loss(self, obs, act, condition, noise, beta):
        self.calls.append((condition, noise, beta))
        return self.scale * (act[..., 0].square() + obs[..., 0] + 2.0)


class Data:
    """As much of a dataset as the algorithm asks for."""

    num_obs, num_actions, device, lidar = 3, 1, torch.device("cpu"), None
    mean, std = torch.arange(3.0), torch.full((3,), 2.0)

    def __init__(self, size=40):
        self.cost_to_go = torch.arange(float(size)) + 100.0

    def __len__(self):
        return len(self.cost_to_go)

    def rows(self, index):
        zero = torch.zeros(index.shape)
        return Batch(index[..., None].float(), zero, zero, zero, zero, zero, zero, index)


SMALL = {"hidden": (3,), "vae_hidden": 4, "latent": 2, "weight_hidden": 3}
ROWS = [[0.5, 0.3, 0.2], [-1.0, -0.8, -0.4], [0.7, 0.1, 0.6], [0.3, -1.5, -0.9], [-0.2, 0.9, 0.1]]
AFTER = [[0.1, 0.4, -0.3], [0.9, -0.7, 0.5], [-2.0, 0.6, 0.0], [1.1, -0.3, 0.8], [-0.6, 0.2, -1.1]]
ACT, REWARD = [0.2, -0.4, 0.6, 0.1, -0.8], [1.0, -0.5, 0.3, 2.0, 0.7]
COST, TERMINAL, TIMEOUT = (
    [0.0, 0.5, 0.0, 1.0, 3.0],
    [0.0, 0.0, 1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0, 0.0],
)
KAPPA, REFERENCE = [4.0, 0.5, 0.0, 7.0, 2.0], [1.0, 3.0, 0.0, 9.0, 0.25]


def batch_of():
    obs, act, reward, cost, after, terminal, timeout = map(
        torch.tensor, (ROWS, ACT, REWARD, COST, AFTER, TERMINAL, TIMEOUT)
    )
    return Batch(obs, act[:, None], reward, cost, after, terminal, timeout)


def make(members=None, **changes):
    """CCAC whose networks read the observation, trained by plain gradient descent."""
    algorithm = Ccac(
        CcacConfig(**{**SMALL, "episode_limit": 5.0, "limit": 2.0, **changes}), Data(), members
    )
    algorithm.q_r, algorithm.q_c = Heads(0, SLOPES_R, OFFSETS_R), Heads(1, SLOPES_C, OFFSETS_C)
    algorithm.q_r_target = Heads(0, SLOPES_R, TARGET_R).requires_grad_(False)
    algorithm.q_c_target = Heads(1, SLOPES_C, TARGET_C).requires_grad_(False)
    algorithm.actor.body, algorithm.vae, algorithm.classifier = Body(), Pairs(), Classifier()
    algorithm.weights = nn.ModuleList([Multiplier(0.4), Multiplier(-0.6)])

    def descent(*modules):
        return torch.optim.SGD([p for m in modules for p in m.parameters()], RATE)

    algorithm.critic_optimizer = descent(algorithm.q_r, algorithm.q_c)
    algorithm.actor_optimizer = descent(algorithm.actor)
    algorithm.vae_optimizer = descent(algorithm.vae, algorithm.classifier)
    algorithm.weight_optimizer = descent(algorithm.weights)
    return algorithm


def feature(kappa, scale=5.0):
    return kappa / (kappa + scale)


def softplus(x):
    return math.log1p(math.exp(x))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def heads(row, column, kappa, act, slopes, constants):
    return [row[column] + 2 * feature(kappa) + k + s * act for s, k in zip(slopes, constants)]


def normal(generator, *shape):
    return torch.randn(shape, generator=generator).numpy()


def action(row, kappa, noise):
    return math.tanh(row[2] + feature(kappa) + math.exp(-1) * noise)


# Settings and budgets


def test_defaults_are_the_authors():
    c = CcacConfig()
    assert (c.episode_limit, c.limit, c.horizon, c.gamma, c.heads) == (10.0, None, 1000, 0.99, 4)
    assert (c.vae_beta, c.vae_hidden, c.latent) == (0.5, 512, 64)
    assert (c.vae_steps, c.steps, c.batch) == (200000, 200000, 512)
    assert (c.actor_rate, c.rate, c.target_rate) == (1e-4, 1e-3, 0.005)
    assert (c.hidden, c.weight_hidden) == ((256, 256), 64)
    assert LOG_WEIGHT == (-20.0, 5.0)


def test_a_unit_of_budget_is_worth_its_discounted_value():
    """(1 - gamma^T) / ((1 - gamma) T); a given limit is the value of the episode's limit."""
    found = Ccac(CcacConfig(**SMALL, episode_limit=6.0, gamma=0.8, horizon=3), Data())
    assert found.rate == pytest.approx((1 + 0.8 + 0.64) / 3)
    assert found.scale == 6.0
    assert Ccac(CcacConfig(**SMALL), Data()).rate == pytest.approx(0.1, rel=1e-4)
    assert Ccac(CcacConfig(**SMALL, episode_limit=8.0, limit=2.0), Data()).rate == 0.25
    assert Ccac(CcacConfig(**SMALL, episode_limit=8.0, limit=0.0), Data()).rate == 0.0


@pytest.mark.parametrize(("limit", "scale"), [(0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (12.0, 12.0)])
def test_budgets_are_seen_in_units_of_the_limit(limit, scale):
    """kappa / (kappa + l), with 1 for a limit of 0; one more axis."""
    algorithm = Ccac(CcacConfig(**SMALL, episode_limit=limit), Data())
    assert algorithm.scale == scale
    found = algorithm.feature(torch.tensor([0.0, 0.5, 3.0]))
    assert found.shape == (3, 1)
    assert found[:, 0].tolist() == pytest.approx([feature(k, scale) for k in (0.0, 0.5, 3.0)])


def test_cost_values_are_never_negative():
    algorithm = make()
    obs = torch.tensor([[0.0, -9.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.5]])
    found = algorithm.cost_of(algorithm.q_c, obs, torch.tensor([[0.2], [-0.4]]))
    for h in range(4):
        raw = [-9.0 + OFFSETS_C[h] + 0.2 * SLOPES_C[h], 2.0 + OFFSETS_C[h] - 0.4 * SLOPES_C[h]]
        assert found[h].tolist() == pytest.approx([softplus(x) for x in raw], rel=1e-5)


def test_multipliers_depend_on_the_budget_and_are_bounded():
    """exp(net(feature)), the exponent within [-20, 5]; the first of generated pairs, the second of
    the policy.
    """
    algorithm = make()
    kappa = torch.tensor([0.0, 5.0])
    for k, constant in enumerate((0.4, -0.6)):
        expected = [math.exp(constant), math.exp(constant - 0.25)]
        assert algorithm.weight(k, kappa).tolist() == pytest.approx(expected, rel=1e-6)
    for raw, bounded in ((5.1, 5.0), (4.9, 4.9), (-19.9, -19.9), (-20.1, -20.0)):
        algorithm.weights[1].shift.data.fill_(raw)
        assert algorithm.weight(1, torch.zeros(1)).item() == pytest.approx(
            math.exp(bounded), rel=1e-5
        )


def test_a_draw_has_the_budgets_of_its_rows_and_those_of_others():
    algorithm, data = make(batch=30), Data()
    batch, kappa, reference = algorithm.draw(data, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    index, other = (torch.randint(40, (30,), generator=generator) for _ in range(2))
    assert torch.equal(batch.index, index)
    assert torch.equal(kappa, index + 100.0) and torch.equal(reference, other + 100.0)
    several = make(members=2, batch=30).draw(data, torch.Generator().manual_seed(1))
    assert several[0].index.shape == several[1].shape == several[2].shape == (2, 30)


def test_noise_and_latents_are_standard_normal():
    algorithm = make()
    found = algorithm._noise(torch.zeros(2, 7, 4), torch.Generator().manual_seed(1))
    assert torch.equal(found, torch.randn(2, 7, 1, generator=torch.Generator().manual_seed(1)))
    found = algorithm._latent(torch.zeros(2, 7), torch.Generator().manual_seed(1))
    assert torch.equal(found, torch.randn(2, 7, 2, generator=torch.Generator().manual_seed(1)))


# Auto-encoder and classifier


def test_one_step_of_auto_encoder_and_classifier(monkeypatch):
    """The classifier learns kappa > reference of pairs; equal budgets are not dear."""
    algorithm = make(vae_beta=0.7)
    algorithm.classifier.shift.data.fill_(1.2)
    batch, kappa, reference = batch_of(), torch.tensor(KAPPA), torch.tensor(REFERENCE)
    monkeypatch.setattr(algorithm, "draw", lambda data, generator: (batch, kappa, reference))
    found = algorithm.update("vae", 0, Data(), torch.Generator().manual_seed(6))
    ((condition, noise, beta),) = algorithm.vae.calls
    expected = [feature(k) for k in KAPPA]
    assert condition[:, 0].tolist() == pytest.approx(expected) and beta == 0.7
    assert torch.equal(noise, torch.randn(5, 2, generator=torch.Generator().manual_seed(6)))
    slope = np.mean([a * a + row[0] + 2.0 for a, row in zip(ACT, ROWS)])
    assert algorithm.vae.scale.item() == pytest.approx(3.0 - RATE * slope, rel=1e-5)
    labels = [1.0, 0.0, 0.0, 0.0, 1.0]
    logits = [row[0] + a - 2 * feature(r) + 1.2 for row, a, r in zip(ROWS, ACT, REFERENCE)]
    gradient = np.mean([sigmoid(x) - y for x, y in zip(logits, labels)])
    assert algorithm.classifier.shift.item() == pytest.approx(1.2 - RATE * gradient, rel=1e-5)
    assert found["vae_loss"].item() == pytest.approx(3.0 * slope, rel=1e-5)
    loss = np.mean([softplus(x) - y * x for x, y in zip(logits, labels)])
    assert found["class_loss"].item() == pytest.approx(loss, rel=1e-5)
    right = np.mean([(x > 0) == (y > 0) for x, y in zip(logits, labels)])
    assert 0 < right < 1 and right != np.mean([x <= 0 for x in logits])
    assert found["class_right"].item() == pytest.approx(right)
    assert algorithm.q_r.shift.tolist() == pytest.approx(OFFSETS_R), "critics wait for their stage"


@pytest.mark.parametrize(("logit", "right"), [(0.0, 0.6), (0.5, 0.4), (-0.5, 0.6)])
def test_the_classifier_calls_a_pair_dear_from_above_a_logit_of_0(monkeypatch, logit, right):
    """Two of the five pairs are dear."""
    algorithm = make()
    drawn = batch_of(), torch.tensor(KAPPA), torch.tensor(REFERENCE)
    monkeypatch.setattr(algorithm, "draw", lambda data, generator: drawn)
    shift = algorithm.classifier.shift
    shift.data.fill_(logit)
    algorithm.classifier.forward = lambda obs, act, feature: torch.zeros_like(act) + shift
    found = algorithm.update("vae", 0, Data(), torch.Generator().manual_seed(6))
    assert found["class_right"].item() == pytest.approx(right)


# Generated pairs


def generated(generator, constants=OFFSETS_C):
    """Raw cost values (5, 4) of the generated pairs at their references, and which are dear."""
    z = normal(generator, 5, 2)
    raw, dear = [], []
    for i in range(5):
        act = math.tanh(0.5 * z[i, 1])
        dear.append(z[i, 0] + act - 2 * feature(REFERENCE[i]) > 0)
        raw.append(heads([*z[i], feature(KAPPA[i])], 1, REFERENCE[i], act, SLOPES_C, constants))
    return raw, dear


def test_gap_of_generated_pairs():
    """Mean cost value at the reference budget, less that budget's discounted value (2 / 5 per
    unit).
    """
    algorithm = make()
    found, dear = algorithm.generated_gap(
        torch.tensor(KAPPA), torch.tensor(REFERENCE), torch.Generator().manual_seed(4)
    )
    raw, expected = generated(torch.Generator().manual_seed(4))
    assert dear.tolist() == [float(x) for x in expected] and 0 < sum(expected) < 5
    gap = [np.mean([softplus(x) for x in row]) - 0.4 * r for row, r in zip(raw, REFERENCE)]
    assert found.tolist() == pytest.approx(gap, rel=1e-5, abs=1e-6)
    assert found.requires_grad and not dear.requires_grad


def test_pairs_are_decoded_at_the_budget_of_the_data():
    """The third number of a decoded observation is the feature it was decoded with."""
    algorithm = make()
    algorithm.q_c.column = 2
    found, _ = algorithm.generated_gap(
        torch.tensor(KAPPA), torch.tensor(REFERENCE), torch.Generator().manual_seed(8)
    )
    z = normal(torch.Generator().manual_seed(8), 5, 2)
    for i in range(5):
        row = [0.0, 0.0, feature(KAPPA[i])]
        raw = heads(row, 2, REFERENCE[i], math.tanh(0.5 * z[i, 1]), SLOPES_C, OFFSETS_C)
        expected = np.mean([softplus(x) for x in raw]) - 0.4 * REFERENCE[i]
        assert found[i].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_classifier_that_cannot_tell_finds_nothing_dear():
    """Dear needs a logit above 0."""
    algorithm = make()
    algorithm.classifier.forward = lambda obs, act, feature: torch.zeros(len(obs), 1)
    _, dear = algorithm.generated_gap(
        torch.tensor(KAPPA), torch.tensor(REFERENCE), torch.Generator().manual_seed(8)
    )
    assert dear.tolist() == [0.0] * 5


# The critics' step


@pytest.mark.parametrize(
    "changes",
    [{}, {"gamma": 0.6, "target_rate": 0.3}, {"limit": 40.0}, {"limit": None, "horizon": 3}],
)
def test_one_step_of_the_critics(changes):
    """Targets at what is left of the budget; the push raises the cost of dear pairs; lambda_1 by
    dual ascent.
    """
    algorithm = make(**changes)
    gamma, rate = changes.get("gamma", 0.99), changes.get("target_rate", 0.005)
    unit = 2.0 / 5.0
    if "limit" in changes:
        unit = 8.0 if changes["limit"] else (1 + 0.99 + 0.99**2) / 3
    found = algorithm.update_critics(
        batch_of(), torch.tensor(KAPPA), torch.tensor(REFERENCE), torch.Generator().manual_seed(8)
    )
    generator = torch.Generator().manual_seed(8)
    noise = normal(generator, 5, 1)[:, 0]
    shift_r, shift_c = np.zeros(4), np.zeros(4)
    loss_r = loss_c = mean_r = mean_c = 0.0
    for i in range(5):
        left = max(KAPPA[i] - COST[i], 0.0)
        act = action(AFTER[i], left, noise[i])
        next_r = min(heads(AFTER[i], 0, left, act, SLOPES_R, TARGET_R))
        next_c = min(softplus(x) for x in heads(AFTER[i], 1, left, act, SLOPES_C, TARGET_C))
        target_r = REWARD[i] + gamma * (1 - TERMINAL[i]) * next_r
        target_c = COST[i] + gamma * (1 - TERMINAL[i]) * next_c
        q_r = np.array(heads(ROWS[i], 0, KAPPA[i], ACT[i], SLOPES_R, OFFSETS_R))
        raw = heads(ROWS[i], 1, KAPPA[i], ACT[i], SLOPES_C, OFFSETS_C)
        q_c, slope = np.array([softplus(x) for x in raw]), np.array([sigmoid(x) for x in raw])
        shift_r -= RATE * 2 * (q_r - target_r) / 5
        shift_c -= RATE * 2 * (q_c - target_c) * slope / 5
        loss_r += ((q_r - target_r) ** 2).sum() / 5
        loss_c += ((q_c - target_c) ** 2).sum() / 5
        mean_r, mean_c = mean_r + target_r / 5, mean_c + target_c / 5
    raw, dear = generated(generator)
    count, dual = sum(dear), 0.0
    assert 0 < count < 5
    weights = [math.exp(0.4 - 0.5 * feature(r)) for r in REFERENCE]
    for i in range(5):
        if dear[i]:
            gap = np.mean([softplus(x) for x in raw[i]]) - unit * REFERENCE[i]
            shift_c += RATE * weights[i] * np.array([sigmoid(x) for x in raw[i]]) / 4 / count
            dual += weights[i] * gap / count
    np.testing.assert_allclose(
        algorithm.q_r.shift.tolist(), OFFSETS_R + shift_r, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        algorithm.q_c.shift.tolist(), OFFSETS_C + shift_c, rtol=1e-4, atol=1e-6
    )
    assert algorithm.weights[0].shift.item() == pytest.approx(0.4 - RATE * dual, rel=1e-4)
    assert algorithm.weights[1].shift.item() == pytest.approx(-0.6)
    for target, old, new in (
        (algorithm.q_r_target, np.array(TARGET_R), OFFSETS_R + shift_r),
        (algorithm.q_c_target, np.array(TARGET_C), OFFSETS_C + shift_c),
    ):
        expected = old + rate * (new - old)
        np.testing.assert_allclose(target.shift.tolist(), expected, rtol=1e-4, atol=1e-6)
    assert found["q_r_loss"].item() == pytest.approx(loss_r, rel=1e-4)
    assert found["q_c_loss"].item() == pytest.approx(loss_c, rel=1e-4)
    assert found["q_r"].item() == pytest.approx(mean_r, rel=1e-4)
    assert found["q_c"].item() == pytest.approx(mean_c, rel=1e-4)
    assert found["dear_share"].item() == pytest.approx(count / 5)
    assert found["weight_generated"].item() == pytest.approx(np.mean(weights), rel=1e-5)


def test_nothing_dear_nothing_pushed():
    algorithm, other = make(), make(limit=999.0)
    for one in (algorithm, other):
        one.classifier.shift.data.fill_(-50.0)
        one.update_critics(
            batch_of(),
            torch.tensor(KAPPA),
            torch.tensor(REFERENCE),
            torch.Generator().manual_seed(8),
        )
        assert one.weights[0].shift.item() == pytest.approx(0.4)
    assert algorithm.q_c.shift.tolist() == other.q_c.shift.tolist()


@pytest.mark.parametrize(("limit", "sign"), [(1000.0, 1), (0.0, -1)])
def test_first_multiplier_grows_while_dear_pairs_look_cheap(limit, sign):
    algorithm = make(limit=limit)
    algorithm.update_critics(
        batch_of(), torch.tensor(KAPPA), torch.tensor(REFERENCE), torch.Generator().manual_seed(8)
    )
    assert sign * (algorithm.weights[0].shift.item() - 0.4) > 1e-3


# The actor's step


@pytest.mark.parametrize("limit", [2.0, 0.1])
def test_one_step_of_the_actor_and_its_multiplier(monkeypatch, limit):
    """-Q_r + lambda_2 (Q_c - value of the budget), least heads; lambda_2 grows while the policy is
    too dear.
    """
    algorithm = make(limit=limit)
    kappa, reference, seen = torch.tensor(KAPPA), torch.tensor(REFERENCE), []
    batch = batch_of()
    monkeypatch.setattr(algorithm, "draw", lambda data, generator: (batch, kappa, reference))

    def critics(*arguments):
        seen.append(arguments)
        return {"other": torch.tensor(1.0)}

    monkeypatch.setattr(algorithm, "update_critics", critics)
    source = torch.Generator().manual_seed(2)
    found = algorithm.update("policy", 0, Data(), source)
    ((first, second, third, fourth),) = seen
    assert first is batch and second is kappa and third is reference and fourth is source
    noise = normal(torch.Generator().manual_seed(2), 5, 1)[:, 0]
    gain, wider, dual, cost = 0.0, 0.0, 0.0, 0.0
    weights = [math.exp(-0.6 - 0.5 * feature(k)) for k in KAPPA]
    for i in range(5):
        act = action(ROWS[i], KAPPA[i], noise[i])
        q_r = heads(ROWS[i], 0, KAPPA[i], act, SLOPES_R, OFFSETS_R)
        raw = heads(ROWS[i], 1, KAPPA[i], act, SLOPES_C, OFFSETS_C)
        low = int(np.argmin(raw))
        over = softplus(raw[low]) - limit / 5.0 * KAPPA[i]
        slope = weights[i] * sigmoid(raw[low]) * SLOPES_C[low] - SLOPES_R[int(np.argmin(q_r))]
        gain += slope * (1 - act**2) / 5
        wider += slope * (1 - act**2) * math.exp(-1) * noise[i] / 5
        dual += weights[i] * over / 5
        cost += softplus(raw[low]) / 5
    assert algorithm.actor.body.mean.item() == pytest.approx(-RATE * gain, rel=1e-4)
    assert algorithm.actor.body.log_std.item() == pytest.approx(-RATE * wider, rel=1e-4)
    assert algorithm.weights[1].shift.item() == pytest.approx(-0.6 + RATE * dual, rel=1e-4)
    assert algorithm.weights[0].shift.item() == pytest.approx(0.4)
    assert algorithm.q_r.shift.tolist() == pytest.approx(OFFSETS_R)
    assert algorithm.q_c.shift.tolist() == pytest.approx(OFFSETS_C)
    assert found["q_c_policy"].item() == pytest.approx(cost, rel=1e-4)
    assert found["weight_policy"].item() == pytest.approx(np.mean(weights), rel=1e-5)
    assert found["other"].item() == 1.0


@pytest.mark.parametrize(("limit", "sign"), [(100.0, -1), (0.0, 1)])
def test_second_multiplier_grows_while_the_policy_is_too_dear(monkeypatch, limit, sign):
    algorithm = make(limit=limit)
    draw = batch_of(), torch.tensor(KAPPA), torch.tensor(REFERENCE)
    monkeypatch.setattr(algorithm, "draw", lambda data, generator: draw)
    algorithm.update("policy", 0, Data(), torch.Generator().manual_seed(2))
    assert sign * (algorithm.weights[1].shift.item() + 0.6) > 1e-3


SECOND = {
    "obs": torch.tensor(AFTER),
    "next_obs": torch.tensor(ROWS),
    "act": torch.tensor(ACT[::-1])[:, None],
    "reward": torch.tensor(REWARD[::-1]),
    "cost": torch.tensor(COST[::-1]),
    "terminal": torch.tensor(TERMINAL[::-1]),
    "timeout": torch.tensor(TIMEOUT),
}
"""What the second member draws."""


@pytest.mark.parametrize("part", ["vae", "critics", "policy"])
def test_two_members_move_what_they_share_by_the_sum_of_both(monkeypatch, part):
    """Means over a member's batch, sums over members; the stand-ins here are shared by all."""
    first, second = batch_of(), Batch(**SECOND)
    joined = Batch(**{k: torch.stack([getattr(first, k), v]) for k, v in SECOND.items()})
    budgets = torch.tensor([KAPPA, REFERENCE]), torch.tensor([REFERENCE, KAPPA])
    source, data, asked = torch.Generator().manual_seed(0), Data(), []

    def moved(batch, kappa, reference, members=None):
        algorithm = make(members)
        names = ("q_r", "q_c", "actor", "vae", "classifier", "weights")
        held = [p for name in names for p in getattr(algorithm, name).parameters()]
        before = [p.detach().clone() for p in held]
        # Noise that depends on the line only: each line has the same alone and among others.
        monkeypatch.setattr(algorithm, "_noise", lambda obs, given: 0.3 * obs[..., :1] - 0.1)
        monkeypatch.setattr(
            algorithm, "_latent", lambda k, given: torch.stack([0.6 * k, 1.0 - 0.1 * k], -1)
        )

        def draw(*given):
            asked.append(given)
            return batch, kappa, reference

        monkeypatch.setattr(algorithm, "draw", draw)
        if part == "critics":
            metrics = algorithm.update_critics(batch, kappa, reference, source)
            assert metrics["dear_share"] > 0
        else:
            monkeypatch.setattr(algorithm, "update_critics", lambda *given: {})
            algorithm.update(part, 0, data, source)
        return [p.detach() - old for p, old in zip(held, before)]

    lone = [moved(batch, budgets[0][k], budgets[1][k]) for k, batch in enumerate((first, second))]
    pair = moved(joined, *budgets, members=2)
    assert sum(x.abs().max() > 1e-3 for x in pair) >= 2
    for x, y, both in zip(*lone, pair):
        torch.testing.assert_close(both, x + y, rtol=1e-4, atol=1e-6)
    assert all(given == (data, source) for given in asked)
    assert len(asked) == (0 if part == "critics" else 3)


def test_stages_have_their_own_lengths():
    algorithm = make(vae_steps=7, steps=9)
    assert algorithm.stages == ("vae", "policy")
    assert (algorithm.steps("vae"), algorithm.steps("policy")) == (7, 9)


# Construction and deployment


def parameters(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("members", [None, 3])
def test_networks_have_the_settings_sizes(members):
    config = CcacConfig(
        hidden=(5, 4),
        vae_hidden=7,
        latent=6,
        weight_hidden=8,
        heads=2,
        rate=0.007,
        actor_rate=0.003,
    )
    algorithm = Ccac(config, Data(), members)
    n = 2 * (members or 1)
    for critic in (algorithm.q_r, algorithm.q_c, algorithm.q_r_target, algorithm.q_c_target):
        assert [tuple(x.weight.shape) for x in critic.layers] == [(n, 5, 5), (n, 5, 4), (n, 4, 1)]
        assert (critic.heads, critic.members) == (2, members)

    def shapes(mlp):
        sizes = [tuple(m.weight.shape) for m in mlp.net if not isinstance(m, nn.ReLU)]
        return [x[::-1] for x in sizes] if members is None else sizes

    lead = () if members is None else (3,)
    assert shapes(algorithm.actor.body) == [(*lead, 4, 5), (*lead, 5, 4), (*lead, 4, 2)]
    assert shapes(algorithm.vae.encoder) == [(*lead, 5, 7), (*lead, 7, 7), (*lead, 7, 12)]
    assert shapes(algorithm.vae.decoder) == [(*lead, 7, 7), (*lead, 7, 7), (*lead, 7, 4)]
    assert (algorithm.vae.latent, algorithm.vae.n_obs) == (6, 3)
    assert shapes(algorithm.classifier) == [(*lead, 5, 5), (*lead, 5, 4), (*lead, 4, 1)]
    assert [shapes(net) for net in algorithm.weights] == [[(*lead, 1, 8), (*lead, 8, 1)]] * 2
    pairs = (
        (algorithm.critic_optimizer, (algorithm.q_r, algorithm.q_c), 0.007),
        (algorithm.actor_optimizer, (algorithm.actor,), 0.003),
        (algorithm.vae_optimizer, (algorithm.vae, algorithm.classifier), 0.007),
        (algorithm.weight_optimizer, (algorithm.weights,), 0.003),
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
    assert set(algorithm.state_dict()) == {
        "actor",
        "q_r",
        "q_r_target",
        "q_c",
        "q_c_target",
        "vae",
        "classifier",
        "weights",
        "actor_optimizer",
        "critic_optimizer",
        "vae_optimizer",
        "weight_optimizer",
    }


@pytest.mark.parametrize("member", [None, 0, 2])
def test_policy_sees_what_is_left_of_its_budget(member):
    """tanh of the mean at (normalised observation, (l - spent) / (l - spent + l)), nothing below
    0.
    """
    config = CcacConfig(**{**SMALL, "hidden": (5, 4)}, episode_limit=6.0)
    algorithm = Ccac(config, Data(), None if member is None else 3)
    policy = algorithm.policy() if member is None else algorithm.policy(member=member)
    obs, spent = torch.randn(4, 3), torch.tensor([0.0, 2.0, 6.0, 50.0])
    left = torch.tensor([6.0, 4.0, 0.0, 0.0])
    seen = torch.cat([(obs - torch.arange(3.0)) / 2.0, (left / (left + 6.0))[:, None]], 1)
    lead = seen if member is None else seen.expand(3, -1, -1)
    mean = torch.tanh(algorithm.actor.parameters_of(lead)[0]).detach()
    with torch.no_grad():
        found, value, _ = policy(obs, torch.randn(4, 1, 1, 1), spent)
        default = algorithm.policy()(obs, torch.randn(4, 1, 1, 1), spent)[0]
    torch.testing.assert_close(found, mean if member is None else mean[member])
    torch.testing.assert_close(default, mean if member is None else mean[0])
    assert value.tolist() == left.tolist()
    assert policy.sizes == [4, 5, 4, 1] and not policy.training
    assert (policy.budget, policy.scale) == (6.0, 6.0) and policy.normalizer is algorithm.normalizer


def test_a_policy_without_a_budget_has_a_scale_all_the_same():
    policy = Ccac(CcacConfig(**SMALL, episode_limit=0.0), Data()).policy()
    assert (policy.budget, policy.scale) == (0.0, 1.0)


def test_networks_are_built_on_the_datas_device():
    """Nothing is computed there; only places are looked at."""
    data = Data()
    data.device = torch.device("meta")
    algorithm = Ccac(CcacConfig(**SMALL), data)
    for name in Ccac.modules:
        assert {p.device.type for p in getattr(algorithm, name).parameters()} == {"meta"}
