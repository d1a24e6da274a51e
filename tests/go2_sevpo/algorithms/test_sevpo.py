"""Tests that would catch the faults of the published release, and the readings chosen for the
paper's gaps.
"""

import copy
import dataclasses
import math

import pytest
import torch

from go2_sevpo.algorithms import regions
from go2_sevpo.algorithms.selection import Selection
from go2_sevpo.algorithms.sevpo import (
    Sevpo,
    SevpoConfig,
    constrained_reward,
    expectile_loss,
    soft_exp,
)
from go2_sevpo.data.dataset import Batch, OfflineDataset

SMALL = {
    "critic_steps": 40,
    "policy_steps": 40,
    "critic_hidden": (32, 32),
    "critic_batch": 32,
    "actor_batch": 32,
    "actor_updates": 1,
    "actor": "mlp",
    "width": 32,
    "depth": 2,
    "dropout": 0.0,
    "limit": 0.3,
    "delta": 0.3,
}


def make(dataset, members=None, **changes):
    torch.manual_seed(0)
    return Sevpo(SevpoConfig(**{**SMALL, **changes}), dataset, members)


def parameters(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()


def train(algorithm, dataset, stages=("critics", "policy"), seed=0):
    generator = torch.Generator().manual_seed(seed)
    for stage in stages:
        for step in range(algorithm.steps(stage)):
            metrics = algorithm.update(stage, step, dataset, generator)
    return metrics


def test_stage_one_changes_its_networks_and_stage_two_leaves_them_frozen(dataset):
    algorithm = make(dataset)
    before = [parameters(m) for m in (algorithm.v_c, algorithm.q_c, algorithm.q_c_target)]
    train(algorithm, dataset, ("critics",))
    between = [parameters(m) for m in (algorithm.v_c, algorithm.q_c, algorithm.q_c_target)]
    assert all(not torch.equal(a, b) for a, b in zip(before, between))
    train(algorithm, dataset, ("policy",))
    after = [parameters(m) for m in (algorithm.v_c, algorithm.q_c, algorithm.q_c_target)]
    assert all(torch.equal(a, b) for a, b in zip(between, after))


def test_policy_stage_refuses_to_start_without_a_trained_first_stage(dataset):
    algorithm = make(dataset)
    with pytest.raises(RuntimeError, match="found 0 steps of the critics stage, expected 40"):
        algorithm.update("policy", 0, dataset, torch.Generator())


def test_expectile_pulls_towards_the_least_cost():
    q = torch.tensor([0.0, 10.0]).repeat(500)
    v = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.SGD([v], 0.1)
    for _ in range(500):
        optimizer.zero_grad()
        expectile_loss(q - v, 0.9).mean().backward()
        optimizer.step()
    assert v.item() == pytest.approx(1.0, abs=0.05)  # tau-expectile of {0, 10}: 0.1 * 10
    assert expectile_loss(torch.tensor(-1.0), 0.9).item() == pytest.approx(0.9)
    assert expectile_loss(torch.tensor(1.0), 0.9).item() == pytest.approx(0.1)


def _one_row(dataset, terminal, cost, timeout=0.0):
    obs = torch.zeros(64, dataset.num_obs)

    def full(value):
        return torch.full((64,), value)

    act = torch.zeros(64, dataset.num_actions)
    return Batch(obs, act, torch.ones(64), full(cost), obs + 0.5, full(terminal), full(timeout))


@pytest.mark.parametrize(
    ("terminal", "bootstrap", "stops"),
    [(0.0, "terminals", False), (1.0, "terminals", True), (0.0, "release", True)],
)
def test_only_true_terminals_stop_the_bootstrap(dataset, terminal, bootstrap, stops):
    """Every row is also a time-out: it must not stop the backup unless the release's way is asked
    for.
    """
    algorithm = make(dataset, alpha=1.0, bootstrap=bootstrap)
    with torch.no_grad():
        algorithm.v_c.net[-1].weight.zero_()
        algorithm.v_c.net[-1].bias.fill_(5.0)
    algorithm.v_optimizer = torch.optim.SGD(algorithm.v_c.parameters(), 0.0)
    algorithm.q_optimizer = torch.optim.Adam(algorithm.q_c.parameters(), 1e-2)
    batch = _one_row(dataset, terminal, 1.0, timeout=1.0)
    for _ in range(300):
        algorithm.update_conservative(batch)
    expected = 1.0 if stops else 1.0 + 0.99 * 5.0
    assert algorithm.q_c(batch.obs, batch.act).mean().item() == pytest.approx(expected, abs=0.1)


def test_reward_critic_also_bootstraps_through_time_outs_only(dataset):
    for terminal, expected in ((1.0, 1.0), (0.0, 1.0 + 0.99 * 3.0)):
        algorithm = make(dataset, target_rate=0.0)
        for layer in (algorithm.q_r_target.layers[-1],):
            layer.weight.data.zero_()
            layer.bias.data.fill_(3.0)
        algorithm.critic_optimizer = torch.optim.Adam(algorithm.q_r.parameters(), 1e-2)
        batch = _one_row(dataset, terminal, 0.0)
        for _ in range(300):
            algorithm.update_policy_critics(batch, torch.Generator().manual_seed(0))
        assert algorithm.q_r(batch.obs, batch.act).mean().item() == pytest.approx(expected, abs=0.1)


def _bandit(seed=0):
    """One-step episodes; every action costs its first coordinate's distance from -0.8; no state is
    safe.
    """
    import numpy as np

    from tests.conftest import make_episodes

    data = make_episodes(lengths=(1,) * 400, n_obs=2, n_act=1, seed=seed, fall_every=1)
    data.columns["costs"] = (5.0 + 5.0 * np.abs(data.columns["actions"][:, 0] + 0.8)).astype(
        np.float32
    )
    return OfflineDataset([data])


def sampled_cost(algorithm, data):
    with torch.no_grad():
        noise = torch.randn(200, 5, 1, generator=torch.Generator().manual_seed(3))
        act = algorithm.actor.sample(data.frames[data.first[:200]], noise)
    return (5.0 + 5.0 * (act[:, 0] + 0.8).abs()).mean().item()


@pytest.mark.parametrize("objective", ["gradient", "search"])
def test_unsafe_objective_moves_the_actor_and_lowers_the_sampled_cost(objective):
    data = _bandit()
    algorithm = make(
        data,
        critic_steps=600,
        policy_steps=150,
        limit=0.5,
        critic_batch=128,
        actor_batch=128,
        rate=2e-3,
        unsafe_objective=objective,
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(600):
        metrics = algorithm.update("critics", step, data, generator)
    assert metrics["unsafe_share"] == 1.0
    start, weights = sampled_cost(algorithm, data), parameters(algorithm.actor)
    for step in range(150):
        algorithm.update("policy", step, data, generator)
    assert not torch.equal(weights, parameters(algorithm.actor))
    assert sampled_cost(algorithm, data) < start - 1.0


@pytest.mark.parametrize("members", [None, 2])
def test_search_leaves_a_shallow_valley_of_the_cost_for_a_deep_one(dataset, members):
    """All data actions lie at 0.8, at the bottom of a valley with Q_c 1; at -0.8 is one
    with Q_c 0.
    """
    algorithm = make(
        dataset, members=members, unsafe_objective="search", normalize_advantage=False, mu2=20.0
    )
    algorithm.q_c_target = lambda obs, act: torch.stack(
        [torch.minimum((act + 0.8).abs().amax(-1), 1.0 + (act - 0.8).abs().amax(-1))] * 2
    )
    shape, generator = (
        (200,) if members is None else (members, 200),
        torch.Generator().manual_seed(0),
    )
    n_obs, n_act = dataset.num_obs, dataset.num_actions
    obs, data = torch.zeros(*shape, n_obs), torch.full((*shape, n_act), 0.8)
    found = algorithm._found_actions(obs, data, torch.zeros(shape), torch.ones(shape), generator)
    assert found.shape == data.shape and (found < 0.2).float().mean() > 0.9
    algorithm.config = dataclasses.replace(
        algorithm.config, mu2=0.0
    )  # no preference: as likely anywhere
    found = algorithm._found_actions(obs, data, torch.zeros(shape), torch.ones(shape), generator)
    assert 0.4 < (found[..., 0] < 0.0).float().mean() < 0.6


def test_the_printed_sign_raises_the_sampled_cost():
    data = _bandit()
    options = {
        "critic_steps": 600,
        "policy_steps": 150,
        "limit": 0.5,
        "critic_batch": 128,
        "actor_batch": 128,
        "rate": 2e-3,
    }
    algorithm = make(data, unsafe_objective="printed", trust_region="off", **options)
    generator = torch.Generator().manual_seed(0)
    for step in range(600):
        algorithm.update("critics", step, data, generator)
    start = sampled_cost(algorithm, data)
    for step in range(150):
        algorithm.update("policy", step, data, generator)
    assert sampled_cost(algorithm, data) > start + 0.5


@pytest.mark.parametrize("objective", ["gradient", "search", "awr", "none", "printed"])
@pytest.mark.parametrize("trust", ["added", "printed", "off"])
def test_every_unsafe_option_trains_to_finite_weights(dataset, objective, trust):
    algorithm = make(
        dataset, unsafe_objective=objective, trust_region=trust, limit=0.05, policy_steps=20
    )
    metrics = train(algorithm, dataset)
    assert torch.isfinite(parameters(algorithm.actor)).all()
    assert all(torch.isfinite(v) for v in metrics.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"advantage": "paper"},
        {"penalty": "paper"},
        {"penalty": "none"},
        {"normalize_weights": False},
        {"normalize_advantage": False},
        {"data_cost_penalty": 0.5},
        {"unsafe_cloning": 0.1},
        {"warmup": 0.5},
        {"prediction": "clean"},
    ],
)
def test_every_safe_option_trains_and_changes_the_result(dataset, changes):
    plain, changed = make(dataset, limit=0.05), make(dataset, limit=0.05, **changes)
    train(plain, dataset)
    train(changed, dataset)
    assert torch.isfinite(parameters(changed.actor)).all()
    assert not torch.equal(parameters(plain.actor), parameters(changed.actor))


