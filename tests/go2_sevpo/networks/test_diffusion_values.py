"""The diffusion sampler against a DDPM written from its definition, in float64 numpy."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from go2_sevpo.networks.diffusion import PREDICTIONS, Diffusion, vp_betas


def schedule(steps, low=0.1, high=10.0):
    """alpha_bar_t = exp(-integral over [0, t / T] of b(s) ds), b(s) = low + s (high - low); t =
    1..T.
    """
    share = np.arange(steps + 1) / steps
    bar = np.exp(-low * share - 0.5 * (high - low) * share**2)
    alpha = bar[1:] / bar[:-1]
    return 1.0 - alpha, alpha, bar[1:], bar[:-1]


def posterior(steps):
    """q(x_{t-1} | x_t, x_0) by Bayes' rule: shares of x_0 and of x_t, standard deviation."""
    beta, alpha, _, before = schedule(steps)
    clean, noisy, std = np.ones(steps), np.zeros(steps), np.zeros(steps)
    for t in range(1, steps):
        # x_{t-1} ~ N(sqrt(before) x_0, 1 - before), x_t ~ N(sqrt(alpha) x_{t-1}, beta).
        precision = 1 / (1 - before[t]) + alpha[t] / beta[t]
        clean[t] = math.sqrt(before[t]) / (1 - before[t]) / precision
        noisy[t] = math.sqrt(alpha[t]) / beta[t] / precision
        std[t] = math.sqrt(1 / precision)
    return clean, noisy, std


class LinearDenoiser(nn.Module):
    """Prediction = slope x + W s + row of the step: everything it is given shows in what comes
    out.
    """

    def __init__(self, table, slope=0.4):
        super().__init__()
        self.slope, self.table = slope, torch.tensor(table, dtype=torch.float32)
        self.from_obs = torch.tensor([[0.3, -0.2], [0.1, 0.5], [-0.4, 0.05]])

    def encode(self, obs):
        return obs @ self.from_obs

    def steps(self, n):
        assert n == self.table.shape[-2]
        return self.table

    def forward(self, context, act, time):
        return context + self.slope * act + time


def rows_of(steps, scale=1.0):
    """A different row for every step, of two numbers."""
    t = np.arange(steps)[:, None]
    return scale * np.concatenate([0.15 * t - 0.2, 0.3 - 0.11 * t], 1)


def reference_sample(denoiser, table, context, noise, temperature, prediction):
    """Ancestral sampling from t = T - 1 down to 0; ``noise`` (B, T, A), the start first."""
    steps = noise.shape[-2]
    beta, alpha, bar, _ = schedule(steps)
    clean, noisy, std = posterior(steps)
    x = temperature * noise[:, 0]
    for k, t in enumerate(reversed(range(steps))):
        predicted = context + denoiser.slope * x + table[t]
        fresh = temperature * noise[:, k + 1] if t > 0 else 0.0
        if prediction == "noise":
            x = (x - beta[t] / np.sqrt(1 - bar[t]) * predicted) / np.sqrt(alpha[t])
            x = np.clip(x + np.sqrt(beta[t]) * fresh, -1, 1)
        else:
            x = clean[t] * np.clip(predicted, -1, 1) + noisy[t] * x + std[t] * fresh
    return np.clip(x, -1, 1)


def draws(steps, size, batch=4):
    random = np.random.default_rng(3)
    obs = random.normal(size=(batch, 3)).astype(np.float32)
    return obs, (size * random.normal(size=(batch, steps, 2))).astype(np.float32)


@pytest.mark.parametrize("steps", [1, 3, 5, 20])
def test_schedule_is_the_variance_preserving_one(steps):
    beta, alpha, bar, _ = schedule(steps)
    assert vp_betas(steps).tolist() == pytest.approx(beta.tolist(), rel=1e-6)
    diffusion = Diffusion(LinearDenoiser(rows_of(steps)), steps)
    assert diffusion.beta.tolist() == pytest.approx(beta.tolist(), rel=1e-6)
    assert diffusion.alpha.tolist() == pytest.approx(alpha.tolist(), rel=1e-5)
    assert diffusion.alpha_bar.tolist() == pytest.approx(bar.tolist(), rel=1e-5)


def test_schedule_takes_other_bounds_and_is_single_precision():
    expected = schedule(4, 0.5, 3.0)[0]
    found = vp_betas(4, 0.5, 3.0)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert found.dtype == torch.float32


def test_schedule_of_five_steps_in_numbers():
    # 1 - exp(-0.02 - 0.198 (2 t - 1)), t = 1..5.
    expected = [0.195875, 0.458818, 0.635781, 0.754878, 0.835031]
    assert vp_betas(5).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("steps", [2, 5])
