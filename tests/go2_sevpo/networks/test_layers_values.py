"""Networks against plain arithmetic: layers, heads, members, time features, blocks, normaliser."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from go2_sevpo.networks import layers as networks
from go2_sevpo.networks import mish as mish_module
from go2_sevpo.networks.layers import (
    Critic,
    Denoiser,
    EnsembleLinear,
    Normalizer,
    TimeFeatures,
    Value,
    linear,
    member,
    polyak,
)
from go2_sevpo.networks.mish import mish


def plain_mish(x):
    """x tanh(log(1 + e^x)), in float64 numpy."""
    x = np.asarray(x, dtype=np.float64)
    return x * np.tanh(np.log1p(np.exp(x)))


def randomize(module, scale=0.5):
    """Weights without symmetry, norms included."""
    generator = torch.Generator().manual_seed(7)
    for p in module.parameters():
        p.data.copy_(scale * torch.randn(p.shape, generator=generator) + 0.1)
    return module


def array(tensor):
    return tensor.detach().double().numpy()


# Mish


def test_mish_values():
    x = torch.tensor([-20.0, -3.0, -1.0, -0.3, 0.0, 0.5, 1.0, 4.0, 30.0])
    expected = plain_mish(x.numpy()).tolist()
    assert expected[6] == pytest.approx(0.8650983)
    assert mish(x).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert mish(x.clone().requires_grad_()).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_mish_gradient_is_the_numeric_slope():
    points = [-4.0, -1.2, -0.3, 0.0, 0.7, 2.5]
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0, 0.25], dtype=torch.float64)
    (mish(x) * weights).sum().backward()
    slope = (plain_mish(np.array(points) + 1e-5) - plain_mish(np.array(points) - 1e-5)) / 2e-5
    assert x.grad.tolist() == pytest.approx((slope * weights.numpy()).tolist(), rel=1e-6)


def test_mish_keeps_no_graph_where_none_is_wanted():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    assert mish(x).requires_grad
    assert not mish(x.detach()).requires_grad
    with torch.no_grad():
        assert not mish(x).requires_grad


def test_mish_is_differentiable_once():
    x = torch.tensor([0.5], requires_grad=True)
    (slope,) = torch.autograd.grad(mish(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_torchs_own_kernel_is_used_on_other_devices_only(monkeypatch):
    calls = []
    monkeypatch.setattr(mish_module.F, "mish", lambda x: calls.append(x.device.type) or x)
    mish(torch.ones(2))
    mish(torch.empty(2, device="meta"))
    assert calls == ["meta"]


def test_traced_mish_has_the_same_values():
    x = torch.tensor([-5.0, -0.4, 0.0, 0.9, 6.0])
    traced = torch.jit.trace(mish, torch.ones(5))
    assert traced(x).tolist() == pytest.approx(plain_mish(x.numpy()).tolist(), rel=1e-5)
    assert "aten::mish" not in str(traced.graph)
    assert str(traced.graph).count("aten::sigmoid") == 1


# Linear layers


def test_ensemble_applies_each_layer_to_its_own_inputs():
    layer = EnsembleLinear(2, 2, 1)
    layer.weight.data = torch.tensor([[[1.0], [2.0]], [[-1.0], [0.5]]])
    layer.bias.data = torch.tensor([[[0.25]], [[-3.0]]])
    x = torch.tensor([[[1.0, 1.0], [0.0, 2.0]], [[4.0, 2.0], [1.0, 0.0]]])
    # head 0: 1 + 2 + .25, 4 + .25; head 1: -4 + 1 - 3, -1 - 3.
    assert layer(x).tolist() == [[[3.25], [4.25]], [[-6.0], [-4.0]]]
    alone = layer.member(1)
    assert alone(x[1]).tolist() == [[-6.0], [-4.0]]
    assert (alone.in_features, alone.out_features) == (2, 1)


def test_ensemble_without_bias():
    layer = EnsembleLinear(2, 1, 2, bias=False)
    layer.weight.data = torch.tensor([[[1.0, 3.0]], [[2.0, -1.0]]])
    assert layer.bias is None
    assert layer(torch.tensor([[[2.0]], [[3.0]]])).tolist() == [[[2.0, 6.0]], [[6.0, -3.0]]]
    alone = layer.member(0)
    assert alone.bias is None
    assert alone(torch.tensor([[2.0]])).tolist() == [[2.0, 6.0]]


def test_taking_a_layer_out_copies_it():
    layer = randomize(EnsembleLinear(2, 3, 2))
    alone = layer.member(0)
    before = alone.weight.clone(), alone.bias.clone()
    layer.weight.data.add_(1.0)
    layer.bias.data.add_(1.0)
    assert torch.equal(alone.weight, before[0]) and torch.equal(alone.bias, before[1])


def test_ensemble_starts_uniform_within_one_over_the_root_of_its_inputs():
    """The bound of torch's own linear layer: 1 / sqrt(16) = 0.25, for weights and biases."""
    layer = EnsembleLinear(50, 16, 8)
    for p in (layer.weight, layer.bias):
        assert p.requires_grad
        assert -0.25 <= p.min() < -0.24
        assert 0.24 < p.max() <= 0.25
        assert p.std().item() == pytest.approx(0.5 / math.sqrt(12), rel=0.1)
    assert layer.weight.shape == (50, 16, 8) and layer.bias.shape == (50, 1, 8)