def test_penalty_always_makes_a_costly_action_worse():
    q_r, q_c = torch.tensor([2.0, -2.0, 2.0, -2.0]), torch.tensor([4.0, 4.0, 0.1, 0.1])
    assert constrained_reward(q_r, q_c, 1.0, "signed").tolist() == [0.5, -8.0, 2.0, -2.0]
    assert constrained_reward(q_r, q_c, 1.0, "paper").tolist() == [0.5, -0.5, 2.0, -2.0]


def test_safe_weights_are_zero_outside_s1_and_have_mean_one_inside(dataset):
    algorithm = make(dataset)
    batch = dataset.sample(64, torch.Generator().manual_seed(0))
    safe = torch.arange(64) % 3 == 0
    weight, _ = algorithm.safe_weights(batch, safe)
    assert torch.all(weight[~safe] == 0)
    assert weight[safe].mean().item() == pytest.approx(1.0, rel=1e-5)


def test_regions_partition_as_in_algorithm_one():
    v, q = torch.tensor([0.0, 0.0, 2.0]), torch.tensor([0.5, 2.0, 0.0])
    safe, unsafe = regions.split(v, q, 1.0)
    assert safe.tolist() == [True, False, False]
    assert unsafe.tolist() == [False, False, True]


def test_limit_conversion():
    assert regions.state_limit(10, 0.99, 1000) == pytest.approx(10 * (1 - 0.99**1000) / 10)
    with pytest.raises(ValueError, match="gamma is 1.0"):
        regions.state_limit(10, 1.0, 1000)


