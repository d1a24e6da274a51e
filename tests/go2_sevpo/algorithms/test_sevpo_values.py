"""Stage 2 of SEVPO (Eqs. 8-16): each step against the same step by hand, with linear networks or
known answers.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import sevpo
from go2_sevpo.algorithms.sevpo import Sevpo, SevpoConfig, constrained_reward
from go2_sevpo.data.dataset import Batch, OfflineDataset
from tests.conftest import make_episodes

RATE = 0.125
"""Of the plain gradient descent."""
TINY = {"critic_hidden": (), "actor": "mlp", "width": 4, "depth": 1, "dropout": 0.0}


@pytest.fixture
def data():
    return OfflineDataset([make_episodes((3, 4), n_obs=2, n_act=1)])


def make(data, members=None, **settings):
    return Sevpo(SevpoConfig(**{**TINY, **settings}), data, members)


def generator():
    return torch.Generator().manual_seed(7)


# Eq. 10


@pytest.mark.parametrize(
    ("penalty", "q_r", "q_c", "delta", "expected"),
    [
        ("signed", 3.0, 6.0, 2.0, 1.0),  # Q_r over Q_c / delta
        ("signed", -3.0, 6.0, 2.0, -9.0),  # times it: worse too
        ("signed", 3.0, 1.9, 2.0, 3.0),
        ("signed", -3.0, 1.9, 2.0, -3.0),
        ("signed", 3.0, 2.0, 2.0, 3.0),
        ("signed", 3.0, -5.0, 2.0, 3.0),
        ("signed", 0.0, 6.0, 2.0, 0.0),
        ("signed", 0.75, 6.0, 2.0, 0.25),
        ("signed", 3.0, 2e-6, 0.0, 1.5),  # a delta of 0 is taken as a millionth
        ("paper", 3.0, 6.0, 2.0, 0.5),  # as printed: Q_r / Q_c
        ("paper", -3.0, 6.0, 2.0, -0.5),
        ("paper", 3.0, 0.5, 0.25, 6.0),
        ("paper", 3.0, 2.0, 2.0, 3.0),
        ("paper", 3.0, 1.9, 2.0, 3.0),
        ("paper", 3.0, 2.000001, 2.0, 1.5),
        ("paper", 3.0, -0.5, -1.0, 3e6),
        ("none", 3.0, 6.0, 2.0, 3.0),
        ("none", -3.0, 6.0, 2.0, -3.0),
    ],
)
def test_the_reward_under_a_cost(penalty, q_r, q_c, delta, expected):
    found = constrained_reward(torch.tensor([q_r]), torch.tensor([q_c]), delta, penalty)
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


# Eqs. 8 and 9


class OwnActions:
    """Stands in for the averaged actor."""

    steps = 3

    def sample(self, obs, noise, temperature):
        assert temperature == 1.0
        assert not torch.is_grad_enabled()
        self.asked = obs, noise
        return obs[..., :1] - 0.5 * obs[..., 1:]


WEIGHTS = {
    # two heads each, for (s, a) and a bias; the heads disagree, each is the larger one somewhere
    "q_r": [[0.5, -0.25, 0.75, 0.1], [-0.5, 1.0, 0.25, -0.2]],
    "q_r_target": [[1.0, 0.5, -0.75, 0.3], [-1.0, 0.75, 1.25, 0.4]],
    "q_pi": [[0.2, 0.3, -0.4, 0.5], [0.6, -0.7, 0.8, -0.9]],
    "q_pi_target": [[-0.3, 0.9, 0.7, 1.1], [0.8, -0.6, 0.5, 1.3]],
    "baseline": [[0.35, -0.15, 0.05]],
    "cost_baseline": [[-0.45, 0.65, 0.25]],
}


def set_weights(algorithm, k=0, members=1, factor=1.0):
    for name, rows in WEIGHTS.items():
        value, network = factor * torch.tensor(rows), getattr(algorithm, name)
        if name.startswith("q"):
            layer = network.layers[-1]
            layer.weight.data[k::members, :, 0], layer.bias.data[k::members, 0, 0] = (
                value[:, :-1],
                value[:, -1],
            )
        elif members == 1:
            layer = network.net[-1]
            layer.weight.data.copy_(value[:, :-1])
            layer.bias.data.copy_(value[:, -1])
        else:
            layer = network.net[-1]
            layer.weight.data[k, :, 0], layer.bias.data[k, 0] = value[0, :-1], value[0, -1]


def weights_of(algorithm, name, k=0, members=1):
    network = getattr(algorithm, name)
    if name.startswith("q"):
        layer = network.layers[-1]
        return (
            torch.cat([layer.weight[k::members, :, 0], layer.bias[k::members, 0]], 1)
            .detach()
            .numpy()
        )
    layer = network.net[-1]
    if members == 1:
        return torch.cat([layer.weight, layer.bias[:, None]], 1).detach().numpy()
    return torch.cat([layer.weight[k, :, 0], layer.bias[k, 0]])[None].detach().numpy()


def transitions():
    """Four transitions: one goes on, one ends, one runs out of time, one both."""
    return Batch(
        obs=torch.tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [1.0, 1.0]]),
        act=torch.tensor([[0.5], [-1.0], [0.25], [0.75]]),
        reward=torch.tensor([1.0, -2.0, 0.5, 3.0]),
        cost=torch.tensor([0.5, 1.0, 0.0, 2.0]),
        next_obs=torch.tensor([[1.0, -2.0], [0.5, 0.5], [-1.5, -0.5], [2.0, -1.0]]),
        terminal=torch.tensor([0.0, 1.0, 0.0, 1.0]),
        timeout=torch.tensor([0.0, 0.0, 1.0, 1.0]),
    )


def critics_by_hand(batch, config, stops, delta, factor=1.0):
    """Eqs. 8 and 9 and the baselines by arithmetic."""
    w = {name: factor * np.array(rows) for name, rows in WEIGHTS.items()}
    obs, act, after = batch.obs.numpy(), batch.act.numpy(), batch.next_obs.numpy()
    one = np.ones((len(obs), 1))
    pair = np.hstack([obs, act, one])
    own = np.hstack([after, after[:, :1] - 0.5 * after[:, 1:], one])
    next_r, next_c = own @ w["q_r_target"].T, own @ w["q_pi_target"].T
    go_on = np.where(stops, 0.0, config.gamma)[:, None]
    aim_r = batch.reward.numpy()[:, None] + go_on * next_r
    aim_c = config.cost_scale * batch.cost.numpy()[:, None] + go_on * next_c
    worst, reward = next_c.max(1), next_r.min(1)
    over = np.maximum(worst / delta, 1.0)
    value = np.where(reward >= 0, reward / over, reward * over)
    error_r, error_c = pair @ w["q_r"].T - aim_r, pair @ w["q_pi"].T - aim_c
    seen, counts = np.hstack([after, one]), 1.0 - batch.terminal.numpy()
    error_b = counts * ((seen @ w["baseline"].T)[:, 0] - value)
    error_d = counts * ((seen @ w["cost_baseline"].T)[:, 0] - worst)
    n = len(obs)
    new = {
        "q_r": w["q_r"] - RATE * 2.0 * error_r.T @ pair / n,
        "q_pi": w["q_pi"] - RATE * 2.0 * error_c.T @ pair / n,
        "baseline": w["baseline"] - RATE * 2.0 * error_b[None] @ seen / n,
        "cost_baseline": w["cost_baseline"] - RATE * 2.0 * error_d[None] @ seen / n,
    }
    for name in ("q_r", "q_pi"):
        old = w[name + "_target"]
        new[name + "_target"] = old + config.target_rate * (new[name] - old)
    metrics = {
        "q_r_loss": (error_r**2).sum(1).mean(),
        "q_pi_loss": (error_c**2).sum(1).mean(),
        "baseline_loss": (error_b**2 + error_d**2).mean(),
        "q_r": aim_r.mean(),
        "q_r_std": aim_r.std(ddof=1),
        "q_pi": aim_c.mean(),
    }
    return new, metrics


def prepare_critics(algorithm):
    algorithm.average = OwnActions()
    networks = algorithm.q_r, algorithm.q_pi, algorithm.baseline, algorithm.cost_baseline
    parameters = [p for network in networks for p in network.parameters()]
    algorithm.critic_optimizer = torch.optim.SGD(parameters, lr=RATE)


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 0.6, "delta": 0.5},
        {"gamma": 0.8, "delta": 1.5, "cost_scale": 2.5, "target_rate": 0.25, "alpha": 0.5},
        {"gamma": 0.9, "delta": 2.0, "bootstrap": "release", "target_rate": 1.0},
    ],
)
def test_a_step_of_the_policys_critics_is_equations_8_and_9(data, settings):
    algorithm = make(data, **settings)
    set_weights(algorithm)
    prepare_critics(algorithm)
    batch = transitions()
    release = settings.get("bootstrap") == "release"
    stops = np.array([False, True, release, True])
    expected, metrics = critics_by_hand(batch, algorithm.config, stops, settings["delta"])
    found = algorithm.update_policy_critics(batch, generator())
    for name in WEIGHTS:
        np.testing.assert_allclose(
            weights_of(algorithm, name), expected[name], rtol=1e-5, atol=1e-6, err_msg=name
        )
    assert {name: value.item() for name, value in found.items()} == pytest.approx(metrics, rel=1e-5)
    obs, noise = algorithm.average.asked
    assert torch.equal(obs, batch.next_obs)
    assert torch.equal(noise, torch.randn(4, 3, 1, generator=generator()))


def test_members_critics_take_the_same_step_each_on_its_own(data):
    algorithm = make(data, members=2, gamma=0.6, delta=0.5)
    for k, factor in ((0, 1.0), (1, -0.5)):
        set_weights(algorithm, k, 2, factor)
    prepare_critics(algorithm)
    plain = transitions()
    wide = Batch(*[torch.stack([x, x]) for x in vars(plain).values() if x is not None])
    algorithm.update_policy_critics(wide, generator())
    for k, factor in ((0, 1.0), (1, -0.5)):
        stops = np.array([False, True, False, True])
        expected, _ = critics_by_hand(plain, algorithm.config, stops, 0.5, factor)
        for name in WEIGHTS:
            found = weights_of(algorithm, name, k, 2)
            np.testing.assert_allclose(
                found, expected[name], rtol=1e-5, atol=1e-6, err_msg=f"{name} of {k}"
            )


@pytest.mark.parametrize(
    ("penalty", "first"), [("paper", 6.0 / 3.0), ("none", 6.0), ("signed", 6.0 / 2.0)]
)
def test_the_baseline_learns_the_configured_form_of_equation_10(data, penalty, first, monkeypatch):
    algorithm = make(data, penalty=penalty, delta=1.5)
    prepare_critics(algorithm)
    n = 4
    algorithm.q_r_target = lambda obs, act: torch.tensor([[6.0] * n, [7.0] * n])
    algorithm.q_pi_target = lambda obs, act: torch.tensor([[3.0] * n, [2.0] * n])
    algorithm.baseline.net[-1].weight.data.zero_()
    algorithm.baseline.net[-1].bias.data.fill_(1.0)
    batch = transitions()
    batch.terminal, batch.timeout = torch.zeros(n), torch.zeros(n)
    batch.next_obs = torch.zeros(n, 2)
    monkeypatch.setattr(sevpo, "polyak", lambda *_: None)  # those targets have no parameters
    algorithm.update_policy_critics(batch, generator())
    assert algorithm.baseline.net[-1].bias.item() == pytest.approx(
        1.0 + RATE * 2.0 * (first - 1.0), rel=1e-5
    )


# Eq. 13's weights

Q_R = [[2.0, 1.0, 5.0, -1.0], [1.5, 3.0, 6.0, 0.5]]
Q_PI = [[0.5, 3.0, 9.0, 0.25], [1.0, 2.0, 8.0, 4.0]]
BASELINE, COST_BASELINE = [1.0, 0.0, 7.0, -2.5], [0.5, 3.5, 1.0, 1.0]
SAFE = [True, True, False, True]
# smaller Q_r, larger Q_c: 1.5 at 1, 1 at 3, 5 at 9, -1 at 4; above delta = 2 that is 1.5, 2/3,
# 10/9, -2
SIGNED = np.array([1.5, 2.0 / 3.0, 10.0 / 9.0, -2.0])


def known(members=None):
    def constant(values):
        values = torch.tensor(values)
        heads = values.dim() == 2
        if members is not None:
            values = values[..., None, :].expand(*values.shape[:-1], members, 4)

        def network(*asked):
            assert asked == (("obs", "act") if heads else ("obs",))
            return values

        return network

    values = {"q_r": Q_R, "q_pi": Q_PI, "baseline": BASELINE, "cost_baseline": COST_BASELINE}
    return {name: constant(value) for name, value in values.items()}


def weigh(data, safe=SAFE, scale=None, members=None, **settings):
    algorithm = make(data, members, **{"delta": 2.0, "mu1": 0.5, **settings})
    for name, network in known(members).items():
        setattr(algorithm, name, network)
    if scale is not None:
        algorithm.scale_r.copy_(torch.tensor(scale))
    weight, clipped = algorithm.safe_weights(
        SimpleNamespace(obs="obs", act="act"), torch.tensor(safe)
    )
    return weight, clipped, algorithm


PLAIN = {"normalize_advantage": False, "normalize_weights": False}


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"advantage": "paper", "penalty": "none"}, [1.5, 1.0, 5.0, -1.0]),
        ({"advantage": "paper"}, SIGNED),
        ({"advantage": "paper", "penalty": "paper"}, [1.5, 1.0 / 3.0, 5.0 / 9.0, -0.25]),
        ({}, SIGNED - BASELINE),
        # twice the larger Q_c's excess over its baseline: 0.5, none, 8, 3
        ({"data_cost_penalty": 2.0}, SIGNED - BASELINE - [1.0, 0.0, 16.0, 6.0]),
        ({"advantage": "paper", "data_cost_penalty": 0.5}, SIGNED - [0.25, 0.0, 4.0, 1.5]),
    ],
)
def test_the_weights_are_exp_of_mu1_times_the_advantage_in_s1(data, settings, value):
    for mu1 in (0.5, 1.25):
        weight, clipped, algorithm = weigh(data, mu1=mu1, **PLAIN, **settings)
        expected = np.exp(mu1 * np.asarray(value)) * SAFE
        assert weight.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
        assert clipped.item() == 0.0 and algorithm.scale_r.item() == 1.0


def test_the_advantage_is_divided_by_its_running_size_in_s1(data):
    weight, _, algorithm = weigh(data, scale=3.0, normalize_weights=False)
    value = SIGNED - BASELINE
    size = math.sqrt((value**2 * SAFE).sum() / 3.0)
    scale = 3.0 + 0.01 * (size - 3.0)
    assert algorithm.scale_r.item() == pytest.approx(scale, rel=1e-6)
    assert weight.tolist() == pytest.approx((np.exp(0.5 * value / scale) * SAFE).tolist(), rel=1e-5)


def test_a_batch_without_s1_leaves_the_size_as_it_is(data):
    _, _, algorithm = weigh(data, safe=[False] * 4, scale=3.0)
    assert algorithm.scale_r.item() == 3.0
    _, _, algorithm = weigh(data, [SAFE, [False] * 4], [3.0, 2.0], members=2)
    assert algorithm.scale_r[0].item() != 3.0 and algorithm.scale_r[1].item() == 2.0
    # One row is enough: |1.5 - 1| is its size.
    _, _, algorithm = weigh(data, safe=[True, False, False, False], scale=3.0)
    assert algorithm.scale_r.item() == pytest.approx(3.0 + 0.01 * (0.5 - 3.0), rel=1e-6)


def test_the_size_of_the_advantage_is_never_taken_below_a_millionth(data):
    weight, _, _ = weigh(
        data,
        scale=-1.0,
        normalize_weights=False,
        weight_clip=50.0,
        mu1=1e-6,
        safe=[False, True, False, False],
    )
    # a size of -1 + 0.01 (2/3 + 1) would turn the sign
    assert weight.tolist() == pytest.approx([0.0, math.exp(2.0 / 3.0), 0.0, 0.0], rel=1e-4)


def test_the_weights_have_mean_one_in_s1(data):
    weight, _, _ = weigh(data, normalize_advantage=False)
    plain = np.exp(0.5 * (SIGNED - BASELINE)) * SAFE
    assert weight.tolist() == pytest.approx((plain / (plain.sum() / 3.0)).tolist(), rel=1e-5)
    nothing, clipped, _ = weigh(data, safe=[False] * 4, normalize_advantage=False)
    assert nothing.tolist() == [0.0] * 4 and clipped.item() == 0.0
    tiny, _, _ = weigh(data, mu1=-60.0, safe=[True, False, False, False], normalize_advantage=False)
    assert tiny[0].item() == pytest.approx(math.exp(-30.0) / 1e-6, rel=1e-4)


def test_the_weights_are_clipped_before_they_are_divided_by_their_mean(data):
    # exponents 1, 4/3, -, 1
    settings = {"normalize_advantage": False, "mu1": 2.0, "weight_clip": math.exp(1.2)}
    weight, clipped, _ = weigh(data, normalize_weights=False, **settings)
    plain = np.exp([1.0, 1.2, 0.0, 1.0]) * SAFE
    assert weight.tolist() == pytest.approx(plain.tolist(), rel=1e-5)
    assert clipped.item() == pytest.approx(1.0 / 3.0)
    weight, clipped, _ = weigh(data, **settings)
    assert weight.tolist() == pytest.approx((plain / (plain.sum() / 3.0)).tolist(), rel=1e-5)
    assert clipped.item() == pytest.approx(1.0 / 3.0)


def test_by_default_a_weight_is_at_most_a_hundred(data):
    weight, clipped, _ = weigh(data, mu1=20.0, **PLAIN)
    assert weight.tolist() == pytest.approx([100.0, 100.0, 0.0, 100.0], rel=1e-5)
    assert clipped.item() == 1.0


@pytest.mark.parametrize(("share", "expected"), [(0.9985, 0.0), (0.9995, 1.0)])
def test_a_weight_within_a_thousandth_of_the_clip_counts_as_clipped(data, share, expected):
    clip = math.exp(0.25) / share  # row 0 has advantage 0.5
    safe = [True, False, False, False]
    assert weigh(data, safe=safe, weight_clip=clip, **PLAIN)[1].item() == expected


def test_a_weight_of_exactly_0_999_of_the_clip_counts_as_clipped(data):
    clip = 1.0 / 0.999
    assert 0.999 * clip == 1.0  # the weight of every row at mu1 = 0
    assert weigh(data, mu1=0.0, weight_clip=clip, **PLAIN)[1].item() == 1.0


def test_members_weights_have_sizes_and_means_of_their_own(data):
    safe = [SAFE, [False, True, True, False]]
    weight, clipped, algorithm = weigh(data, safe, [3.0, 2.0], members=2, weight_clip=1.3)
    value = SIGNED - BASELINE
    for k, start in ((0, 3.0), (1, 2.0)):
        mask = np.array(safe[k])
        scale = start + 0.01 * (math.sqrt((value**2)[mask].mean()) - start)
        assert algorithm.scale_r[k].item() == pytest.approx(scale, rel=1e-6)
        raw = np.minimum(np.exp(0.5 * value / scale), 1.3)
        assert weight[k].tolist() == pytest.approx(
            (raw * mask / raw[mask].mean()).tolist(), rel=1e-5
        )
        assert clipped[k].item() == pytest.approx((raw[mask] == 1.3).mean())


# Eq. 16


class Actor(torch.nn.Module):
    """One number per member; the diffusion loss is phi (act + obs)^2, asked for only while
    training.
    """

    steps = 4

    def __init__(self, phi):
        super().__init__()
        self.phi = torch.nn.Parameter(torch.tensor(phi))

    def loss(self, obs, act, noise, t):
        assert self.training
        self.asked = obs, act, noise, t
        return self.phi[..., None] * (act[..., 0] + obs[..., 0]).square()


CLONE = np.array([1.0, 4.0, 0.25, 9.0])
"""(act + obs)^2 of the batch below."""
WEIGHT = np.array([0.5, 0.0, 0.0, 2.0])
SAFE_ROWS, UNSAFE_ROWS = [True, False, False, True], [False, True, False, False]


class Regions:
    """Stands in for the selection."""

    shares = torch.tensor(0.375), torch.tensor(0.125)

    def __init__(self, members=None):
        self.members = members

    def masks(self, batch):
        assert batch.act.shape[-2:] == (4, 1)
        safe, unsafe = torch.tensor(SAFE_ROWS), torch.tensor(UNSAFE_ROWS)
        return (
            (safe, unsafe)
            if self.members is None
            else (torch.stack([safe, ~safe]), torch.stack([unsafe] * 2))
        )


def actor_learner(data, members=None, **settings):
    algorithm = make(data, members, **{"b1": 2.0, "b2": 5.0, "ema": 0.25, **settings})
    phi, average = (0.75, 0.25) if members is None else ([0.75, 1.5], [0.25, 0.5])
    algorithm.actor, algorithm.average = Actor(phi), Actor(average)
    algorithm.actor.eval()
    algorithm.actor_optimizer = torch.optim.SGD(algorithm.actor.parameters(), lr=RATE)
    algorithm.selection = Regions(members)
    shape = (4,) if members is None else (members, 4)
    obs, act = (
        torch.tensor([[0.5], [1.0], [-1.0], [2.0]]),
        torch.tensor([[0.5], [1.0], [0.5], [1.0]]),
    )
    whole = SimpleNamespace(obs=obs.expand(*shape, 1), act=act.expand(*shape, 1))
    heads = torch.tensor([[1.0] * 4, [0.0, 3.0, 0.0, 0.0]]).reshape(2, *[1] * (len(shape) - 1), 4)
    algorithm.calls = []

    def v_c(seen):
        assert seen is whole.obs
        return torch.tensor([0.5, 1.0, 2.0, 4.0]).expand(shape)

    def q_c_target(seen, done):
        assert seen is whole.obs and done is whole.act
        return heads.expand(2, *shape)

    def safe_weights(batch, safe):
        assert batch is whole
        algorithm.calls.append(("safe", safe.tolist()))
        return torch.tensor(WEIGHT, dtype=torch.float32).expand(shape), torch.full(shape[:-1], 0.75)

    def awr(loss, unsafe, advantage):
        algorithm.calls.append(("awr", loss.tolist(), unsafe.tolist(), advantage.tolist()))
        return 0.1 * loss.sum(-1)

    def sampled(batch, v_c, unsafe, progress, draws):
        assert batch is whole and draws.initial_seed() == 7
        algorithm.calls.append(("sampled", v_c.tolist(), unsafe.tolist(), progress))
        return 0.5 * algorithm.actor.phi

    algorithm.v_c, algorithm.q_c_target = v_c, q_c_target
    algorithm.safe_weights, algorithm.unsafe_awr, algorithm.unsafe_sampled = (
        safe_weights,
        awr,
        sampled,
    )
    return algorithm, whole


def check_step(algorithm, batch, slope_safe, slope_unsafe, progress=0.25):
    """The actor's losses are linear in phi: ``slope_*`` phi before b1 = 2 and b2 = 5."""
    found = algorithm.update_actor(batch, progress, generator())
    slope = 2.0 * slope_safe + 5.0 * slope_unsafe
    phi = 0.75 - RATE * slope
    assert algorithm.actor.phi.item() == pytest.approx(phi, rel=1e-5)
    assert algorithm.average.phi.item() == pytest.approx(0.25 + 0.25 * (phi - 0.25), rel=1e-5)
    assert found["actor_loss"].item() == pytest.approx(0.75 * slope, rel=1e-5)
    assert found["safe_loss"].item() == pytest.approx(0.75 * slope_safe, rel=1e-5)
    assert found["unsafe_loss"].item() == pytest.approx(0.75 * slope_unsafe, rel=1e-5)
    return found


