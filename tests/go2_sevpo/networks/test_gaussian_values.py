"""Squashed Gaussian actor and auto-encoders against torch.distributions and plain arithmetic."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

from go2_sevpo.networks.gaussian import (
    LOG_STD,
    Mlp,
    PairVae,
    SquashedGaussian,
    Vae,
    copy_mean,
    policy_layers,
)
from go2_sevpo.networks.layers import EnsembleLinear, member


class Columns(nn.Module):
    """Stands for a network whose output is given: what it is fed is kept."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.seen = torch.tensor(rows, dtype=torch.float64), None

    def forward(self, *parts):
        self.seen = [x.clone() for x in parts]
        return self.rows


def randomize(module, scale=0.4):
    generator = torch.Generator().manual_seed(5)
    for p in module.parameters():
        p.data.copy_(scale * torch.randn(p.shape, generator=generator) + 0.05)
    return module.double()


def actor_of(mean, log_std):
    """An actor that gives these numbers whatever the observation is."""
    actor = SquashedGaussian(1, len(mean[0]), (2,))
    actor.body = Columns(np.concatenate([mean, log_std], 1))
    return actor


def squashed(mean, std):
    normal = Independent(Normal(mean, std), 1)
    return TransformedDistribution(normal, TanhTransform())


# Networks


def test_mlp_has_relu_between_layers_and_none_at_the_end():
    mlp = Mlp(2, (2,), 2)
    first, last = (m for m in mlp.net if isinstance(m, nn.Linear))
    first.weight.data = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    first.bias.data = torch.tensor([0.0, -1.0])
    last.weight.data = torch.tensor([[1.0, 2.0], [-3.0, 1.0]])
    last.bias.data = torch.tensor([0.5, -0.25])
    # (1, 2): relu(-1, .5 + 4 - 1) = (0, 3.5); (3, 1): relu(2, 1.5 + 2 - 1) = (2, 2.5).
    found = mlp(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [1.0]]))
    assert found.tolist() == [[7.5, 3.25], [7.5, -3.75]]


def test_mlp_of_three_layers_and_of_members():
    mlp = Mlp(3, (4, 5), 2, members=2)
    assert [tuple(m.weight.shape) for m in policy_layers(mlp)] == [(2, 3, 4), (2, 4, 5), (2, 5, 2)]
    assert all(isinstance(m, EnsembleLinear) for m in policy_layers(mlp))
    x = torch.randn(2, 6, 3)
    whole = mlp(x[..., :1], x[..., 1:]).detach()
    for k in range(2):
        alone = member(mlp, k)
        torch.testing.assert_close(alone(x[k]), whole[k])
        first, second, third = policy_layers(alone)
        expected = third(torch.relu(second(torch.relu(first(x[k])))))
        torch.testing.assert_close(alone(x[k]), expected)


# Squashed Gaussian


def test_log_standard_deviation_is_bounded():
    """Bounds -5 and 2, as usual for such actors."""
    assert LOG_STD == (-5.0, 2.0)
    mean = [[0.3, -0.7, 0.1]] * 3
    actor = actor_of(mean, [[-5.1, 2.1, 0.4], [-4.9, 1.9, -1.0], [-9.0, 9.0, 0.0]])
    found_mean, std = actor.parameters_of(torch.zeros(3, 1))
    assert found_mean.tolist() == mean
    expected = [[-5.0, 2.0, 0.4], [-4.9, 1.9, -1.0], [-5.0, 2.0, 0.0]]
    np.testing.assert_allclose(std.numpy(), np.exp(expected), rtol=1e-12)


def test_actor_sizes():
    """One network gives the mean, then the log standard deviation."""
    sizes = [tuple(m.weight.shape) for m in policy_layers(SquashedGaussian(3, 2, (7, 6)).body)]
    assert sizes == [(7, 3), (6, 7), (4, 6)]
    several = SquashedGaussian(3, 2, (7,), members=4)
    assert [m.weight.shape[0] for m in policy_layers(several.body)] == [4, 4]


