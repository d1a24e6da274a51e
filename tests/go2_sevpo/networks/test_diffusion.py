import math

import pytest
import torch

from go2_sevpo.networks.diffusion import Diffusion, vp_betas
from go2_sevpo.networks.layers import Denoiser


def test_schedule_values_are_the_papers():
    beta = vp_betas(5)
    for t in range(1, 6):
        expected = 1 - math.exp(-0.1 / 5 - (10 - 0.1) * (2 * t - 1) / (2 * 25))
        assert beta[t - 1].item() == pytest.approx(expected, rel=1e-6)
    assert torch.all(beta[1:] > beta[:-1])
    diffusion = Diffusion(Denoiser(3, 2, "mlp", 8, 2), 5)
    assert diffusion.alpha_bar[-1].item() == pytest.approx(math.exp(-0.1 - 0.5 * 9.9), rel=1e-4)


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_learns_two_separate_modes_depending_on_the_observation(prediction):
    torch.manual_seed(0)
    steps = 20  # five steps, the paper's number, blur two modes so far apart
    diffusion = Diffusion(Denoiser(1, 1, "mlp", 64, 2), steps, prediction)
    optimizer = torch.optim.Adam(diffusion.parameters(), 3e-3)
    for _ in range(600):
        obs = torch.randint(0, 2, (256, 1)).float()
        mode = torch.where(torch.rand(256, 1) < 0.5, 0.7, -0.7) * obs + 0.3 * (1 - obs)
        loss = diffusion.loss(obs, mode, torch.randn(256, 1), torch.randint(steps, (256,))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        one = diffusion.sample(torch.ones(2000, 1), torch.randn(2000, steps, 1))
        zero = diffusion.sample(torch.zeros(500, 1), torch.randn(500, steps, 1))
    assert ((one.abs() - 0.7).abs() < 0.3).float().mean() > 0.8  # two modes, little between them
    assert 0.3 < (one > 0).float().mean() < 0.7
    assert zero.mean().item() == pytest.approx(0.3, abs=0.07)


def test_sampling_is_a_function_of_its_noise_and_stays_in_bounds():
    torch.manual_seed(0)
    diffusion = Diffusion(Denoiser(3, 2, "resnet", 16, 1, dropout=0.1), 5).eval()
    obs, noise = torch.randn(7, 3), 3 * torch.randn(7, 5, 2)
    first, second = diffusion.sample(obs, noise), diffusion.sample(obs, noise)
    assert torch.equal(first, second)
    assert first.abs().max() <= 1.0
    assert not torch.equal(first, diffusion.sample(obs, noise.flip(0)))


def test_gradient_flows_through_the_sampler():
    torch.manual_seed(0)
    diffusion = Diffusion(Denoiser(3, 2, "mlp", 16, 2), 5, "clean")
    diffusion.sample(torch.randn(4, 3), 0.1 * torch.randn(4, 5, 2)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in diffusion.parameters())
    assert diffusion.denoiser.out.weight.grad.abs().sum() > 0