WEIGHTED = float((WEIGHT * CLONE).mean())
PLAIN_CLONING = float((np.array(SAFE_ROWS) * CLONE).mean())


@pytest.mark.parametrize("objective", ["gradient", "search", "printed"])
def test_the_actors_loss_is_b1_safe_plus_b2_unsafe(data, objective):
    algorithm, batch = actor_learner(data, unsafe_objective=objective)
    found = check_step(algorithm, batch, WEIGHTED, 0.5)
    assert algorithm.calls == [
        ("safe", SAFE_ROWS),
        ("sampled", [0.5, 1.0, 2.0, 4.0], UNSAFE_ROWS, 0.25),
    ]
    values = {
        name: found[name].item()
        for name in ("safe_share", "unsafe_share", "clipped_share", "weight_max", "v_c")
    }
    expected = {
        "safe_share": 0.375,
        "unsafe_share": 0.125,
        "clipped_share": 0.75,
        "weight_max": 2.0,
        "v_c": 1.875,
    }
    assert values == pytest.approx(expected)
    assert found["clone_loss"].item() == pytest.approx(0.75 * CLONE.mean(), rel=1e-5)
    assert set(found) == {*expected, "actor_loss", "safe_loss", "unsafe_loss", "clone_loss"}
    obs, act, noise, t = algorithm.actor.asked
    assert torch.equal(obs, batch.obs) and torch.equal(act, batch.act)
    draws = generator()
    assert torch.equal(noise, torch.randn(4, 1, generator=draws))
    assert torch.equal(t, torch.randint(4, (4,), generator=draws))