def test_posterior_is_bayes_rule(steps):
    diffusion = Diffusion(LinearDenoiser(rows_of(steps)), steps)
    clean, noisy, std = posterior(steps)
    assert diffusion.posterior_clean.tolist() == pytest.approx(clean.tolist(), rel=1e-5)
    assert diffusion.posterior_noisy.tolist() == pytest.approx(noisy.tolist(), rel=1e-5)
    assert diffusion.posterior_std.tolist() == pytest.approx(std.tolist(), rel=1e-5)


def test_coefficients_are_saved_with_the_policy():
    state = Diffusion(LinearDenoiser(rows_of(2)), 2).state_dict()
    assert sorted(state) == [
        "alpha",
        "alpha_bar",
        "beta",
        "posterior_clean",
        "posterior_noisy",
        "posterior_std",
    ]


@pytest.mark.parametrize("prediction", ["noise", "clean"])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("size", [0.2, 3.0])
def test_sampler_is_the_ddpm(prediction, temperature, steps, size):
    """Small noise (little is clipped) and large noise (clipping everywhere)."""
    obs, noise = draws(steps, size)
    obs = 0.2 * obs
    table = rows_of(steps, size)
    denoiser = LinearDenoiser(table)
    diffusion = Diffusion(denoiser, steps, prediction)
    context = obs @ denoiser.from_obs.numpy()
    found = diffusion.sample(torch.tensor(obs), torch.tensor(noise), temperature)
    expected = reference_sample(denoiser, table, context, noise, temperature, prediction)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-6)
    assert found.abs().max() <= 1.0
    if size < 1:
        assert (np.abs(expected) < 0.99).any(), "something must be left unclipped"


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_two_steps_by_hand(prediction):
    """A network that predicts zero leaves only the noise; each slot has its own factor."""
    noise = torch.tensor([[[0.03, -0.02], [0.05, 0.4]]])
    diffusion = Diffusion(LinearDenoiser(np.zeros((2, 2)), slope=0.0), 2, prediction)
    beta, alpha, _, _ = schedule(2)
    if prediction == "noise":
        # x = sqrt(beta_2) z_1 T + z_0 T / sqrt(alpha_2), then over sqrt(alpha_1), clipped twice.
        inner = [
            0.5 * 0.03 / math.sqrt(alpha[1]) + math.sqrt(beta[1]) * 0.5 * 0.05,
            0.5 * -0.02 / math.sqrt(alpha[1]) + math.sqrt(beta[1]) * 0.5 * 0.4,
        ]
        expected = [max(-1.0, min(1.0, x)) / math.sqrt(alpha[0]) for x in inner]
        assert all(abs(x) < 1 for x in expected)
    else:
        expected = [0.0, 0.0]
    found = diffusion.sample(torch.zeros(1, 3), noise, 0.5)
    assert found[0].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_temperature_zero_leaves_no_trace_of_the_noise(prediction):
    obs, noise = draws(3, 1.0)
    diffusion = Diffusion(LinearDenoiser(rows_of(3)), 3, prediction)
    found = [diffusion.sample(torch.tensor(obs), torch.tensor(x), 0.0) for x in (noise, 2 - noise)]
    assert torch.equal(*found)


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_temperature_is_one_by_default_and_scales_every_slot(prediction):
    obs, noise = draws(3, 0.4)
    diffusion = Diffusion(LinearDenoiser(rows_of(3)), 3, prediction)
    obs, noise = torch.tensor(obs), torch.tensor(noise)
    torch.testing.assert_close(diffusion.sample(obs, noise), diffusion.sample(obs, noise, 1.0))
    scaled = diffusion.sample(obs, 0.3 * noise)
    torch.testing.assert_close(diffusion.sample(obs, noise, 0.3), scaled)
    for slots in (slice(0, 1), slice(1, 3)):
        part = noise.clone()
        part[:, slots] *= 0.3
        assert not torch.allclose(diffusion.sample(obs, part), scaled, atol=1e-3)


def test_clean_form_keeps_the_steps_between_outside_the_bounds():
    """The first step ends beyond 1; cut there, the second would end lower."""
    diffusion = Diffusion(LinearDenoiser(np.zeros((2, 2)), slope=0.1), 2, "clean")
    noise = torch.tensor([[[8.0, -8.0], [1.0, -1.0]]])
    clean, noisy, std = posterior(2)
    inner = clean[1] * 0.8 + noisy[1] * 8.0 + std[1] * 1.0
    assert inner > 1.2
    found = diffusion.sample(torch.zeros(1, 3), noise)
    assert found[0].tolist() == pytest.approx([0.1 * inner, -0.1 * inner], rel=1e-5)


