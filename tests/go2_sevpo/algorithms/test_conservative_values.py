"""Stage 1 (Eqs. 6 and 7): one step of linear networks, with plain gradient descent, against the
same step by hand.
"""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import conservative
from go2_sevpo.algorithms.conservative import ConservativeConfig, ConservativeCritics
from go2_sevpo.data.dataset import Batch, OfflineDataset
from tests.conftest import make_episodes

RATE = 0.125
"""Of the plain gradient descent."""


@pytest.fixture
def data():
    return OfflineDataset([make_episodes((3, 2), n_obs=2, n_act=1)])


def make(data, members=None, **settings):
    """Linear networks: no hidden layer."""
    return ConservativeCritics(
        ConservativeConfig(**{"critic_hidden": (), **settings}), data, members
    )


def batch_by_hand(repeat=None):
    """Four transitions: one goes on, one is a terminal, one a time-out, one both; two on either
    side of Eq. 6.
    """

    def tensor(values):
        found = torch.tensor(values, dtype=torch.float32)
        return found if repeat is None else torch.stack([found, *[found.flip(0)] * (repeat - 1)])

    return Batch(
        obs=tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [1.0, 1.0]]),
        act=tensor([[0.5], [-1.0], [0.25], [0.75]]),
        reward=tensor([100.0, 100.0, 100.0, 100.0]),  # stage 1 knows no reward
        cost=tensor([0.5, 1.0, 0.0, 2.0]),
        next_obs=tensor([[1.0, -2.0], [0.5, 0.5], [-1.5, -0.5], [2.0, -1.0]]),
        terminal=tensor([0.0, 1.0, 0.0, 1.0]),
        timeout=tensor([0.0, 0.0, 1.0, 1.0]),
    )


V_WEIGHT, V_BIAS = np.array([0.4, -0.3]), 0.1
# the heads disagree: each is the larger one for some transitions
Q_WEIGHT, Q_BIAS = np.array([[0.3, 0.2, -0.5], [-0.4, 0.6, 0.7]]), np.array([0.2, -0.1])
TARGET_WEIGHT, TARGET_BIAS = (
    np.array([[0.5, -0.6, 0.9], [-0.2, 0.8, -1.1]]),
    np.array([-0.75, -0.05]),
)


def set_value(value, k=None, factor=1.0):
    layer = value.net[-1]
    if k is None:
        layer.weight.data[:] = torch.as_tensor(V_WEIGHT[None] * factor)
        layer.bias.data[:] = V_BIAS * factor
    else:
        layer.weight.data[k, :, 0] = torch.as_tensor(V_WEIGHT * factor)
        layer.bias.data[k] = V_BIAS * factor


def set_critic(critic, weight, bias, k=0, members=1, factor=1.0):
    layer = critic.layers[-1]
    layer.weight.data[k::members, :, 0] = torch.as_tensor(weight * factor, dtype=torch.float32)
    layer.bias.data[k::members, 0, 0] = torch.as_tensor(bias * factor, dtype=torch.float32)


def values_of(algorithm, k=None, members=1):
    value, critic = algorithm.v_c.net[-1], algorithm.q_c.layers[-1]
    target = algorithm.q_c_target.layers[-1]
    j = 0 if k is None else k
    weight = value.weight.data[0] if k is None else value.weight.data[k, :, 0]
    bias = value.bias.data[0] if k is None else value.bias.data[k, 0, 0]
    return {
        "v": np.append(weight.numpy(), bias.item()),
        "q": np.column_stack(
            [critic.weight.data[j::members, :, 0], critic.bias.data[j::members, 0, 0]]
        ),
        "target": np.column_stack(
            [target.weight.data[j::members, :, 0], target.bias.data[j::members, 0, 0]]
        ),
    }