def test_episode_limits_replace_the_thresholds(dataset):
    algorithm = make(dataset, episode_limit=10.0, episode_delta=20.0, horizon=100, cost_scale=2.0)
    assert algorithm.limit == pytest.approx(regions.state_limit(10.0, 0.9801, 100, 2.0))
    assert algorithm.delta == pytest.approx(regions.state_limit(20.0, 0.99, 100, 2.0))
    assert make(dataset).limit == 0.3


def test_exponential_continues_linearly():
    x = torch.tensor([0.0, 2.0, 5.0], requires_grad=True)
    y = soft_exp(x, 2.0)
    y.sum().backward()
    assert y.tolist() == pytest.approx([1.0, math.exp(2), 4 * math.exp(2)], rel=1e-5)
    assert x.grad.tolist() == pytest.approx([1.0, math.exp(2), math.exp(2)], rel=1e-5)


def test_unknown_option_is_named():
    with pytest.raises(ValueError, match="unsafe_objective is 'x', expected one of gradient"):
        SevpoConfig(unsafe_objective="x")


def test_state_dict_restores_everything_training_changes(dataset):
    algorithm = make(dataset)
    train(algorithm, dataset, ("critics",))
    state, generator = copy.deepcopy(algorithm.state_dict()), torch.Generator().manual_seed(7)
    for step in range(10):
        algorithm.update("policy", step, dataset, generator)
    other = make(dataset)
    other.load_state_dict(state)
    generator = torch.Generator().manual_seed(7)
    for step in range(10):
        other.update("policy", step, dataset, generator)
    for name in Sevpo.modules:
        assert torch.equal(
            parameters(getattr(algorithm, name)), parameters(getattr(other, name))
        ), name