def test_awr_gets_the_diffusion_loss_and_stage_ones_advantage(data):
    algorithm, batch = actor_learner(data, unsafe_objective="awr")
    check_step(algorithm, batch, WEIGHTED, 0.1 * CLONE.sum())
    # the larger head of Q_c minus V_c
    assert algorithm.calls[1:] == [
        ("awr", (0.75 * CLONE).tolist(), UNSAFE_ROWS, [0.5, 2.0, -1.0, -3.0])
    ]


@pytest.mark.parametrize("settings", [{"unsafe_objective": "none"}, {"b2": 0.0}])
def test_unsafe_states_are_left_alone_if_asked_for(data, settings):
    algorithm, batch = actor_learner(data, **settings)
    check_step(algorithm, batch, WEIGHTED, 0.0)
    assert algorithm.calls == [("safe", SAFE_ROWS)]


def test_a_small_weight_of_the_unsafe_objective_counts_too(data):
    algorithm, batch = actor_learner(data, b2=0.5)
    algorithm.update_actor(batch, 0.0, generator())
    assert algorithm.actor.phi.item() == pytest.approx(
        0.75 - RATE * (2.0 * WEIGHTED + 0.25), rel=1e-5
    )


@pytest.mark.parametrize(
    ("progress", "warm"), [(0.0, True), (0.2499, True), (0.25, False), (0.9, False)]
)
def test_the_warm_start_clones_s1_unweighted(data, progress, warm):
    for objective in ("gradient", "awr"):
        algorithm, batch = actor_learner(data, warmup=0.25, unsafe_objective=objective)
        later = 0.5 if objective == "gradient" else 0.1 * CLONE.sum()
        check_step(
            algorithm, batch, PLAIN_CLONING if warm else WEIGHTED, 0.0 if warm else later, progress
        )
        assert len(algorithm.calls) == (1 if warm else 2)


