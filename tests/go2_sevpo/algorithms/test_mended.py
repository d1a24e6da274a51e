"""What was mended in SEVPO and beside it: gradients of saturated actions, dropout, acting noise,
who is cloned. Each is held against numbers or loops of its own.
"""

import dataclasses

import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import base, make_algorithm, make_config
from go2_sevpo.data.dataset import Batch, OfflineDataset
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.networks.diffusion import Diffusion, InwardClamp
from go2_sevpo.networks.layers import Denoiser
from tests.conftest import make_episodes

SMALL = {
    "critic_hidden": (16,),
    "critic_batch": 16,
    "critic_steps": 3,
    "policy_steps": 4,
    "actor": "mlp",
    "width": 16,
    "depth": 2,
    "dropout": 0.0,
    "actor_batch": 16,
    "actor_updates": 1,
    "limit": 1000.0,
    "unsafe_objective": "none",
    "b2": 0.0,
}


def trained(dataset, steps=4, **settings):
    torch.manual_seed(0)
    algorithm = make_algorithm("sevpo", make_config("sevpo", {**SMALL, **settings}), dataset)
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        algorithm.update("critics", step, dataset, generator)
    for step in range(steps):
        algorithm.update("policy", step, dataset, generator)
    return algorithm


# Eq. 14: the gradient through the sampler


