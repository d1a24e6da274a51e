"""CPQ and COptiDICE: the mechanism that makes each what it is, members, and the deployable
actor.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.algorithms.coptidice import f_soft, f_soft_inverse
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.data.shards import Episodes
from go2_sevpo.networks.gaussian import SquashedGaussian
from go2_sevpo.policies.torch_policy import load_policy, save_policy

SMALL = {"hidden": (32, 32), "batch": 64, "steps": 30}


def make(name, dataset, members=None, **changes):
    torch.manual_seed(0)
    extra = {"vae_hidden": 16} if name == "cpq" else {}
    return make_algorithm(name, make_config(name, {**SMALL, **extra, **changes}), dataset, members)


def bandit(n=2000):
    """One state, one step: actions near +0.5 earn 1 and cost 1, actions near -0.5 earn 0.5 and cost
    nothing.
    """
    rng = np.random.default_rng(0)
    good = rng.random(n) < 0.5
    zeros, ones = np.zeros((n, 3), np.float32), np.ones(n, np.float32)
    columns = {
        "observations": zeros,
        "next_observations": zeros,
        "actions": (np.where(good, -0.5, 0.5)[:, None] + 0.05 * rng.normal(size=(n, 1))).astype(
            np.float32
        ),
        "rewards": np.where(good, 0.5, 1.0).astype(np.float32),
        "costs": np.where(good, 0.0, 1.0).astype(np.float32),
        "terminals": ones,
        "timeouts": 0 * ones,
    }
    table = {
        "length": np.ones(n, int),
        "return": columns["rewards"],
        "cost": columns["costs"],
        "success": good,
        "fall": ~good,
    }
    return OfflineDataset([Episodes(columns, table)])


def test_squashed_likelihood_is_a_density():
    torch.manual_seed(0)
    actor = SquashedGaussian(3, 1, (8,))
    grid = torch.linspace(-0.9999, 0.9999, 20001)[:, None]
    with torch.no_grad():
        density = actor.log_prob(torch.zeros(20001, 3), grid).exp()
    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1.0, abs=0.01)


def test_cpq_backs_up_reward_only_through_actions_within_the_limit(dataset):
    algorithm = make("cpq", dataset, limit=1.0, gamma=0.5)
    n = 8
    batch = Batch(
        torch.randn(n, 4),
        torch.rand(n, 2),
        torch.full((n,), 3.0),
        torch.zeros(n),
        torch.randn(n, 4),
        torch.zeros(n),
        torch.zeros(n),
    )
    for cost, expected in ((0.5, 3.0 + 0.5 * 10.0), (1.5, 3.0)):
        for net, value in ((algorithm.q_c_target, cost), (algorithm.q_r_target, 10.0)):
            for p in net.parameters():
                p.data.zero_()
            net.layers[-1].bias.data.fill_(value)
        found = algorithm.update_critics(batch, torch.Generator().manual_seed(0))
        assert found["q_r"].item() == pytest.approx(expected, abs=0.2)


def test_cpq_pushes_the_trained_cost_critic_up_on_actions_unlike_the_data():
    """The mechanism public code lost: without the push, the costs of unseen actions are whatever
    the network extrapolates.
    """
    data = bandit()
    algorithm = make("cpq", data, limit=0.3, steps=300, rate=6e-3)
    for step in range(300):
        metrics = algorithm.update("policy", step, data, torch.Generator().manual_seed(step))
    obs = torch.zeros(1, 3)
    with torch.no_grad():
        value = {a: algorithm.q_c(obs, torch.tensor([[a]])).amax(0).item() for a in (-0.5, 0.5)}
    assert value[-0.5] < 0.3 < value[0.5]
    assert metrics["q_c_ood"] > 0.3
    loss = algorithm.ood_value(torch.zeros(16, 3), torch.Generator().manual_seed(0))
    algorithm.q_c.zero_grad()
    loss.backward()
    assert algorithm.q_c.layers[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("push", ["margin", "linear"])
def test_cpq_push_ends_at_the_margin_unless_as_printed(dataset, push):
    """Q_c of everything is 2 here, at its fixed point: only a push could move it."""
    algorithm = make("cpq", dataset, limit=1.0, push=push)
    for net in (algorithm.q_c, algorithm.q_c_target):
        for p in net.parameters():
            p.data.zero_()
        net.layers[-1].bias.data.fill_(2.0)
    batch = dataset.sample((64,), torch.Generator().manual_seed(0))
    batch = replace(
        batch,
        cost=torch.full_like(batch.cost, 2.0 * (1 - 0.99)),
        terminal=torch.zeros_like(batch.terminal),
    )
    algorithm.update_critics(batch, torch.Generator().manual_seed(0))
    force = algorithm.q_c.layers[-1].bias.grad.abs().max().item()
    assert force < 1e-4 if push == "margin" else force > 0.1


def test_cpq_weight_grows_while_unseen_actions_look_cheap_and_shrinks_otherwise(dataset):
    for limit, sign in ((100.0, 1), (-100.0, -1)):
        algorithm = make("cpq", dataset, limit=limit)
        for step in range(20):
            algorithm.update("policy", step, dataset, torch.Generator().manual_seed(step))
        assert sign * algorithm.weight[0].item() > 0.01


def test_soft_chi_square_and_its_inverse_fit_together():
    w = torch.linspace(0.05, 4.0, 80, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f_soft(w).sum(), w)
    assert torch.allclose(f_soft_inverse(slope), w.detach(), atol=1e-6)
    assert f_soft(torch.ones(1)).item() == 0.0
    assert torch.all(f_soft_inverse(torch.linspace(-50, 5, 100)) >= 0)


@pytest.mark.parametrize("limit, side", [(0.01, -0.5), (1.0, 0.5)])
def test_coptidice_takes_the_reward_it_may_and_no_more(limit, side):
    """With room for the cost it imitates the dear action, without it the cheap one."""
    data = bandit()
    # One step: the discounted value is the immediate cost, so the normalised limit is (1 - gamma)
    # limit; gamma near 0 keeps them equal.
    algorithm = make(
        "coptidice",
        data,
        limit=limit,
        gamma=0.01,
        reward_scale=1.0,
        rate=1e-2,
        alpha=0.1,
        steps=600,
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(600):
        metrics = algorithm.update("policy", step, data, generator)
    action = algorithm.policy()(torch.zeros(1, 3), torch.zeros(1, 1, 1, 1))[0].item()
    assert action == pytest.approx(side, abs=0.2), metrics


@pytest.mark.parametrize("name", ["cpq", "coptidice"])
def test_trains_finite_changes_every_network_and_members_keep_apart(dataset, name):
    lone, pair = make(name, dataset), make(name, dataset, 2)
    before = {
        k: {n: p.clone() for n, p in getattr(lone, k).named_parameters()} for k in lone.modules
    }
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        metrics = lone.update("policy", step, dataset, generator)
        wide = pair.update("policy", step, dataset, torch.Generator().manual_seed(step))
    assert all(torch.isfinite(v) for v in [*metrics.values(), *wide.values()])
    for k, old in before.items():
        assert any(not torch.equal(old[n], p) for n, p in getattr(lone, k).named_parameters()), k
    # A disturbed member does not move the other.
    again, other = make(name, dataset, 2), make(name, dataset, 2)
    for p in other.actor.parameters():
        p.data[1] += 1.0
    for step in range(5):
        for algorithm in (again, other):
            algorithm.update("policy", step, dataset, torch.Generator().manual_seed(step))
    obs, noise = torch.randn(6, 4), torch.zeros(6, 1, 1, 2)
    assert torch.equal(again.policy(member=0)(obs, noise)[0], other.policy(member=0)(obs, noise)[0])
    assert not torch.equal(
        again.policy(member=1)(obs, noise)[0], other.policy(member=1)(obs, noise)[0]
    )


@pytest.mark.parametrize("name", ["cpq", "coptidice"])
def test_saved_policy_is_the_actors_mean_on_raw_observations(dataset, tmp_path, name):
    algorithm = make(name, dataset)
    algorithm.update("policy", 0, dataset, torch.Generator().manual_seed(0))
    save_policy(tmp_path / "p.safetensors", algorithm.policy(), torch.randn(4, 4), {})
    policy = load_policy(tmp_path / "p.safetensors")[0]
    raw = 3.0 + torch.randn(7, 4)
    with torch.no_grad():
        expected = torch.tanh(algorithm.actor.parameters_of(algorithm.normalizer(raw))[0])
        found = policy(raw, torch.randn(7, 1, 1, 2))[0]
    assert torch.allclose(found, expected, atol=1e-6)