def step_by_hand(batch, config, stops, factor=1.0):
    """Eqs. 6 and 7 and the target's average, by arithmetic; ``stops`` says where a backup ends."""
    obs, act, after = batch.obs.numpy(), batch.act.numpy(), batch.next_obs.numpy()
    one = np.ones((len(obs), 1))
    seen, pair, then = np.hstack([obs, one]), np.hstack([obs, act, one]), np.hstack([after, one])
    v = np.append(V_WEIGHT, V_BIAS) * factor
    q = np.column_stack([Q_WEIGHT, Q_BIAS]) * factor
    target = np.column_stack([TARGET_WEIGHT, TARGET_BIAS]) * factor
    # Eq. 6: u = max_heads Q_c - V_c; weight tau where u <= 0, 1 - tau above
    greatest, value = (pair @ target.T).max(1), seen @ v
    u = greatest - value
    weight = np.where(u > 0, 1.0 - config.tau, config.tau)
    assert (u > 0).any() and (u < 0).any()
    v_new = v + RATE * (2.0 * weight * u) @ seen / len(u)
    # Eq. 7 with the emergency exit: (1 - alpha) c + alpha (c + gamma V_c(s'))
    bootstrap = then @ v_new
    assert (bootstrap > 0).any() and (bootstrap < 0).any()
    if config.floor:
        bootstrap = np.maximum(bootstrap, 0.0)
    cost = config.cost_scale * batch.cost.numpy()
    backup = cost + np.where(stops, 0.0, config.gamma * bootstrap)
    aim = (1.0 - config.alpha) * cost + config.alpha * backup
    error = pair @ q.T - aim[:, None]
    q_new = q - RATE * 2.0 * (error.T @ pair) / len(u)
    target_new = target + config.target_rate * (q_new - target)
    metrics = {
        "v_loss": (weight * u**2).mean(),
        "q_loss": (error**2).sum(1).mean(),
        "v_c": value.mean(),
        "v_c_max": value.max(),
        "q_c": greatest.mean(),
        "safe_share": ((value <= config.limit) & (greatest <= config.limit)).mean(),
        "unsafe_share": (value > config.limit).mean(),
    }
    return {"v": v_new, "q": q_new, "target": target_new}, metrics


TERMINALS, RELEASE = np.array([False, True, False, True]), np.array([False, True, True, True])
SETTINGS = [
    {},
    {"alpha": 0.7, "gamma": 0.6},
    {"alpha": 0.7, "gamma": 0.6, "tau": 0.65, "cost_scale": 2.5, "target_rate": 0.25},
    {"alpha": 0.8, "gamma": 0.9, "floor": True, "limit": 0.75},
    {"alpha": 1.0, "gamma": 0.9, "bootstrap": "release", "target_rate": 1.0, "limit": 0.3},
    {"alpha": 0.8, "gamma": 0.7, "bootstrap": "release", "floor": True, "cost_scale": 0.5},
]


def plain_descent(algorithm):
    for name in ("v", "q"):
        network = algorithm.v_c if name == "v" else algorithm.q_c
        setattr(algorithm, name + "_optimizer", torch.optim.SGD(network.parameters(), lr=RATE))


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_step_of_stage_one_is_equations_6_and_7(data, settings):
    algorithm = make(data, **settings)
    set_value(algorithm.v_c)
    set_critic(algorithm.q_c, Q_WEIGHT, Q_BIAS)
    set_critic(algorithm.q_c_target, TARGET_WEIGHT, TARGET_BIAS)
    plain_descent(algorithm)
    stops = RELEASE if settings.get("bootstrap") == "release" else TERMINALS
    batch = batch_by_hand()
    expected, metrics = step_by_hand(batch, algorithm.config, stops)
    found = algorithm.update_conservative(batch)
    for name, value in values_of(algorithm).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(metrics, rel=1e-5)
    assert algorithm.critics_trained == 1


def test_members_take_the_same_step_each_on_its_own(data):
    algorithm = make(data, members=2, alpha=0.7, gamma=0.6)
    for k, factor in ((0, 1.0), (1, 0.5)):
        set_value(algorithm.v_c, k, factor)
        set_critic(algorithm.q_c, Q_WEIGHT, Q_BIAS, k, 2, factor)
        set_critic(algorithm.q_c_target, TARGET_WEIGHT, TARGET_BIAS, k, 2, factor)
    plain_descent(algorithm)
    found = algorithm.descend_conservative(batch_by_hand(2))
    plain = batch_by_hand()
    turned = Batch(*[getattr(plain, f.name).flip(0) for f in fields(Batch)[:7]])
    sums = []
    for k, (batch, stops, factor) in enumerate(
        ((plain, TERMINALS, 1.0), (turned, TERMINALS[::-1], 0.5))
    ):
        expected, metrics = step_by_hand(batch, algorithm.config, stops, factor)
        sums.append(metrics)
        for name, value in values_of(algorithm, k, 2).items():
            np.testing.assert_allclose(
                value, expected[name], rtol=1e-5, atol=1e-6, err_msg=f"{name} of {k}"
            )
    for name in ("v_loss", "q_loss", "v_c", "q_c"):
        assert found[name].item() == pytest.approx(
            (sums[0][name] + sums[1][name]) / 2.0, rel=1e-5
        ), name
    assert algorithm.critics_trained == 0  # the count belongs to the step around it