def test_unsafe_states_can_be_cloned_with_a_weight_of_their_own(data):
    algorithm, batch = actor_learner(data, unsafe_cloning=0.75, warmup=0.5)
    # 0.75 / b1 on row 1, so that b1 times it is 0.75
    check_step(algorithm, batch, WEIGHTED + 0.375 * 4.0 / 4.0, 0.5, 0.5)
    algorithm, batch = actor_learner(data, unsafe_cloning=0.75, warmup=0.5)
    check_step(algorithm, batch, PLAIN_CLONING + 0.375 * 4.0 / 4.0, 0.0, 0.25)
    algorithm, batch = actor_learner(data, unsafe_cloning=0.75, b1=0.5)
    algorithm.update_actor(batch, 0.0, generator())
    slope = 0.5 * WEIGHTED + 0.75 * 4.0 / 4.0 + 2.5
    assert algorithm.actor.phi.item() == pytest.approx(0.75 - RATE * slope, rel=1e-5)
    algorithm, batch = actor_learner(data, unsafe_cloning=0.75, b1=0.0)
    algorithm.update_actor(batch, 0.0, generator())
    assert algorithm.actor.phi.item() == pytest.approx(0.75 - RATE * 2.5, rel=1e-5)


def test_losses_of_members_are_summed_so_that_none_feels_another(data):
    algorithm, batch = actor_learner(data, members=2)
    found = algorithm.update_actor(batch, 0.0, generator())
    slope = 2.0 * WEIGHTED + 2.5
    assert algorithm.actor.phi.tolist() == pytest.approx(
        [0.75 - RATE * slope, 1.5 - RATE * slope], rel=1e-5
    )
    assert found["actor_loss"].item() == pytest.approx(slope * (0.75 + 1.5) / 2.0, rel=1e-5)
    assert algorithm.calls[0] == ("safe", [SAFE_ROWS, [not x for x in SAFE_ROWS]])
    warm, batch = actor_learner(data, members=2, warmup=0.5)
    warm.update_actor(batch, 0.0, generator())
    other = float((~np.array(SAFE_ROWS) * CLONE).mean())
    expected = [0.75 - RATE * 2.0 * PLAIN_CLONING, 1.5 - RATE * 2.0 * other]
    assert warm.actor.phi.tolist() == pytest.approx(expected, rel=1e-5)


