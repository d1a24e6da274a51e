"""Policies with a tanh behind a Gaussian or a VAE: candidates, choices, files."""

import numpy as np
import pytest
import torch

from go2_sevpo.deploy.export.cli import write_onnx
from go2_sevpo.networks.gaussian import Mlp, SquashedGaussian
from go2_sevpo.networks.layers import Critic, Normalizer
from go2_sevpo.policies.choice import CHOICES
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.policies.squashed_policy import PerturbedPolicy, SquashedPolicy, perturbed
from go2_sevpo.policies.torch_policy import load_policy, save_policy
from tests.conftest import contract_of

S, A = 4, 2


def critics():
    return Critic(S, A, (8,), heads=4), Critic(S, A, (8,), heads=4)


def make(kind, choice="first", limit=0.0):
    torch.manual_seed(0)
    normalizer = Normalizer(torch.randn(S), torch.rand(S) + 0.5)
    if kind == "squashed":
        actor = SquashedGaussian(S, A, (8, 8), log_std=(-20.0, 2.0))
        return SquashedPolicy(normalizer, actor, choice, *critics(), limit=limit).eval()
    decoder, move = Mlp(S + 2 * A, (8, 8), A), Mlp(S + A, (6,), A, activation=torch.nn.Tanh)
    policy = PerturbedPolicy(normalizer, decoder, move, 0.05, choice, *critics(), limit=limit)
    return policy.eval()


def draw(rows=64, n=5, steps=2):
    g = torch.Generator().manual_seed(1)
    return torch.randn(rows, S, generator=g), torch.randn(rows, n, steps, A, generator=g)


def test_first_is_the_gaussians_mean_whatever_the_noise():
    policy, (obs, noise) = make("squashed"), draw()
    with torch.no_grad():
        action, value, candidate = policy(obs, noise)
        mean = torch.tanh(policy.actor.parameters_of(policy.normalizer(obs))[0])
    torch.testing.assert_close(action, mean)
    assert not value.any()
    assert not candidate.any()


def test_other_candidates_are_samples_of_the_actor():
    policy, (obs, noise) = make("squashed"), draw()
    seen = policy.normalizer(obs)
    with torch.no_grad():
        candidates = policy.propose(seen, noise)
        for k in (1, 4):
            expected = policy.actor.sample(seen, noise[:, k, 0])
            torch.testing.assert_close(candidates[:, k], expected)


def test_perturbed_actions_stay_near_the_decoders():
    policy, (obs, noise) = make("perturbed"), draw()
    seen = policy.normalizer(obs)
    with torch.no_grad():
        action = policy(obs, noise)[0]
        z = noise[:, 0].reshape(len(obs), -1)
        decoded = torch.tanh(policy.decoder(seen, z.clamp(-0.5, 0.5)))
        assert 0 < (action - decoded).abs().max() <= 0.05 + 1e-6
        far = perturbed(policy.decoder, policy.actor, 0.05, seen, 10 * z.sign())
        near = perturbed(policy.decoder, policy.actor, 0.05, seen, 0.5 * z.sign())
    torch.testing.assert_close(far, near)


@pytest.mark.parametrize("kind", ["squashed", "perturbed"])
def test_choices_ask_the_critics(kind):
    policy, (obs, noise) = make(kind, "argmin_cost"), draw()
    seen = policy.normalizer(obs)
    with torch.no_grad():
        actions = policy.propose(seen, noise)
        cost = torch.stack([policy.cost_critic(seen, a).amax(0) for a in actions.unbind(1)], 1)
        action, value, candidate = policy(obs, noise)
        assert torch.equal(candidate, cost.argmin(1))
        torch.testing.assert_close(value, cost.min(1).values)
        policy.choice, policy.limit = "first_safe", float(cost.median())
        chosen = policy(obs, noise)[2]
        safe = cost <= policy.limit
        assert 0 < safe.any(1).sum() < len(obs) or safe.any(1).all()
        expected = torch.where(safe.any(1), safe.float().argmax(1), cost.argmin(1))
        assert torch.equal(chosen, expected)
        policy.choice, policy.limit = "escape", -100.0
        found = policy(obs, noise)
        assert (found[1] <= value + 1e-6).all()
        assert (found[2] >= noise.shape[1]).any()


@pytest.mark.parametrize("kind", ["squashed", "perturbed"])
@pytest.mark.parametrize("limit", [0.1, 100.0])
@pytest.mark.parametrize("choice", ["first", "escape", "argmax_reward"])
def test_file_and_graph_give_the_same_actions(tmp_path, kind, choice, limit):
    policy, (obs, noise) = make(kind, choice, limit), draw()
    save_policy(tmp_path / "p.safetensors", policy, obs, {"algorithm": kind})
    loaded = load_policy(tmp_path / "p.safetensors")[0]
    assert loaded.describe() == policy.describe()
    with torch.no_grad():
        for a, b in zip(loaded(obs, noise), policy(obs, noise)):
            assert torch.equal(a, b)
    contract = contract_of(policy, 5)
    write_onnx(policy, contract, obs, tmp_path / "p.onnx")
    session = OnnxPolicy(tmp_path / "p.onnx")
    assert session.steps == policy.steps
    action = session.act(obs.numpy(), noise[:, :, : policy.steps].numpy())[0]
    with torch.no_grad():
        expected = policy(obs, noise[:, :, : policy.steps])[0]
    np.testing.assert_allclose(action, expected.numpy(), atol=1e-5)


def test_another_choice_on_loading(tmp_path):
    policy, (obs, _) = make("squashed"), draw()
    save_policy(tmp_path / "p.safetensors", policy, obs, {})
    for choice in CHOICES:
        assert load_policy(tmp_path / "p.safetensors", choice=choice)[0].choice == choice


def test_a_choice_without_critics_is_refused():
    normalizer = Normalizer(torch.zeros(S), torch.ones(S))
    with pytest.raises(ValueError, match="needs critics"):
        SquashedPolicy(normalizer, SquashedGaussian(S, A, (8,)), "escape")
