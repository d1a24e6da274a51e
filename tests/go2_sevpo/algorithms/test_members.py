"""Several networks trained side by side must be as good as apart."""

import copy

import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.networks.layers import Critic, Denoiser, Value, member
from go2_sevpo.policies.torch_policy import act

ACTOR = {"width": 16, "depth": 2, "actor": "resnet", "dropout": 0.0}
CRITICS = {"critic_hidden": [16, 16], "critic_batch": 32, "limit": 0.05}
OSRL = {"hidden": [16, 16], "steps": 15, "batch": 32, "limit": 0.05}
SETTINGS = {
    "sevpo": {
        **ACTOR,
        **CRITICS,
        "critic_steps": 15,
        "policy_steps": 15,
        "actor_batch": 32,
        "actor_updates": 1,
        "trust_start": 0.3,
    },
    "fisor": {
        **ACTOR,
        "critic_hidden": [16, 16],
        "critic_batch": 32,
        "actor_batch": 32,
        "steps": 15,
    },
    "bc": {**ACTOR, "steps": 15, "batch": 32},
    "bc-choice": {**ACTOR, **CRITICS, "critic_steps": 15, "steps": 15, "batch": 32},
    "bc-osrl": OSRL,
    "cpq-osrl": {**OSRL, "vae_hidden": 8, "choice": "argmin_cost"},
    "coptidice-osrl": OSRL,
    "bcq-lag": {**OSRL, "vae_hidden": 8, "choice": "argmax_reward"},
    "bear-lag": {**OSRL, "vae_hidden": 8},
    "ccac-osrl": {**OSRL, "vae_hidden": 8, "latent": 4, "vae_steps": 5},
}


def train(name, dataset, members, disturb=None):
    torch.manual_seed(0)
    algorithm = make_algorithm(name, make_config(name, SETTINGS[name]), dataset, members)
    if disturb is not None:
        for module in (getattr(algorithm, k) for k in algorithm.modules):
            for p in module.parameters():
                # Critics keep their members interleaved with heads.
                p.data[disturb::members].mul_(1.5)
    generator = torch.Generator().manual_seed(1)
    for stage in algorithm.stages:
        for step in range(algorithm.steps(stage)):
            algorithm.update(stage, step, dataset, generator)
    return algorithm


def outputs(algorithm, dataset, k):
    policy = algorithm.policy(member=k)
    obs = dataset.frames[:20] * dataset.std + dataset.mean
    noise = torch.randn(20, 4, 5, dataset.num_actions, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        action, value, _ = act(policy, obs, noise, torch.linspace(0.0, 12.0, 20))
    return torch.cat([action.flatten(), value])


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_member_does_not_feel_the_others(dataset, name):
    plain, disturbed = train(name, dataset, 3), train(name, dataset, 3, disturb=2)
    for k in (0, 1):
        assert torch.equal(outputs(plain, dataset, k), outputs(disturbed, dataset, k))
    assert not torch.equal(outputs(plain, dataset, 2), outputs(disturbed, dataset, 2))
    assert not torch.equal(outputs(plain, dataset, 0), outputs(plain, dataset, 1))


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_one_member_learns_what_a_plain_network_learns(dataset, name):
    """Same weights, same draws: only the order of sums differs."""
    torch.manual_seed(0)
    config = make_config(name, SETTINGS[name])
    single, batched = (
        make_algorithm(name, config, dataset),
        make_algorithm(name, config, dataset, 1),
    )
    for key in batched.modules:
        plain = member(copy.deepcopy(getattr(batched, key)), 0)
        getattr(single, key).load_state_dict(plain.state_dict())
    results = []
    for algorithm in (single, batched):
        generator = torch.Generator().manual_seed(1)
        for stage in algorithm.stages:
            for step in range(algorithm.steps(stage)):
                algorithm.update(stage, step, dataset, generator)
        results.append(outputs(algorithm, dataset, 0))
    assert torch.allclose(*results, atol=2e-3)


def test_taking_a_member_out_keeps_its_function():
    torch.manual_seed(0)
    obs, act = torch.randn(3, 7, 4), torch.randn(3, 7, 2)
    critic, value = Critic(4, 2, (8, 8), members=3), Value(4, (8, 8), 3)
    for kind in ("mlp", "resnet"):
        denoiser = Denoiser(4, 2, kind, 8, 2, members=3).eval()
        for p in denoiser.parameters():
            p.data.add_(0.1 * torch.randn_like(p))  # norms too get members of their own
        whole = denoiser(denoiser.encode(obs), act, denoiser.steps(5)[:, 2:3])
        one = member(denoiser, 1)
        assert torch.allclose(
            one(one.encode(obs[1]), act[1], one.steps(5)[2:3]), whole[1], atol=1e-6
        )
    assert critic(obs, act).shape == (2, 3, 7)
    assert torch.allclose(member(critic, 2)(obs[2], act[2]), critic(obs, act)[:, 2], atol=1e-6)
    assert torch.allclose(member(value, 0)(obs[0]), value(obs)[0], atol=1e-6)


def test_members_draw_their_own_transitions(dataset):
    batch = dataset.sample((3, 50), torch.Generator().manual_seed(0))
    assert batch.obs.shape == (3, 50, dataset.num_obs)
    assert batch.reward.shape == (3, 50)
    assert not torch.equal(batch.reward[0], batch.reward[1])