# the order of things


def rates(*optimizers):
    return [optimizer.param_groups[0]["lr"] for optimizer in optimizers]


def test_the_actors_rate_always_follows_a_cosine_the_critics_if_asked_for(data):
    half = (1.0 + math.sqrt(0.5)) / 2.0
    for settings, critic, actor in (
        ({}, 0.5, 0.5),
        ({"critic_decay": True}, 0.5 * half, 0.5),
        ({"actor_rate": 0.25}, 0.5, 0.25),
        ({"actor_rate": 0.25, "critic_decay": True}, 0.5 * half, 0.25),
    ):
        algorithm = make(data, rate=0.5, policy_steps=8, critic_steps=0, **settings)
        algorithm.prepare("policy", 2)
        expected = [critic, actor * half]
        assert rates(algorithm.critic_optimizer, algorithm.actor_optimizer) == pytest.approx(
            expected
        ), settings
        assert rates(algorithm.v_optimizer, algorithm.q_optimizer) == [0.5, 0.5]


def test_stage_one_is_prepared_as_such_and_stage_two_asks_for_it(data):
    algorithm = make(data, rate=0.5, critic_steps=4, critic_decay=True)
    algorithm.critics_trained = 2
    algorithm.prepare("critics", 0)
    assert rates(algorithm.v_optimizer, algorithm.q_optimizer) == pytest.approx([0.25, 0.25])
    assert rates(algorithm.critic_optimizer, algorithm.actor_optimizer) == [0.5, 0.5]
    with pytest.raises(RuntimeError, match="found 2 steps of the critics stage, expected 4"):
        algorithm.prepare("policy", 0)