def test_linear_is_plain_or_one_per_member():
    plain, several = linear(3, 2), linear(3, 2, 4)
    assert isinstance(plain, nn.Linear) and plain.weight.shape == (2, 3) and plain.bias is not None
    assert isinstance(several, EnsembleLinear) and several.weight.shape == (4, 3, 2)
    assert several.bias.shape == (4, 1, 2)
    assert linear(3, 2, bias=False).bias is None
    assert linear(3, 2, 4, bias=False).bias is None


# Critics


def relu_network(x, weights, biases):
    """ReLU between the layers, none behind the last."""
    for n, (w, b) in enumerate(zip(weights, biases)):
        x = x @ w + b
        x = np.maximum(x, 0) if n < len(weights) - 1 else x
    return x


def test_critic_is_one_relu_network_per_head_on_observation_then_action():
    critic = randomize(Critic(3, 2, (4, 5), heads=3))
    random = np.random.default_rng(0)
    obs, act = random.normal(size=(6, 3)), random.normal(size=(6, 2))
    found = critic(torch.tensor(obs).float(), torch.tensor(act).float())
    assert found.shape == (3, 6)
    for h in range(3):
        weights = [array(layer.weight)[h] for layer in critic.layers]
        biases = [array(layer.bias)[h] for layer in critic.layers]
        assert [w.shape for w in weights] == [(5, 4), (4, 5), (5, 1)]
        expected = relu_network(np.concatenate([obs, act], 1), weights, biases)[:, 0]
        np.testing.assert_allclose(array(found)[h], expected, rtol=1e-5, atol=1e-6)