@pytest.mark.parametrize(
    ("u", "tau", "expected"),
    [
        (2.0, 0.9, 0.4),
        (-2.0, 0.9, 3.6),
        (0.5, 0.7, 0.075),
        (-0.5, 0.7, 0.175),
        (0.0, 0.7, 0.0),
        (3.0, 0.5, 4.5),
    ],
)
def test_the_expectile_loss_weighs_costs_below_the_value_by_tau(u, tau, expected):
    # Eq. 6: |tau - 1{u > 0}| u^2
    assert conservative.expectile_loss(torch.tensor([u]), tau).item() == pytest.approx(
        expected, rel=1e-6, abs=0
    )


@pytest.mark.parametrize(
    ("bootstrap", "expected"), [("terminals", [1, 0, 1, 0]), ("release", [1, 0, 0, 0])]
)
def test_what_ends_a_backup(data, bootstrap, expected):
    assert make(data, bootstrap=bootstrap).alive(batch_by_hand()).tolist() == expected


def test_stage_one_starts_with_equal_targets_and_the_configured_rates(data):
    algorithm = make(data, rate=0.0125, critic_hidden=(5, 7))
    assert [tuple(layer.weight.shape) for layer in algorithm.q_c.layers] == [
        (2, 3, 5),
        (2, 5, 7),
        (2, 7, 1),
    ]
    linears = [layer for layer in algorithm.v_c.net if isinstance(layer, torch.nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linears] == [(5, 2), (7, 5), (1, 7)]
    for mine, target in zip(algorithm.q_c.parameters(), algorithm.q_c_target.parameters()):
        assert torch.equal(mine, target) and not target.requires_grad and mine is not target
    for optimizer, network in (
        (algorithm.v_optimizer, algorithm.v_c),
        (algorithm.q_optimizer, algorithm.q_c),
    ):
        assert optimizer.param_groups[0]["lr"] == 0.0125
        assert [id(p) for p in optimizer.param_groups[0]["params"]] == [
            id(p) for p in network.parameters()
        ]
    assert algorithm.members is None and algorithm.n_act == 1 and algorithm.device == data.device
    assert algorithm.critics_trained == 0
    torch.testing.assert_close(algorithm.normalizer.mean, data.mean)


def test_members_have_networks_of_their_own(data):
    algorithm = make(data, members=3, critic_hidden=(4,))
    assert algorithm.v_c.net[0].weight.shape == (3, 2, 4)
    assert algorithm.q_c.members == 3 and algorithm.q_c.layers[0].weight.shape == (6, 3, 4)
    assert algorithm.make_critic().members == 3 and algorithm.make_value().net[0].weight.shape == (
        3,
        2,
        4,
    )
    assert algorithm.shape(5) == (3, 5)


def test_networks_lie_where_the_data_lie(data):
    """On torch's "meta" device, which has shapes but no numbers and mixes with no other."""
    algorithm = make(data)
    algorithm.device = torch.device("meta")
    for network in (algorithm.make_critic(), algorithm.make_value()):
        assert all(p.device == algorithm.device for p in network.parameters())


def test_the_limit_is_in_discounted_value_unless_given_per_episode(data):
    assert make(data, limit=0.3).limit == 0.3
    settings = {"limit": 0.3, "episode_limit": 6.0, "horizon": 3, "cost_scale": 4.0}
    settings.update(gamma=0.625, alpha=0.8)  # what V_c is discounted by is their product, 1/2
    # (1 + 1/2 + 1/4) 6 / 3 times 4
    assert make(data, **settings).limit == pytest.approx(14.0)
    assert make(data, **{**settings, "horizon": 1}).limit == pytest.approx(24.0)
    assert make(data, **{**settings, "episode_limit": 0.0}).limit == 0.0
    assert make(data, **settings).threshold(5.0, None, 0.5) == 5.0
    assert make(data, **settings).threshold(5.0, 3.0, 0.5) == pytest.approx(7.0)


def rates(algorithm):
    return [o.param_groups[0]["lr"] for o in (algorithm.v_optimizer, algorithm.q_optimizer)]


def test_the_critics_rate_follows_a_cosine_only_if_asked_for(data):
    plain = make(data, rate=0.5, critic_steps=4)
    plain.critics_trained = 3
    plain.prepare_conservative()
    assert rates(plain) == [0.5, 0.5]
    algorithm = make(data, rate=0.5, critic_steps=4, critic_decay=True)
    for trained, share in (
        (0, 1.0),
        (1, (1 + math.sqrt(0.5)) / 2),
        (2, 0.5),
        (3, (1 - math.sqrt(0.5)) / 2),
        (4, 0.0),
    ):
        algorithm.critics_trained = trained
        algorithm.prepare_conservative()
        assert rates(algorithm) == pytest.approx([0.5 * share] * 2, abs=1e-12)


def test_an_update_sets_the_rate_before_it_descends(data):
    algorithm = make(data, rate=0.5, critic_steps=2, critic_decay=True)
    plain_descent(algorithm)
    seen = []
    algorithm.descend_conservative = lambda batch: (
        seen.append((batch, rates(algorithm))) or {"of": batch}
    )
    assert algorithm.update_conservative("first") == {"of": "first"}
    assert algorithm.update_conservative("second") == {"of": "second"}
    assert seen == [("first", [0.5, 0.5]), ("second", pytest.approx([0.25, 0.25]))]
    assert algorithm.critics_trained == 2


def test_the_policy_stage_asks_for_all_steps_of_stage_one(data):
    algorithm = make(data, critic_steps=3)
    algorithm.critics_trained = 2
    expected = "needs trained conservative critics: found 2 steps of the critics stage, expected 3"
    with pytest.raises(RuntimeError, match=expected):
        algorithm.require_critics()
    for trained in (3, 4):
        algorithm.critics_trained = trained
        algorithm.require_critics()


def test_the_state_of_stage_one_is_restored_with_its_count(data):
    first, second = make(data), make(data)
    first.update_conservative(batch_by_hand())
    state = first.state_dict()
    names = ["v_c", "q_c", "q_c_target", "v_optimizer", "q_optimizer", "critics_trained"]
    assert list(state) == names and state["critics_trained"] == 1
    second.load_state_dict(state)
    assert second.critics_trained == 1
    for name, value in values_of(first).items():
        np.testing.assert_array_equal(values_of(second)[name], value)


def test_the_defaults_are_table_8():
    config = ConservativeConfig()
    # Table 8: expectile 0.9, discount 0.99, alpha 0.99, 1e6 steps; the target's rate and batch are
    # the release's
    assert (config.tau, config.gamma, config.alpha, config.critic_steps) == (
        0.9,
        0.99,
        0.99,
        1000000,
    )
    assert (config.target_rate, config.critic_batch, config.rate) == (0.005, 256, 3e-4)
    assert config.critic_hidden == (256, 256)
    assert (config.limit, config.episode_limit, config.horizon, config.cost_scale) == (
        1.0,
        None,
        1000,
        1.0,
    )
    assert (config.bootstrap, config.floor, config.critic_decay) == ("terminals", False, False)
    assert conservative.BOOTSTRAPS == ("terminals", "release", "printed")
    assert (config.falls, config.false_alarms, config.calm_steps) == ("end", None, 100)
    assert config.discount == pytest.approx(0.9801)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"bootstrap": "none"},
            "bootstrap is 'none', expected one of terminals, release, printed$",
        ),
        ({"gamma": 0.0}, r"gamma is 0.0, expected a number in \(0, 1\)"),
        ({"gamma": 1.0}, r"gamma is 1.0, expected a number in \(0, 1\)"),
        ({"tau": 0.499}, r"tau is 0.499, expected a number in \[0.5, 1\)"),
        ({"tau": 1.0}, r"tau is 1.0, expected a number in \[0.5, 1\)"),
    ],
)
def test_settings_without_a_meaning_are_named(settings, expected):
    with pytest.raises(ValueError, match=expected):
        ConservativeConfig(**settings)


def test_settings_at_the_edge_of_their_range_are_taken():
    config = ConservativeConfig(tau=0.5, gamma=0.001, bootstrap="release")
    assert replace(config, gamma=0.999, tau=0.999).gamma == 0.999