def test_an_update_prepares_works_and_finishes(data):
    algorithm = make(data)
    order = []
    algorithm.prepare = lambda stage, step: order.append(("prepare", stage, step))
    algorithm.finish = lambda stage, step: order.append(("finish", stage, step))

    def on_device(*asked):
        order.append(asked)
        return {"loss": 1.0}

    algorithm.on_device = on_device
    assert algorithm.update("policy", 3, "data", "draws") == {"loss": 1.0}
    assert order == [
        ("prepare", "policy", 3),
        ("policy", 3, "data", "draws"),
        ("finish", "policy", 3),
    ]


class Sampled:
    """Stands in for a dataset or a selection: a draw is its name and shape."""

    def __init__(self, name):
        self.name = name

    def sample(self, *asked):
        return (self.name, *asked)


@pytest.mark.parametrize(("members", "lead"), [(None, ()), (3, (3,))])
def test_a_step_of_stage_one_is_on_the_critics_batch(data, members, lead):
    algorithm = make(data, members, critic_batch=6)
    algorithm.descend_conservative = lambda batch: {"batch": batch}
    found = algorithm.on_device("critics", 0, Sampled("data"), "draws")
    assert found == {"batch": ("data", (*lead, 6), "draws")} and algorithm.selection is None


@pytest.mark.parametrize(
    ("settings", "with_unsafe"),
    [
        ({}, True),
        ({"unsafe_objective": "none"}, False),
        ({"b2": 0.0}, False),
        ({"unsafe_objective": "none", "unsafe_cloning": 0.1}, True),
        ({"unsafe_objective": "awr", "b2": 0.1}, True),
        ({"b2": 0.0, "unsafe_cloning": 0.1}, True),
    ],
)
def test_a_step_of_stage_two_draws_the_critics_from_all_and_the_actor_from_the_selection(
    data, settings, with_unsafe, monkeypatch
):
    algorithm = make(
        data, critic_batch=6, actor_batch=5, actor_updates=3, policy_steps=8, **settings
    )
    asked, updates, whole = [], [], Sampled("data")

    def select(*arguments):
        asked.append(arguments)
        return Sampled("selection")

    def update_actor(batch, progress, draws):
        updates.append((batch, progress, draws))
        return {"actor": len(updates), "share": 2}

    monkeypatch.setattr(sevpo, "select", select)
    algorithm.update_policy_critics = lambda batch, draws: {"critics": (batch, draws), "share": 1}
    algorithm.update_actor = update_actor
    found = algorithm.on_device("policy", 2, whole, "draws")
    assert found == {"critics": (("data", (6,), "draws"), "draws"), "actor": 3, "share": 2}
    assert updates == [(("selection", whole, (5,), "draws"), 0.25, "draws")] * 3
    assert asked == [(algorithm, whole, with_unsafe)]
    algorithm.on_device("policy", 3, whole, "draws")
    assert len(asked) == 1 and updates[-1][1] == 0.375  # the regions are found once


def test_members_draw_batches_of_their_own(data):
    algorithm = make(data, 3, critic_batch=6, actor_batch=5, actor_updates=1)
    algorithm.selection, found = Sampled("selection"), []
    algorithm.update_policy_critics = lambda batch, draws: found.append(batch) or {}
    algorithm.update_actor = lambda batch, progress, draws: found.append(batch) or {}
    whole = Sampled("data")
    algorithm.on_device("policy", 0, whole, None)
    assert found == [("data", (3, 6), None), ("selection", whole, (3, 5), None)]


@pytest.mark.parametrize(
    ("interval", "copied"),
    [(5, {4: 4, 9: 9}), (3, {2: 2, 5: 5, 8: 8}), (1, {k: k for k in range(11)})],
)
def test_the_copy_that_equation_15_compares_with_lags_behind(data, interval, copied):
    algorithm = make(data, trust_interval=interval)
    expected = -1.0
    for p in algorithm.previous.parameters():
        p.data.fill_(expected)
    for step in range(11):
        for p in algorithm.actor.parameters():
            p.data.fill_(float(step))
        algorithm.finish("policy", step)
        expected = float(copied.get(step, expected))
        assert all((p == expected).all() for p in algorithm.previous.parameters()), step
        assert all((p == step).all() for p in algorithm.actor.parameters())
    assert algorithm.critics_trained == 0