def test_the_inward_clamp_passes_what_leads_back_inside():
    x = torch.tensor([-2.0, -2.0, 0.5, 3.0, 3.0, 1.0, -1.0], requires_grad=True)
    gradient = torch.tensor([-1.0, 1.0, 0.25, 1.0, -1.0, -1.0, 1.0])
    y = InwardClamp.apply(x)
    assert y.tolist() == [-1.0, -1.0, 0.5, 1.0, 1.0, 1.0, -1.0]
    y.backward(gradient)
    # Descent moves x by -gradient: from -2 a gradient of -1 leads inside, 1 further outside.
    assert x.grad.tolist() == [-1.0, 0.0, 0.25, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_saturated_actions_have_a_gradient_and_stay_the_same(prediction):
    torch.manual_seed(1)
    diffusion = Diffusion(Denoiser(3, 2, "mlp", 16, 2), 5, prediction)
    # Everything is far above the upper bound.
    diffusion.denoiser.out.bias.data.fill_(-30.0 if prediction == "noise" else 30.0)
    obs, noise = torch.randn(8, 3), torch.randn(8, 5, 2)
    plain, passing = diffusion.sample(obs, noise), diffusion.sample(obs, noise, inward=True)
    assert torch.equal(plain, passing) and torch.all(plain > 0.99999)

    def slope(sample, sign):
        diffusion.zero_grad()
        (sign * sample).sum().backward()
        return diffusion.denoiser.out.bias.grad.abs().sum().item()

    assert slope(plain, 1.0) == 0.0
    assert slope(passing, 1.0) > 0.0  # less of the action: back inside
    assert slope(diffusion.sample(obs, noise, inward=True), -1.0) == 0.0  # more: nothing to gain


def test_the_unsafe_objective_unlearns_saturated_actions(dataset):
    """Gradient descent on Eq. 14 alone, from an actor that is stuck at the upper bound."""
    settings = {"unsafe_objective": "gradient", "b1": 0.0, "b2": 1.0, "limit": -1000.0}
    algorithm = trained(dataset, 0, **{**settings, "trust_region": "off"})
    algorithm.actor.denoiser.out.bias.data.fill_(-30.0)
    # Q_c grows with the first action.
    algorithm.q_c = lambda obs, act: 3.0 * act[:, 0].expand(2, -1)
    optimizer = torch.optim.Adam(algorithm.actor.parameters(), 0.1)
    batch = dataset.sample(16, torch.Generator().manual_seed(1))
    everywhere, zero = torch.ones(16, dtype=torch.bool), torch.zeros(16)
    generator = torch.Generator().manual_seed(2)
    losses = []
    for _ in range(120):
        loss = algorithm.unsafe_sampled(batch, zero, everywhere, 0.0, generator)
        base.descend(optimizer, loss)
        losses.append(loss.item())
    # Without the mend the loss never moves: its gradient is exactly zero.
    assert losses[-1] < 0.5 * losses[0]


# Eq. 15: dropout


def test_the_same_weights_have_not_changed_whatever_dropout_does(dataset):
    algorithm = trained(dataset, 0, actor="resnet", dropout=0.5)
    algorithm.actor.train()
    obs, act = torch.randn(64, dataset.num_obs), torch.rand(64, 2) * 2 - 1
    generator = torch.Generator().manual_seed(0)
    change = algorithm._policy_change(obs, act, generator)
    assert change.tolist() == [0.0] * 64 and algorithm.actor.training
    algorithm.actor.denoiser.out.bias.data += 0.5
    moved = algorithm._policy_change(obs, act, torch.Generator().manual_seed(0))
    # Two dimensions of 0.5 each, at every noise.
    assert moved.tolist() == pytest.approx([0.5] * 64, rel=1e-4)


# acting noise


def test_the_noise_that_sampling_loses_is_measured():
    """The denoiser is the best there is for Gaussian actions; what it leaves out is known."""
    mean, std = 0.1, torch.tensor([0.15, 0.05])
    for prediction in ("noise", "clean"):
        diffusion = Diffusion(Denoiser(1, 2, "mlp", 4, 1), 5, prediction)
        bar = diffusion.alpha_bar[0]

        def predict(obs, noisy, t, diffusion=diffusion, bar=bar):
            # E[a | a_1] of a ~ N(mean, std^2), a_1 = sqrt(bar) a + sqrt(1 - bar) z
            gain = bar.sqrt() * std**2 / (bar * std**2 + 1 - bar)
            clean = mean + gain * (noisy - bar.sqrt() * mean)
            if diffusion.prediction == "clean":
                return clean
            return (noisy - bar.sqrt() * clean) / (1 - bar).sqrt()

        diffusion.predict = predict
        generator = torch.Generator().manual_seed(0)
        act = mean + std * torch.randn(40000, 2, generator=generator)
        mask = torch.ones(40000)
        mask[::2], act[::2] = 0.0, 1.0  # what does not count must not matter
        found = base.lost_noise(diffusion, torch.zeros(40000, 1), act, mask, generator)
        expected = (std**2 * (1 - bar) / (bar * std**2 + 1 - bar)).sqrt()
        assert found.tolist() == pytest.approx(expected.tolist(), rel=0.02)
        assert 0.95 < found[0] / std[0] < 1.0  # nearly all of it


def test_acting_noise_is_off_unless_asked_for_and_then_spreads_actions(dataset):
    plain = trained(dataset)
    assert plain.lost_noise.min() > 0.0  # measured on the last step anyway
    policy = plain.policy()
    assert policy.acting_noise == 0.0 and policy.sampler["steps"] == 5
    noisy = trained(dataset, acting_noise=0.5).policy()
    sampler = noisy.sampler
    assert sampler["steps"] == 6 and sampler["acting_noise"] == 0.5
    obs, noise = torch.zeros(2000, dataset.num_obs), torch.randn(2000, 1, 6, 2)
    noise[:, :, :5] = 0.0
    with torch.no_grad():
        action, _, _ = noisy(obs, noise)
        centre, _, _ = noisy(obs, torch.zeros(2000, 1, 6, 2))
    spread = 0.5 * noisy.lost_noise * noise[:, 0, 5]
    assert torch.allclose(action, (centre + spread).clamp(-1.0, 1.0), atol=1e-6)
    with pytest.raises(ValueError, match="acting_noise is -1, expected 0 or more"):
        make_config("sevpo", {"acting_noise": -1.0})


def test_critics_are_trained_for_the_sampler_that_acts(dataset):
    """Eqs. 8 and 9: a' has the acting temperature and the acting noise."""
    algorithm = trained(dataset, 0, temperature=0.25)
    asked = []

    def sample(obs, noise, temperature):
        asked.append((noise.shape[-2], temperature))
        return torch.full((len(obs), 2), 0.5)

    algorithm.average.sample = sample
    obs = torch.zeros(5000, dataset.num_obs)
    generator = torch.Generator().manual_seed(0)
    assert algorithm.next_actions(obs, generator).tolist() == [[0.5, 0.5]] * 5000
    other = dataclasses.replace(algorithm.config, critic_temperature=0.75, acting_noise=2.0)
    algorithm.config = other
    algorithm.lost_noise = torch.tensor([0.05, 0.1])
    found = algorithm.next_actions(obs, generator)
    assert asked == [(5, 0.25), (5, 0.75)]
    assert found.std(0).tolist() == pytest.approx([0.1, 0.2], rel=0.05)


# who is cloned


def test_lookahead_cloning_takes_what_has_no_cost_ahead():
    data = OfflineDataset([make_episodes((9, 6, 12))])
    data.cost = torch.zeros(27)
    data.cost[[3, 8, 20]] = 1.0
    algorithm = make_algorithm(
        "bc-lookahead", make_config("bc-lookahead", {"lookahead": 4, "width": 8}), data
    )
    ends = [8, 14, 26]
    expected = []
    for row in range(27):
        end = min(e for e in ends if e >= row)
        if float(data.cost[row : min(row + 4, end + 1)].sum()) <= 0.9:
            expected.append(row)
    assert algorithm.rows.tolist() == expected and 0 not in expected and 4 in expected
    data.cost[:] = 1.0
    with pytest.raises(
        ValueError, match="no transition has a cost of at most 0.9 in the 100 steps"
    ):
        make_algorithm("bc-lookahead", make_config("bc-lookahead", {}), data)
    with pytest.raises(ValueError, match="lookahead is 0, expected at least 1 step"):
        make_config("bc-lookahead", {"lookahead": 0})


def test_the_oracle_clones_what_one_policy_did():
    first, second = make_episodes((4, 3)), make_episodes((5,), seed=1)
    columns = {**first.columns, "actor": np.array([0, 0, 1, 1, 1, 0, 0])}
    parts = [
        Episodes(columns, first.episodes, ("weak", "expert")),
        Episodes(second.columns, second.episodes, ("expert",)),
    ]
    data = OfflineDataset(parts)
    assert data.actors == ["weak", "expert"]
    algorithm = make_algorithm("bc-actor", make_config("bc-actor", {"width": 8}), data)
    assert algorithm.rows.tolist() == [2, 3, 4, 7, 8, 9, 10, 11]
    unknown = make_config("bc-actor", {"actor_name": "saviour"})
    with pytest.raises(DatasetError, match="'saviour' acted; they name weak, expert"):
        make_algorithm("bc-actor", unknown, data)
    silent = OfflineDataset([make_episodes()])
    assert silent.actor.unique().tolist() == [-1]
    with pytest.raises(DatasetError, match="they name nobody"):
        silent.actor_rows("expert")


# FISOR's scale of rewards, and parts of batches


def test_the_scale_of_returns_is_the_authors():
    data = OfflineDataset([make_episodes((4, 3))])
    data.reward = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, 0.0, 0.5])
    # Returns 4 and -0.5, the longest episode has 4 steps.
    assert data.return_scale() == pytest.approx(4.0 / 4.5)
    data.reward *= data.return_scale()
    assert data.return_scale() == pytest.approx(1.0)  # twice is once
    data.reward[:] = 0.0
    assert data.return_scale() == 1.0


@pytest.mark.parametrize("members", [None, 2])
def test_a_part_of_a_batch_has_its_rows_of_every_member(members):
    shape = (6,) if members is None else (members, 6)
    column = torch.arange(6.0).expand(shape)
    wide = column[..., None].expand(*shape, 3)
    batch = Batch(wide, wide, column, column, wide, column, column, fall=column)
    part = batch.part(2, 3)
    assert part.cost.reshape(-1, 3)[-1].tolist() == part.fall.reshape(-1, 3)[0].tolist()
    assert part.cost.reshape(-1, 3)[-1].tolist() == [2.0, 3.0, 4.0]
    assert part.obs.shape == (*shape[:-1], 3, 3) and part.index is None