def test_a_given_context_replaces_the_encoded_observation():
    obs, noise = draws(2, 0.1)
    context = np.float32([[0.1, -0.2], [0.05, 0.0], [0.0, 0.2], [-0.1, 0.1]])
    table = rows_of(2)
    denoiser = LinearDenoiser(table)
    for prediction in ("noise", "clean"):
        diffusion = Diffusion(denoiser, 2, prediction)
        found = diffusion.sample(
            torch.tensor(obs), torch.tensor(noise), context=torch.tensor(context)
        )
        expected = reference_sample(denoiser, table, context, noise, 1.0, prediction)
        np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_members_use_their_own_rows_of_steps(prediction):
    obs, noise = draws(3, 0.3, batch=8)
    obs, noise = 0.2 * obs.reshape(2, 4, 3), noise.reshape(2, 4, 3, 2)
    tables = np.stack([rows_of(3), -0.5 * rows_of(3)])
    denoiser = LinearDenoiser(tables)
    found = Diffusion(denoiser, 3, prediction).sample(torch.tensor(obs), torch.tensor(noise), 0.7)
    for k in range(2):
        context = obs[k] @ denoiser.from_obs.numpy()
        expected = reference_sample(denoiser, tables[k], context, noise[k], 0.7, prediction)
        np.testing.assert_allclose(found[k].numpy(), expected, rtol=2e-5, atol=2e-6)


def test_forward_process():
    """sqrt(abar_t) a + sqrt(1 - abar_t) z."""
    diffusion = Diffusion(LinearDenoiser(rows_of(5)), 5)
    act, noise = torch.tensor([[0.5, -1.0], [0.2, 0.3]]), torch.tensor([[2.0, 0.1], [-1.0, 0.7]])
    bar = schedule(5)[2][[4, 1]]
    expected = [
        [math.sqrt(b) * a + math.sqrt(1 - b) * z for a, z in zip(x, y)]
        for b, x, y in zip(bar, act.tolist(), noise.tolist())
    ]
    found = diffusion.corrupt(act, noise, torch.tensor([4, 1]))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_loss_is_the_squared_error_summed_over_action_dimensions(prediction):
    table = rows_of(5)
    diffusion = Diffusion(LinearDenoiser(table), 5, prediction)
    obs = np.array([[1.0, -2.0, 0.5], [0.0, 0.3, 1.0], [0.4, 0.4, -0.4]])
    act = np.array([[0.5, -1.0], [0.2, 0.3], [-0.6, 0.9]])
    noise = np.array([[2.0, 0.1], [-1.0, 0.7], [0.4, -0.3]])
    t = [4, 0, 2]
    bar = schedule(5)[2][t][:, None]
    noisy = np.sqrt(bar) * act + np.sqrt(1 - bar) * noise
    predicted = obs @ diffusion.denoiser.from_obs.double().numpy() + 0.4 * noisy + table[t]
    wanted = noise if prediction == "noise" else act
    expected = ((predicted - wanted) ** 2).sum(1)
    tensors = [torch.tensor(x, dtype=torch.float32) for x in (obs, act, noise)]
    found = diffusion.loss(*tensors, torch.tensor(t))
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    direct = diffusion.predict(tensors[0], torch.tensor(noisy).float(), torch.tensor(t))
    np.testing.assert_allclose(direct.numpy(), predicted, rtol=1e-5, atol=1e-6)


def test_loss_of_members_takes_each_members_rows():
    tables = np.stack([rows_of(3), 2 * rows_of(3) + 1])
    diffusion = Diffusion(LinearDenoiser(tables), 3)
    t = [[2, 0, 1, 2], [1, 1, 0, 2]]
    noise = np.random.default_rng(0).normal(size=(2, 4, 2))
    act = np.random.default_rng(1).uniform(-1, 1, size=(2, 4, 2))
    bar = schedule(3)[2][t][..., None]
    noisy = np.sqrt(bar) * act + np.sqrt(1 - bar) * noise
    rows = np.stack([tables[k][t[k]] for k in range(2)])
    expected = ((0.4 * noisy + rows - noise) ** 2).sum(-1)
    found = diffusion.loss(
        torch.zeros(2, 4, 3),
        torch.tensor(act).float(),
        torch.tensor(noise).float(),
        torch.tensor(t),
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_defaults_are_the_papers():
    """Table 8 and the published schedule: T = 5, b from 0.1 to 10, noise prediction."""
    found = {k: v.default for k, v in inspect.signature(vp_betas).parameters.items()}
    assert (found["low"], found["high"]) == (0.1, 10.0)
    diffusion = Diffusion(LinearDenoiser(rows_of(5)))
    assert (diffusion.steps, diffusion.prediction) == (5, "noise")
    assert PREDICTIONS == ("noise", "clean")


def test_another_prediction_is_an_error():
    with pytest.raises(
        ValueError, match="unknown prediction 'velocity', expected one of noise, cl"
    ):
        Diffusion(LinearDenoiser(rows_of(5)), 5, "velocity")