def test_sample_is_the_tanh_of_mean_plus_deviation_times_noise():
    mean, log_std = [[0.2, -0.5], [1.0, 0.0]], [[-1.0, 0.3], [0.5, -2.0]]
    noise = [[1.5, -0.4], [-2.0, 0.7]]
    found = actor_of(mean, log_std).sample(torch.zeros(2, 1), torch.tensor(noise).double())
    expected = np.tanh(np.array(mean) + np.exp(log_std) * np.array(noise))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_actor_reads_the_observation():
    actor = randomize(SquashedGaussian(3, 2, (5,)))
    obs, noise = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    mean, log_std = actor.body(obs)[:, :2], actor.body(obs)[:, 2:]
    torch.testing.assert_close(actor.sample(obs, noise), torch.tanh(mean + log_std.exp() * noise))


def test_likelihood_is_that_of_the_transformed_distribution():
    mean = torch.tensor([[0.2, -0.5], [1.0, 0.0], [-2.0, 0.9]]).double()
    log_std = torch.tensor([[-1.0, 0.3], [0.5, -2.0], [-3.0, 1.0]]).double()
    act = torch.tensor([[0.5, -0.9], [0.99, 0.02], [-0.95, 0.3]]).double()
    found = actor_of(mean.numpy(), log_std.numpy()).log_prob(torch.zeros(3, 1), act)
    expected = squashed(mean, log_std.exp()).log_prob(act)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_likelihood_uses_the_bounded_deviation():
    actor = actor_of([[0.1]], [[3.0]])
    expected = squashed(torch.tensor([[0.1]]), torch.tensor([[math.exp(2.0)]]))
    found = actor.log_prob(torch.zeros(1, 1), torch.tensor([[0.4]]).double())
    assert found.item() == pytest.approx(expected.log_prob(torch.tensor([[0.4]])).item(), rel=1e-5)


def test_actions_at_the_bounds_count_as_just_inside():
    """The bound is 1 - 1e-4: what lies beyond it counts as there, what lies before it does not."""
    act = torch.tensor([[1.0], [0.99995], [0.9999], [0.9998]], dtype=torch.float64)
    act = torch.cat([act, -act])
    actor = actor_of([[0.3]] * 8, [[-0.5]] * 8)
    found = actor.log_prob(torch.zeros(8, 1), act).tolist()
    inside = torch.tensor([[0.9999], [0.9999], [0.9999], [0.9998]], dtype=torch.float64)
    inside = torch.cat([inside, -inside])
    distribution = squashed(
        torch.full((8, 1), 0.3).double(), torch.full((8, 1), math.exp(-0.5)).double()
    )
    assert found == pytest.approx(distribution.log_prob(inside).tolist(), rel=1e-6)
    assert found[2] != pytest.approx(found[3], rel=1e-2)


def test_gradient_of_the_likelihood_pulls_the_mean_to_the_action():
    actor = SquashedGaussian(1, 1, ()).double()
    layer = policy_layers(actor.body)[0]
    layer.weight.data.zero_()
    layer.bias.data = torch.tensor([0.2, -0.7], dtype=torch.float64)
    actor.log_prob(
        torch.zeros(1, 1).double(), torch.tensor([[0.6]], dtype=torch.float64)
    ).sum().backward()
    # d/dmean = (x - mean) / std^2, d/dlog std = ((x - mean) / std)^2 - 1, x = atanh(a).
    gap, variance = math.atanh(0.6) - 0.2, math.exp(-1.4)
    expected = [gap / variance, gap**2 / variance - 1]
    assert layer.bias.grad.tolist() == pytest.approx(expected, rel=1e-6)


# Auto-encoders


@pytest.mark.parametrize("n_act", [1, 3])
def test_sizes_of_the_auto_encoder(n_act):
    """The latent has twice the action's size (CPQ)."""
    vae = Vae(4, n_act, 6)
    assert vae.latent == 2 * n_act
    encoder, decoder = (
        [tuple(m.weight.shape) for m in policy_layers(x)] for x in (vae.encoder, vae.decoder)
    )
    assert encoder == [(6, 4 + n_act), (6, 6), (4 * n_act, 6)]
    assert decoder == [(6, 4 + 2 * n_act), (6, 6), (n_act, 6)]
    several = Vae(4, n_act, 6, members=3)
    for net in (several.encoder, several.decoder):
        assert [m.weight.shape[0] for m in policy_layers(net)] == [3, 3, 3]