def test_a_finished_step_of_stage_one_is_counted_and_copies_nothing(data):
    algorithm = make(data, trust_interval=1)
    for p in algorithm.previous.parameters():
        p.data.fill_(-1.0)
    algorithm.finish("critics", 0)
    algorithm.finish("critics", 1)
    assert algorithm.critics_trained == 2
    assert all((p == -1.0).all() for p in algorithm.previous.parameters())


@pytest.mark.parametrize(
    ("stage", "step", "expected"),
    [
        ("critics", 0, ("critics", False, False)),
        ("critics", 7, ("critics", False, False)),
        ("policy", 0, ("policy", True, False)),
        ("policy", 1, ("policy", True, False)),
        ("policy", 2, ("policy", False, False)),
        ("policy", 5, ("policy", False, False)),
        ("policy", 6, ("policy", False, True)),
        ("policy", 7, ("policy", False, True)),
    ],
)
def test_phases_change_where_the_warm_start_ends_and_the_trust_region_begins(
    data, stage, step, expected
):
    algorithm = make(data, policy_steps=8, critic_steps=4, warmup=0.25, trust_start=0.75)
    assert algorithm.phase(stage, step) == expected
    if stage == "policy":
        longer = make(data, policy_steps=4, critic_steps=8, warmup=0.25, trust_start=0.75)
        assert longer.phase(stage, step // 2) == expected


def test_stages_have_their_own_numbers_of_steps(data):
    algorithm = make(data, critic_steps=7, policy_steps=9)
    assert Sevpo.stages == ("critics", "policy")
    assert (algorithm.steps("critics"), algorithm.steps("policy")) == (7, 9)
    assert make(data, policy_steps=0, warmup=0.5).phase("policy", 0) == ("policy", True, False)
    assert make(data, policy_steps=1, warmup=0.5, trust_start=1.0).phase("policy", 1) == (
        "policy",
        False,
        True,
    )


# networks, state, policy


def test_networks_start_as_copies_with_the_configured_sizes_and_rates(data):
    settings = {
        "critic_hidden": (5,),
        "actor": "resnet",
        "width": 6,
        "depth": 2,
        "dropout": 0.25,
        "rate": 0.0125,
    }
    algorithm = make(data, diffusion_steps=4, prediction="clean", **settings)
    pairs = [
        ("q_r_target", "q_r"),
        ("q_pi_target", "q_pi"),
        ("average", "actor"),
        ("previous", "actor"),
    ]
    for copied, source in pairs:
        for a, b in zip(
            getattr(algorithm, copied).parameters(), getattr(algorithm, source).parameters()
        ):
            assert torch.equal(a, b) and a is not b and not a.requires_grad and b.requires_grad
    assert algorithm.average is not algorithm.previous
    actor = algorithm.actor
    assert (actor.steps, actor.prediction, actor.denoiser.kind, actor.denoiser.depth) == (
        4,
        "clean",
        "resnet",
        2,
    )
    assert actor.denoiser.blocks[0].drop.p == 0.25 and actor.denoiser.from_obs.weight.shape == (
        6,
        2,
    )
    for network in (algorithm.q_r, algorithm.q_pi):
        assert [tuple(layer.weight.shape) for layer in network.layers] == [(2, 3, 5), (2, 5, 1)]
    learned = [algorithm.q_r, algorithm.q_pi, algorithm.baseline, algorithm.cost_baseline]
    group = algorithm.critic_optimizer.param_groups[0]
    assert [id(p) for p in group["params"]] == [id(p) for m in learned for p in m.parameters()]
    assert [id(p) for p in algorithm.actor_optimizer.param_groups[0]["params"]] == [
        id(p) for p in actor.parameters()
    ]
    assert rates(algorithm.critic_optimizer, algorithm.actor_optimizer) == [0.0125, 0.0125]
    assert algorithm.scale_r.shape == () and algorithm.scale_c.shape == ()
    assert (algorithm.scale_r.item(), algorithm.scale_c.item()) == (1.0, 1.0)
    assert algorithm.selection is None and algorithm.fixed_shapes is False
    members = make(data, 3, **settings)
    assert members.scale_r.tolist() == [1.0] * 3 and members.scale_c.tolist() == [1.0] * 3
    assert members.actor.denoiser.from_obs.weight.shape == (3, 2, 6)


def test_the_sizes_lie_where_the_data_lie(data):
    """On torch's "meta" device, which has shapes but no numbers and mixes with no other."""
    data.device = torch.device("meta")
    algorithm = make(data)
    assert algorithm.scale_r.device == algorithm.scale_c.device == data.device


def test_delta_is_in_discounted_value_unless_given_per_episode(data):
    assert make(data, limit=0.3, delta=0.7).delta == 0.7
    settings = {"gamma": 0.5, "horizon": 3, "cost_scale": 4.0, "delta": 0.7, "limit": 0.3}
    # (1 + 1/2 + 1/4) 6 / 3 times 4
    algorithm = make(data, episode_delta=6.0, **settings)
    assert algorithm.delta == pytest.approx(14.0) and algorithm.limit == 0.3
    algorithm = make(data, episode_limit=6.0, **settings)
    # V_c and Q_c are discounted by alpha gamma, Q_c^pi by gamma.
    rate = 0.99 * 0.5
    value = 4.0 * 6.0 * (1.0 + rate + rate**2) / 3.0
    assert algorithm.limit == pytest.approx(value) and algorithm.delta == 0.7


def test_the_state_holds_all_networks_and_sizes_and_forgets_the_selection(data):
    names = {
        "v_c",
        "q_c",
        "q_c_target",
        "q_r",
        "q_r_target",
        "q_pi",
        "q_pi_target",
        "baseline",
        "cost_baseline",
    }
    names |= {
        "actor",
        "average",
        "previous",
        "v_optimizer",
        "q_optimizer",
        "critic_optimizer",
        "actor_optimizer",
        "lost_noise",
    }
    first, second = make(data), make(data)
    first.scale_r.fill_(2.0)
    first.scale_c.fill_(3.0)
    first.critics_trained = 5
    state = first.state_dict()
    assert set(state) == names | {"scale_r", "scale_c", "critics_trained"}
    first.scale_r.fill_(7.0)
    first.scale_c.fill_(8.0)
    second.selection = "of other critics"
    held = second.scale_r, second.scale_c
    second.load_state_dict(state)
    assert (second.scale_r.item(), second.scale_c.item(), second.critics_trained) == (2.0, 3.0, 5)
    assert second.selection is None and held[0] is second.scale_r and held[1] is second.scale_c
    for name in Sevpo.modules:
        for a, b in zip(getattr(first, name).parameters(), getattr(second, name).parameters()):
            assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("lidar", "share", "expected"),
    [
        (None, None, 2.0),
        ((0, 0.5), None, 0.6),
        (None, 0.5, 1.0),
        ((0, 0.5), 0.75, 1.5),
        ((0, 0.5), 0.0, 0.0),
    ],
)
def test_candidates_are_judged_by_a_share_of_the_limit(data, lidar, share, expected):
    data.lidar = lidar
    algorithm = make(data, limit=2.0, delta=9.0, acting_share=share)
    assert sevpo.LIDAR_ACTING_SHARE == 0.3
    assert algorithm.policy().limit == pytest.approx(expected)