def test_floor_keeps_the_backup_from_going_below_zero(dataset):
    for floor, expected in ((False, -4.95), (True, 0.0)):
        algorithm = make(dataset, alpha=1.0, floor=floor)
        with torch.no_grad():
            algorithm.v_c.net[-1].weight.zero_()
            algorithm.v_c.net[-1].bias.fill_(-5.0)
        algorithm.v_optimizer = torch.optim.SGD(algorithm.v_c.parameters(), 0.0)
        algorithm.q_optimizer = torch.optim.Adam(algorithm.q_c.parameters(), 1e-2)
        batch = _one_row(dataset, 0.0, 0.0)
        for _ in range(300):
            algorithm.update_conservative(batch)
        assert algorithm.q_c(batch.obs, batch.act).mean().item() == pytest.approx(expected, abs=0.1)


def test_cost_of_following_the_data_ends_with_the_episode():
    cost = torch.tensor([1.0, 0, 2, 0, 4, 0, 1])
    value = torch.tensor(
        [[10.0, 20, 30, 40, 0, 60, 0]]
    )  # of the successors; episodes of 5 and 2 rows
    last = torch.tensor([4, 4, 4, 4, 4, 6, 6])
    assert regions.cost_ahead(cost, value, last, 1).tolist() == [[11.0, 20, 32, 40, 4, 60, 1]]
    assert regions.cost_ahead(cost, value, last, 3).tolist() == [[33.0, 42, 6, 4, 4, 1, 1]]
    assert regions.cost_ahead(cost, value, last, 99).tolist() == [[7.0, 6, 6, 4, 4, 1, 1]]


@pytest.mark.parametrize("members", [None, 2])
def test_lookahead_leaves_out_what_the_data_pay_for_later(dataset, members):
    shares = {}
    for lookahead in (0, 5, 1000):
        torch.manual_seed(0)
        algorithm = Sevpo(SevpoConfig(**{**SMALL, "lookahead": lookahead}), dataset, members)
        train(algorithm, dataset, ("critics",))
        everything = dataset.rows(torch.arange(len(dataset)).expand(algorithm.shape(len(dataset))))
        with torch.no_grad():
            q_c = algorithm.q_c_target(everything.obs, everything.act).amax(0)
            after = algorithm.v_c(everything.next_obs).clamp_min(0.0) * (1.0 - everything.terminal)
            algorithm.limit = float(
                q_c.quantile(0.98)
            )  # hardly trained networks: a limit that some rows exceed
            expected = regions.split(algorithm.v_c(everything.obs), q_c, algorithm.limit)[0]
        for i, last in enumerate(dataset.last_row().tolist()):
            if lookahead:
                end = min(i + lookahead - 1, last)
                expected[..., i] &= (
                    dataset.cost[i : end + 1].sum() + after[..., end] <= algorithm.limit
                )
        train(algorithm, dataset, ("policy",))
        assert torch.equal(algorithm.selection.safe, expected)
        shares[lookahead] = float(expected.float().mean())
    assert 0.0 <= shares[1000] < shares[5] < shares[0] < 1.0


@pytest.mark.parametrize("with_unsafe", [False, True])
@pytest.mark.parametrize("members", [None, 2])
def test_the_actor_draws_only_rows_that_matter_all_alike(dataset, members, with_unsafe):
    shape = (len(dataset),) if members is None else (members, len(dataset))
    part = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    safe, unsafe = part < 0.1, part > 0.95
    selection = Selection(safe, unsafe, with_unsafe)
    batch = selection.sample(dataset, (*shape[:-1], 20_000), torch.Generator().manual_seed(1))
    useful = safe | unsafe if with_unsafe else safe
    counts = torch.zeros(shape).scatter_add(-1, batch.index, torch.ones(batch.index.shape))
    assert not counts[~useful].any()
    expected = 20_000 / useful.sum(-1, keepdim=True)
    assert ((counts - expected)[useful].abs() < 6 * expected.max() ** 0.5).all()
    assert torch.equal(selection.masks(batch)[0], safe.gather(-1, batch.index))
    assert torch.equal(batch.act, dataset.act[batch.index])


def test_a_negative_lookahead_is_an_error():
    with pytest.raises(ValueError, match="lookahead is -3, expected 0 or more"):
        SevpoConfig(lookahead=-3)


def test_no_safe_row_is_an_error():
    nothing = torch.zeros(2, 50, dtype=torch.bool)
    with pytest.raises(ValueError, match="no transition of the data passes the region test"):
        Selection(nothing, ~nothing, False)