LATENT = [[0.5, -1.0, 0.3, 0.0], [2.0, 0.1, -0.4, 1.5]]


def vae_of(rows):
    vae = Vae(3, 1, 4)
    vae.encoder = Columns(rows)
    return vae


def test_encoded_deviation_is_bounded():
    """log std within [-4, 15]."""
    vae = vae_of([[0.5, -1.0, -4.1, 15.1], [0.2, 0.3, -3.9, 14.9]])
    mean, std = vae.encode(torch.zeros(2, 3), torch.zeros(2, 1))
    assert mean.tolist() == [[0.5, -1.0], [0.2, 0.3]]
    np.testing.assert_allclose(std.log().numpy(), [[-4.0, 15.0], [-3.9, 14.9]], rtol=1e-9)


def test_divergence_is_the_one_from_the_standard_normal():
    vae = vae_of(LATENT)
    found = vae.divergence(torch.zeros(2, 3), torch.zeros(2, 1))
    rows = torch.tensor(LATENT).double()
    latent = Normal(rows[:, :2], rows[:, 2:].exp())
    expected = kl_divergence(latent, Normal(torch.zeros(2, 2).double(), torch.ones(2, 2).double()))
    torch.testing.assert_close(found, expected.sum(1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_auto_encoders_loss(beta):
    """Squared error of the decoded action, summed over its dimensions, plus beta times the
    divergence.
    """
    vae = randomize(Vae(3, 2, 5))
    obs, act = torch.randn(4, 3).double(), torch.rand(4, 2).double() * 2 - 1
    noise = torch.randn(4, 4).double()
    code = vae.encoder(torch.cat([obs, act], -1))
    mean, std = code[:, :4], code[:, 4:].exp()
    decoded = torch.tanh(vae.decoder(torch.cat([obs, mean + std * noise], -1)))
    kl = kl_divergence(Normal(mean, std), Normal(torch.zeros_like(mean), torch.ones_like(std))).sum(
        1
    )
    expected = ((decoded - act) ** 2).sum(1) + beta * kl
    torch.testing.assert_close(vae.loss(obs, act, noise, beta), expected, rtol=1e-9, atol=1e-9)


def test_auto_encoder_is_fed_observation_then_action_and_then_latent():
    vae = vae_of(LATENT)
    vae.decoder = Columns([[0.4], [-0.3]])
    obs, act = torch.rand(2, 3).double(), torch.rand(2, 1).double()
    noise = torch.tensor([[1.0, -2.0], [0.5, 0.25]]).double()
    vae.loss(obs, act, noise, 0.5)
    assert [x.tolist() for x in vae.encoder.seen] == [obs.tolist(), act.tolist()]
    latent = np.array(LATENT)[:, :2] + np.exp(np.array(LATENT)[:, 2:]) * noise.numpy()
    assert vae.decoder.seen[0].tolist() == obs.tolist()
    np.testing.assert_allclose(vae.decoder.seen[1].numpy(), latent, rtol=1e-6)


def test_sizes_of_the_auto_encoder_of_pairs():
    vae = PairVae(4, 2, 1, 3, 6)
    assert (vae.latent, vae.n_obs) == (3, 4)
    encoder, decoder = (
        [tuple(m.weight.shape) for m in policy_layers(x)] for x in (vae.encoder, vae.decoder)
    )
    assert encoder == [(6, 7), (6, 6), (6, 6)]
    assert decoder == [(6, 4), (6, 6), (6, 6)]
    for net in (PairVae(4, 2, 1, 3, 6, 5).encoder, PairVae(4, 2, 1, 3, 6, 5).decoder):
        assert [m.weight.shape[0] for m in policy_layers(net)] == [5, 5, 5]


def test_decoded_pairs_are_a_plain_observation_and_a_squashed_action():
    vae = PairVae(2, 1, 1, 3, 4)
    vae.decoder = Columns([[3.0, -2.5, 0.8], [0.1, 4.0, -1.2]])
    z, condition = torch.rand(2, 3).double(), torch.rand(2, 1).double()
    obs, act = vae.decode(z, condition)
    assert obs.tolist() == [[3.0, -2.5], [0.1, 4.0]]
    assert act[:, 0].tolist() == pytest.approx([math.tanh(0.8), math.tanh(-1.2)])
    assert [x.tolist() for x in vae.decoder.seen] == [z.tolist(), condition.tolist()]


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_loss_of_the_auto_encoder_of_pairs(beta):
    vae = randomize(PairVae(3, 2, 1, 4, 5))
    obs, act = torch.randn(6, 3).double(), torch.rand(6, 2).double() * 2 - 1
    condition, noise = torch.rand(6, 1).double(), torch.randn(6, 4).double()
    code = vae.encoder(torch.cat([obs, act, condition], -1))
    mean, std = code[:, :4], code[:, 4:].exp()
    out = vae.decoder(torch.cat([mean + std * noise, condition], -1))
    error = ((out[:, :3] - obs) ** 2).sum(1) + ((torch.tanh(out[:, 3:]) - act) ** 2).sum(1)
    kl = kl_divergence(Normal(mean, std), Normal(torch.zeros_like(mean), torch.ones_like(std))).sum(
        1
    )
    found = vae.loss(obs, act, condition, noise, beta)
    torch.testing.assert_close(found, error + beta * kl, rtol=1e-9, atol=1e-9)


def test_deviation_of_encoded_pairs_is_bounded():
    """log std within [-4, 15], seen through the divergence: nothing is decoded from it here."""
    vae = PairVae(1, 1, 1, 1, 4)
    vae.encoder = Columns([[0.0, -4.5], [0.0, -3.5], [0.0, 15.5], [0.0, 14.5]])
    vae.decoder = Columns([[0.0, 0.0]] * 4)
    zero = torch.zeros(4, 1).double()
    found = vae.loss(zero, zero, zero, zero, 1.0)
    expected = [0.5 * (math.exp(2 * s) - 2 * s - 1) for s in (-4.0, -3.5, 15.0, 14.5)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


# Deployment


def test_copied_actor_computes_the_mean():
    actor = SquashedGaussian(3, 2, (4, 5))
    mlp = nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2), nn.Tanh()
    )
    copy_mean(policy_layers(actor.body), mlp)
    obs = torch.randn(6, 3)
    torch.testing.assert_close(mlp(obs), torch.tanh(actor.parameters_of(obs)[0]))
    actor.body.net[0].weight.data.add_(1.0)
    assert not torch.equal(mlp[0].weight, actor.body.net[0].weight)


# Members


def test_members_of_all_are_as_if_alone():
    """K before B: every sum and every split is over the last axis."""
    actor = randomize(SquashedGaussian(3, 2, (5,), members=3))
    vae = randomize(Vae(3, 2, 5, members=3))
    pairs = randomize(PairVae(3, 2, 1, 4, 5, members=3))
    obs, act = torch.randn(3, 6, 3).double(), torch.rand(3, 6, 2).double() * 1.8 - 0.9
    noise, code = torch.randn(3, 6, 2).double(), torch.randn(3, 6, 4).double()
    condition = torch.rand(3, 6, 1).double()

    def outputs(actor, vae, pairs, k=slice(None)):
        o, a, c = obs[k], act[k], condition[k]
        return [
            *actor.parameters_of(o),
            actor.sample(o, noise[k]),
            actor.log_prob(o, a),
            *vae.encode(o, a),
            vae.divergence(o, a),
            vae.loss(o, a, code[k], 0.5),
            *pairs.decode(code[k], c),
            pairs.loss(o, a, c, code[k], 0.5),
        ]

    whole = outputs(actor, vae, pairs)
    assert [tuple(x.shape[:2]) for x in whole] == [(3, 6)] * len(whole)
    for k in range(3):
        # Taken out, a layer has single precision at first.
        alone = [member(x, k).double() for x in (actor, vae, pairs)]
        for one, all_of in zip(outputs(*alone, k), whole):
            torch.testing.assert_close(one, all_of[k].detach(), rtol=1e-4, atol=1e-5)