def test_the_policy_is_the_averaged_actor_with_stage_ones_cost(data):
    algorithm = make(data, choice="argmax_reward", temperature=0.25)
    policy = algorithm.policy()
    assert policy.normalizer is algorithm.normalizer and policy.diffusion is algorithm.average
    assert (
        policy.cost_critic is algorithm.q_c_target and policy.reward_critic is algorithm.q_r_target
    )
    assert policy.cost_value is algorithm.v_c
    assert (policy.temperature, policy.choice) == (0.25, "argmax_reward")
    assert make(data).policy().choice == "argmin_cost"
    for choice in ("first", "first_safe", "escape", "argmin_cost", "argmax_reward"):
        assert algorithm.policy(choice).choice == choice


def test_a_members_policy_has_its_own_networks(data):
    algorithm = make(data, 2)
    for k in (0, 1):
        policy = algorithm.policy(member=k)
        torch.testing.assert_close(
            policy.diffusion.denoiser.from_obs.weight,
            algorithm.average.denoiser.from_obs.weight[k].T,
        )
        torch.testing.assert_close(
            policy.cost_value.net[0].weight, algorithm.v_c.net[0].weight[k].T
        )
        for found, source in (
            (policy.cost_critic, algorithm.q_c_target),
            (policy.reward_critic, algorithm.q_r_target),
        ):
            torch.testing.assert_close(found.layers[0].weight, source.layers[0].weight[k::2])
    first = algorithm.policy().cost_value.net[0].weight
    torch.testing.assert_close(first, algorithm.v_c.net[0].weight[0].T)


# configuration


def test_the_defaults_are_table_8():
    config = SevpoConfig()
    # Table 8: mu1 3, mu2 5, b1 1, b2 3, T 5, K_trust half of 1e6 steps, k 5, tau 0.9, gamma and
    # alpha 0.99
    assert (config.mu1, config.mu2, config.b1, config.b2) == (3.0, 5.0, 1.0, 3.0)
    assert (config.diffusion_steps, config.trust_start, config.trust_interval) == (5, 0.5, 5)
    assert (config.policy_steps, config.tau, config.gamma, config.alpha) == (
        1000000,
        0.9,
        0.99,
        0.99,
    )
    # averages at 0.001 (Table 8); batches, clip and choice are the release's
    assert (config.ema, config.actor_batch, config.actor_updates, config.weight_clip) == (
        0.001,
        1024,
        2,
        100.0,
    )
    assert (config.actor, config.width, config.depth, config.dropout) == ("resnet", 256, 3, 0.1)
    assert (config.prediction, config.temperature, config.choice) == ("noise", 1.0, "argmin_cost")
    # the readings of docs/algorithm.md
    assert (config.unsafe_objective, config.advantage, config.penalty) == (
        "gradient",
        "baseline",
        "signed",
    )
    assert (config.normalize_advantage, config.normalize_weights, config.trust_region) == (
        True,
        True,
        "added",
    )
    assert (config.delta, config.episode_delta, config.lookahead, config.warmup) == (
        1.0,
        None,
        0,
        0.0,
    )
    assert (config.data_cost_penalty, config.unsafe_cloning, config.trust_weight) == (0.0, 0.0, 1.0)
    assert (config.unsafe_candidates, config.unsafe_samples, config.exponent_clip) == (32, 256, 2.0)
    assert config.actor_rate is None and config.acting_share is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"unsafe_objective": "x"},
            "unsafe_objective is 'x', expected one of gradient, search, awr, none, printed$",
        ),
        ({"advantage": "x"}, "advantage is 'x', expected one of baseline, paper$"),
        ({"penalty": "x"}, "penalty is 'x', expected one of signed, paper, none$"),
        ({"trust_region": "x"}, "trust_region is 'x', expected one of added, printed, off$"),
        (
            {"choice": "x"},
            "choice is 'x', expected one of first, first_safe, escape, argmin_cost, argmax_reward$",
        ),
        ({"bootstrap": "x"}, "bootstrap is 'x', expected one of terminals, release, printed$"),
        ({"acting_share": -0.25}, "acting_share is -0.25, expected 0 or more"),
        ({"lookahead": -1}, "lookahead is -1, expected 0 or more steps"),
        ({"gamma": 1.0}, "gamma is 1.0, expected"),
    ],
)
def test_settings_without_a_meaning_are_named(settings, expected):
    with pytest.raises(ValueError, match=expected):
        SevpoConfig(**settings)


def test_settings_at_the_edge_of_their_range_are_taken():
    assert SevpoConfig(acting_share=0.0, lookahead=0).acting_share == 0.0