def test_critic_by_hand():
    critic = Critic(1, 1, (2,))
    critic.layers[0].weight.data = torch.tensor(
        [[[1.0, -1.0], [2.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]
    )
    critic.layers[0].bias.data = torch.tensor([[[0.5, 0.0]], [[0.0, -4.0]]])
    critic.layers[1].weight.data = torch.tensor([[[1.0], [10.0]], [[2.0], [5.0]]])
    critic.layers[1].bias.data = torch.tensor([[[-1.0]], [[0.25]]])
    # s = 3, a = -1: head 0: relu(3 - 2 + .5, -3 - 1) = (1.5, 0); head 1: relu(-1, 3 - 4) = 0.
    # s = 1, a = 2: head 0: relu(1 + 4 + .5, -1 + 2) = (5.5, 1); head 1: relu(2, 1 - 4) = (2, 0).
    found = critic(torch.tensor([[3.0], [1.0]]), torch.tensor([[-1.0], [2.0]]))
    assert found.tolist() == [[0.5, 14.5], [0.25, 4.25]]


def test_members_of_a_critic_lie_within_each_head():
    heads, members = 2, 3
    critic = randomize(Critic(3, 2, (4,), heads, members))
    assert [layer.weight.shape[0] for layer in critic.layers] == [6, 6]
    random = np.random.default_rng(1)
    obs, act = random.normal(size=(members, 5, 3)), random.normal(size=(members, 5, 2))
    found = critic(torch.tensor(obs).float(), torch.tensor(act).float())
    assert found.shape == (heads, members, 5)
    for h in range(heads):
        for k in range(members):
            weights = [array(layer.weight)[h * members + k] for layer in critic.layers]
            biases = [array(layer.bias)[h * members + k] for layer in critic.layers]
            expected = relu_network(np.concatenate([obs[k], act[k]], 1), weights, biases)[:, 0]
            np.testing.assert_allclose(array(found)[h, k], expected, rtol=1e-5, atol=1e-6)


def test_a_critics_member_is_that_member():
    critic = randomize(Critic(3, 2, (4,), 2, 3))
    obs, act = torch.randn(3, 5, 3), torch.randn(3, 5, 2)
    whole = critic(obs, act).detach()
    for k in range(3):
        alone = critic.member(k)
        assert (alone.members, alone.heads) == (None, 2)
        assert [layer.weight.shape[0] for layer in alone.layers] == [2, 2]
        torch.testing.assert_close(alone(obs[k], act[k]), whole[:, k])
        assert not any(p.requires_grad for p in alone.parameters())
        torch.testing.assert_close(member(critic, k)(obs[k], act[k]), whole[:, k])
    assert critic.members == 3 and all(p.requires_grad for p in critic.parameters())
    alone.layers[0].weight.data.add_(1.0)
    torch.testing.assert_close(critic(obs, act).detach(), whole)


def test_value_is_one_relu_network():
    value = randomize(Value(3, (4, 5)))
    obs = np.random.default_rng(2).normal(size=(6, 3))
    layers = [m for m in value.net if isinstance(m, nn.Linear)]
    expected = relu_network(
        obs, [array(m.weight).T for m in layers], [array(m.bias) for m in layers]
    )
    assert [m.out_features for m in layers] == [4, 5, 1]
    found = value(torch.tensor(obs).float())
    assert found.tolist() == pytest.approx(expected[:, 0].tolist(), rel=1e-5)


def test_members_of_a_value():
    value = randomize(Value(3, (4,), 2))
    obs = torch.randn(2, 5, 3)
    found = value(obs)
    assert found.shape == (2, 5)
    layers = [m for m in value.net if isinstance(m, EnsembleLinear)]
    for k in range(2):
        weights = [array(m.weight)[k] for m in layers]
        biases = [array(m.bias)[k] for m in layers]
        expected = relu_network(array(obs[k]), weights, biases)[:, 0]
        np.testing.assert_allclose(array(found)[k], expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(member(value, k)(obs[k]), found[k].detach())


def test_sizes_are_the_papers_by_default():
    """Two heads of 2 x 256 ReLU; denoiser of 3 x 256 with dropout 0.1; time features 64, 128."""
    critic = Critic(3, 2)
    assert (critic.heads, critic.members) == (2, None)
    assert [tuple(layer.weight.shape) for layer in critic.layers] == [
        (2, 5, 256),
        (2, 256, 256),
        (2, 256, 1),
    ]
    assert [m.out_features for m in Value(3).net if isinstance(m, nn.Linear)] == [256, 256, 1]
    time = TimeFeatures()
    assert time.frequency.shape == (32,)
    assert [(m.in_features, m.out_features) for m in time.net if isinstance(m, nn.Linear)] == [
        (64, 128),
        (128, 128),
    ]
    denoiser = Denoiser(3, 2)
    assert (denoiser.kind, denoiser.depth, len(denoiser.blocks)) == ("resnet", 3, 3)
    assert denoiser.from_obs.weight.shape == (256, 3)
    assert [block.drop.p for block in denoiser.blocks] == [0.1] * 3


# Features of the diffusion step


def numpy_time_features(frequency, first, second, t):
    """cos and sin of 2 pi t f, then linear, mish, linear."""
    angle = 2 * np.pi * np.asarray(t, dtype=np.float64)[:, None] * frequency
    x = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    return plain_mish(x @ first[0] + first[1]) @ second[0] + second[1]


def parts(layer, k=None):
    """Weight (in, out) and bias of a plain layer, or of one of several."""
    if k is None:
        return array(layer.weight).T, array(layer.bias)
    return array(layer.weight)[k], array(layer.bias)[k, 0]


def one_of(layer, k=None):
    """Weight (in, out) of a plain layer, or of one of several."""
    return array(layer.weight).T if k is None else array(layer.weight)[k]


def test_time_features_are_cosines_then_sines():
    features = randomize(TimeFeatures(6, 5), 0.3)
    assert features.frequency.shape == (3,)
    t = torch.tensor([0.0, 1.0, 2.5, 4.0])
    expected = numpy_time_features(
        array(features.frequency), parts(features.net[0]), parts(features.net[2]), t.tolist()
    )
    np.testing.assert_allclose(array(features(t)), expected, rtol=1e-5, atol=1e-6)


def test_time_features_of_members():
    features = randomize(TimeFeatures(4, 128, members=3), 0.3)
    assert features.frequency.shape == (3, 1, 2)
    t = torch.tensor([0.0, 1.0, 3.0])
    found = features(t)
    assert found.shape == (3, 3, 128)
    for k in range(3):
        expected = numpy_time_features(
            array(features.frequency)[k, 0], parts(features.net[0], k), parts(features.net[2], k), t
        )
        np.testing.assert_allclose(array(found)[k], expected, rtol=1e-4, atol=1e-5)
        alone = features.member(k)
        np.testing.assert_allclose(array(alone(t)), expected, rtol=1e-4, atol=1e-5)
        assert alone.frequency.shape == (2,)
    features.frequency.data.add_(1.0)
    np.testing.assert_allclose(array(alone(t)), expected, rtol=1e-4, atol=1e-5)


def test_frequencies_start_normal_with_deviation_a_fifth():
    """Learnable Fourier features of FISOR's code: normal(0.2)."""
    frequency = TimeFeatures(8000, 2).frequency
    assert frequency.requires_grad
    assert frequency.std().item() == pytest.approx(0.2, rel=0.05)
    assert abs(frequency.mean().item()) < 0.02


# Residual blocks and denoisers


def layer_norm(x, weight, bias):
    """Over the last axis, biased variance, epsilon 1e-5."""
    x = np.asarray(x, dtype=np.float64)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def numpy_block(block, x, k=None):
    """x + down(mish(up(norm(x)))): norm first, activation between the two layers only."""
    scale, shift = array(block.norm.weight), array(block.norm.bias)
    if k is not None:
        scale, shift = scale[k, 0], shift[k, 0]
    (up, up_bias), (down, down_bias) = parts(block.up, k), parts(block.down, k)
    return x + plain_mish(layer_norm(x, scale, shift) @ up + up_bias) @ down + down_bias


@pytest.mark.parametrize("members", [None, 2])
def test_block_is_a_layer_norm_residual_block(members):
    block = randomize(networks._Block(3, 0.5, members), 0.4).eval()
    x = torch.randn(*(() if members is None else (members,)), 5, 3)
    found = array(block(x))
    for k in [None] if members is None else range(members):
        one, mine = (x, found) if k is None else (x[k], found[k])
        np.testing.assert_allclose(mine, numpy_block(block, array(one), k), rtol=1e-5, atol=1e-5)
        if k is not None:
            torch.testing.assert_close(member(block, k)(one), torch.tensor(mine).float())
    width = block.up.weight.shape
    assert width == ((12, 3) if members is None else (2, 3, 12))


def test_dropout_acts_before_the_norm_on_the_branch_and_in_training_only():
    """Dropping everything leaves the norm's shift for the branch; the residual stays whole."""
    block = randomize(networks._Block(3, 1.0), 0.4)
    x = torch.randn(5, 3)
    (up, up_bias), (down, down_bias) = parts(block.up), parts(block.down)
    branch = plain_mish(array(block.norm.bias) @ up + up_bias) @ down + down_bias
    block.train()
    np.testing.assert_allclose(array(block(x)), array(x) + branch, rtol=1e-5, atol=1e-5)
    block.eval()
    np.testing.assert_allclose(array(block(x)), numpy_block(block, array(x)), rtol=1e-5, atol=1e-5)
    assert networks._Block(3, 0.25).drop.p == 0.25


@pytest.mark.parametrize("kind", ["resnet", "mlp"])
@pytest.mark.parametrize("members", [None, 2])
def test_denoiser_joins_observation_action_and_step_in_its_first_layer(kind, members):
    denoiser = randomize(Denoiser(4, 2, kind, 5, 3, 0.5, members), 0.3).eval()
    # The step's 128 features are many: their share is kept as small as the others'.
    denoiser.from_time.weight.data.mul_(0.003)
    lead = () if members is None else (members,)
    obs, act = torch.randn(*lead, 6, 4), torch.randn(*lead, 6, 2)
    table = denoiser.steps(3)
    assert table.shape == (*lead, 3, 5)
    found = array(denoiser(denoiser.encode(obs), act, table[..., 2:3, :]))
    assert denoiser.from_act.bias is None and denoiser.from_time.bias is None
    assert len(denoiser.blocks) == (3 if kind == "resnet" else 2)
    for k in [None] if members is None else range(members):
        time = denoiser.time
        seen, noisy = (array(x) if k is None else array(x)[k] for x in (obs, act))
        frequency = array(time.frequency) if k is None else array(time.frequency)[k, 0]
        features = numpy_time_features(
            frequency, parts(time.net[0], k), parts(time.net[2], k), [0.0, 1.0, 2.0]
        )
        rows = features @ one_of(denoiser.from_time, k)
        np.testing.assert_allclose(
            (array(table) if k is None else array(table)[k]), rows, rtol=1e-4, atol=1e-4
        )
        weight, bias = parts(denoiser.from_obs, k)
        x = seen @ weight + bias + noisy @ one_of(denoiser.from_act, k) + rows[2]
        assert (x < -0.2).any() and (x > 0.2).any() and np.abs(x).max() < 8, "mish must bend"
        if kind == "resnet":
            for block in denoiser.blocks:
                x = numpy_block(block, x, k)
            x = plain_mish(x)
        else:
            x = plain_mish(x)
            for layer in denoiser.blocks:
                weight, bias = parts(layer, k)
                x = plain_mish(x @ weight + bias)
        weight, bias = parts(denoiser.out, k)
        mine = found if k is None else found[k]
        np.testing.assert_allclose(mine, x @ weight + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["resnet", "mlp"])
def test_a_denoisers_member_is_that_member(kind):
    denoiser = randomize(Denoiser(4, 2, kind, 5, 2, 0.0, 3), 0.3).eval()
    obs, act = torch.randn(3, 6, 4), torch.randn(3, 6, 2)
    whole = denoiser(denoiser.encode(obs), act, denoiser.steps(4)[:, 3:4]).detach()
    for k in range(3):
        alone = member(denoiser, k)
        found = alone(alone.encode(obs[k]), act[k], alone.steps(4)[3:4])
        torch.testing.assert_close(found, whole[k], rtol=1e-5, atol=1e-5)
        assert not any(p.requires_grad for p in alone.parameters())
        assert not alone.training
    assert all(p.requires_grad for p in denoiser.parameters())
    after = denoiser(denoiser.encode(obs), act, denoiser.steps(4)[:, 3:4]).detach()
    assert torch.equal(after, whole)


def test_a_member_of_a_module_keeps_what_has_no_members():
    outer = nn.Module()
    outer.layer, outer.nothing = EnsembleLinear(2, 1, 1), None
    outer.add_module("empty", None)
    outer.note = "kept"
    alone = member(outer, 1)
    assert isinstance(alone.layer, nn.Linear) and alone.note == "kept"
    assert alone._modules["empty"] is None
    assert isinstance(outer.layer, EnsembleLinear)


def test_norm_of_members_starts_as_the_plain_norm():
    norm = networks._MemberNorm(2, 3)
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(norm(x), F.layer_norm(x, (3,)))
    norm.weight.data[1], norm.bias.data[1] = torch.tensor([2.0, 3.0, -1.0]), torch.ones(3)
    expected = layer_norm(array(x[1]), np.array([2.0, 3.0, -1.0]), 1.0)
    np.testing.assert_allclose(array(norm.member(1)(x[1])), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(array(norm(x))[1], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.member(0)(x[0]), norm(x)[0])


def test_members_stay_on_their_device():
    """Nothing is computed there; only places are looked at."""
    layer, norm = EnsembleLinear(2, 3, 4).to("meta"), networks._MemberNorm(2, 3).to("meta")
    for alone in (layer.member(0), norm.member(1)):
        assert alone.weight.device.type == alone.bias.device.type == "meta"


def test_dropout_share_and_width_reach_every_block():
    denoiser = Denoiser(3, 2, "resnet", 6, 2, 0.3)
    assert [block.drop.p for block in denoiser.blocks] == [0.3, 0.3]
    assert [block.up.out_features for block in denoiser.blocks] == [24, 24]
    assert (denoiser.kind, denoiser.depth) == ("resnet", 2)
    assert denoiser.time.frequency.shape == (32,)


def test_another_denoiser_is_an_error():
    with pytest.raises(ValueError, match="unknown denoiser 'unet', expected resnet or mlp"):
        Denoiser(3, 2, "unet")


# Normaliser and targets


def test_normalizer_scales_and_clips_at_ten():
    normalizer = Normalizer(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5]))
    obs = torch.tensor([[4.0, -1.0], [20.9, 2.9], [21.1, 3.1], [-18.9, -6.9], [-19.1, -7.1]])
    expected = [[1.5, 2.0], [9.95, 9.8], [10.0, 10.0], [-9.95, -9.8], [-10.0, -10.0]]
    np.testing.assert_allclose(normalizer(obs).numpy(), expected, rtol=1e-5)
    assert normalizer.num_obs == 2 and normalizer.lidar is None


def test_normalizer_puts_nearness_behind_before_it_scales():
    mean, std = torch.tensor([0.5, 0.2, 0.1, 0.3, 0.0]), torch.tensor([2.0, 1.0, 0.5, 0.25, 4.0])
    normalizer = Normalizer(mean, std, (1, 0.5))
    obs = torch.tensor([[3.5, 0.0, 0.6]])
    seen = [3.5, 0.0, 0.6, 0.0, math.exp((0.6 - 1) / 0.5)]
    expected = [(x - m) / s for x, m, s in zip(seen, mean.tolist(), std.tolist())]
    assert normalizer(obs)[0].tolist() == pytest.approx(expected, rel=1e-5)
    # Three raw numbers, of which two are readings and come twice: (5 + 1) / 2.
    assert normalizer.num_obs == 3
    assert Normalizer(torch.zeros(120), torch.ones(120), (24, 0.1)).num_obs == 72


def test_normalizer_keeps_copies():
    mean, std = torch.zeros(2), torch.ones(2)
    normalizer = Normalizer(mean, std)
    mean.add_(5.0)
    std.mul_(3.0)
    assert normalizer(torch.tensor([[1.0, 2.0]])).tolist() == [[1.0, 2.0]]
    assert sorted(normalizer.state_dict()) == ["mean", "std"]


@pytest.mark.parametrize("old_torch", [False, True])
def test_polyak_moves_the_target_by_the_rate(monkeypatch, old_torch):
    """target += rate (source - target); torch 1.12 has no call for many tensors at once."""
    if old_torch:
        monkeypatch.delattr(torch, "_foreach_lerp_", raising=False)
    target, source = nn.Linear(2, 1), nn.Linear(2, 1)
    for module, w, b in ((target, [1.0, -2.0], 4.0), (source, [5.0, 2.0], -8.0)):
        module.weight.data, module.bias.data = torch.tensor([w]), torch.tensor([b])
    polyak(target, source, 0.25)
    assert target.weight.tolist() == [[2.0, -1.0]] and target.bias.tolist() == [1.0]
    assert source.weight.tolist() == [[5.0, 2.0]] and source.bias.tolist() == [-8.0]
    assert target.weight.requires_grad and target.weight.grad_fn is None
