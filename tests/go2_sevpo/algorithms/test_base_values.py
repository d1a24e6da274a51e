"""The pieces that algorithms share, and algorithms by name: every number worked out by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from go2_sevpo import algorithms
from go2_sevpo.algorithms import base
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.networks.diffusion import Diffusion
from go2_sevpo.networks.layers import Critic, EnsembleLinear, polyak
from tests.conftest import make_episodes


@pytest.fixture
def data():
    return OfflineDataset([make_episodes((3, 2), n_obs=3, n_act=2)])


def draws(seed=5):
    return torch.Generator().manual_seed(seed)


def known_values(*values):
    return torch.tensor(values, dtype=torch.float32)


# State


def test_a_batch_of_members_carries_them_first():
    state = base.State()
    assert state.members is None
    assert state.shape(7) == (7,)
    state.members = 3
    assert state.shape(7) == (3, 7)


def test_one_member_is_taken_out_only_where_there_are_members():
    state = base.State()
    module = EnsembleLinear(2, 3, 1)
    assert state.one(module, 1) is module
    assert state.one(None, 0) is None
    state.members = 2
    assert state.one(None, 0) is None
    for k in (0, 1):
        torch.testing.assert_close(state.one(module, k).weight, module.weight[k].T)


def test_state_holds_the_named_modules_and_optimizers_and_nothing_else():
    def build(value):
        state = base.State()
        state.modules, state.optimizers = ("net",), ("optimizer",)
        state.net, state.other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        state.net.weight.data.fill_(value)
        state.optimizer = torch.optim.Adam(state.net.parameters(), lr=value)
        return state

    assert (base.State.modules, base.State.optimizers) == ((), ())
    first, second = build(0.25), build(0.75)
    state = first.state_dict()
    assert list(state) == ["net", "optimizer"]
    other = second.other.weight.clone()
    second.load_state_dict(state)
    assert second.net.weight.item() == 0.25
    assert second.optimizer.param_groups[0]["lr"] == 0.25
    torch.testing.assert_close(second.other.weight, other)


# optimisers and copies


def test_adam_is_plain_adam_with_the_given_rate():
    parameter = torch.nn.Parameter(known_values(1.0, -2.0))
    optimizer = base.adam(iter([parameter]), 0.25)
    assert isinstance(optimizer, torch.optim.Adam)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (
        0.25,
        (0.9, 0.999),
        1e-8,
        0,
    )
    assert group["foreach"] is True
    parameter.grad = known_values(4.0, -8.0)
    optimizer.step()
    # Adam's first step is the rate, against the gradient's sign
    torch.testing.assert_close(parameter.detach(), known_values(0.75, -1.75))


def test_a_frozen_copy_is_its_own_in_evaluation_and_never_gets_gradients():
    module = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.5))
    copied = base.frozen_copy(module)
    assert module.training and not copied.training and not copied[1].training
    assert all(p.requires_grad for p in module.parameters())
    assert not any(p.requires_grad for p in copied.parameters())
    before = copied[0].weight.clone()
    torch.testing.assert_close(before, module[0].weight.detach())
    module[0].weight.data.add_(1.0)
    assert torch.equal(copied[0].weight, before)


@pytest.mark.parametrize(
    ("step", "total", "share"),
    [
        (0, 8, 1.0),
        (2, 8, (1.0 + math.sqrt(0.5)) / 2.0),  # cos(pi / 4)
        (4, 8, 0.5),
        (8, 8, 0.0),
        (12, 8, 0.0),  # stays at zero
        (0, 0, 1.0),
        (1, 2, 0.5),
        (1, 1, 0.0),
    ],
)
def test_the_cosine_falls_from_the_rate_to_zero(step, total, share):
    assert base.cosine(0.3, step, total) == pytest.approx(0.3 * share, abs=1e-12)


def test_the_rate_is_set_in_all_groups_and_kept_where_it_lives_on_the_device():
    a, b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 2.0}])
    base.set_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]
    on_device = torch.tensor(1.0)
    optimizer.param_groups[0]["lr"] = on_device
    base.set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] is on_device and on_device.item() == 0.5
    assert optimizer.param_groups[1]["lr"] == 0.5


def test_a_capturable_adam_has_its_rate_and_counts_as_tensors_beside_the_parameters():
    a, b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([{"params": [a]}, {"params": [b]}], lr=0.25)
    a.grad = torch.ones(1)
    optimizer.step()
    place = SimpleNamespace(moved=0)

    class Count:
        def to(self, device):
            place.moved += device == a.device
            return "moved"

    optimizer.state[a]["step"] = Count()
    base.make_capturable(optimizer)
    for group in optimizer.param_groups:
        assert group["capturable"] is True
        assert isinstance(group["lr"], torch.Tensor) and group["lr"].dtype == torch.float32
        assert group["lr"].item() == 0.25 and group["lr"].device == a.device
    assert place.moved == 1 and optimizer.state[a]["step"] == "moved"
    assert "step" not in optimizer.state[b]


# networks of the dataset's sizes


def test_the_actor_has_the_datasets_sizes_and_the_given_shape(data):
    actor = base.make_actor(data, "resnet", 6, 2, 0.25, 4, "clean")
    assert isinstance(actor, Diffusion) and (actor.steps, actor.prediction) == (4, "clean")
    denoiser = actor.denoiser
    assert (denoiser.kind, denoiser.depth, len(denoiser.blocks)) == ("resnet", 2, 2)
    assert denoiser.from_obs.weight.shape == (6, 3) and denoiser.from_act.weight.shape == (6, 2)
    assert denoiser.out.weight.shape == (2, 6)
    assert denoiser.blocks[0].drop.p == 0.25
    wide = base.make_actor(data, "mlp", 6, 2, 0.0, 3, "noise", members=5)
    assert (wide.steps, wide.prediction, wide.denoiser.kind) == (3, "noise", "mlp")
    assert wide.denoiser.from_obs.weight.shape == (5, 3, 6)


def test_the_normalizer_has_the_datasets_statistics(data):
    data.lidar = (1, 0.5)
    normalizer = base.make_normalizer(data)
    torch.testing.assert_close(normalizer.mean, data.mean)
    torch.testing.assert_close(normalizer.std, data.std)
    assert not torch.equal(data.mean, data.std)
    assert normalizer.lidar == (1, 0.5)


# losses


class Squares:
    """Stands in for an actor: remembers what it is asked, answers with a known loss."""

    steps = 3

    def loss(self, obs, act, noise, t):
        self.asked = obs, act, noise, t
        return (act - noise).square().sum(-1) + 10.0 * t


@pytest.mark.parametrize("shape", [(400,), (2, 200)])
def test_cloning_draws_normal_noise_and_every_step_alike(shape):
    actor, act = Squares(), torch.zeros(*shape, 2)
    obs = torch.full((*shape, 4), 0.5)
    loss, noise, t = base.cloning_loss(actor, obs, act, draws())
    assert loss.shape == shape and noise.shape == (*shape, 2) and t.shape == shape
    assert (
        actor.asked[0] is obs
        and actor.asked[1] is act
        and actor.asked[2] is noise
        and actor.asked[3] is t
    )
    torch.testing.assert_close(loss, noise.square().sum(-1) + 10.0 * t)
    assert sorted(t.unique().tolist()) == [0, 1, 2]
    counts = torch.bincount(t.flatten(), minlength=3)
    assert (counts > 100).all()  # a third of 400 each
    assert abs(noise.mean().item()) < 0.15 and abs(noise.std().item() - 1.0) < 0.1
    again = base.cloning_loss(actor, obs, act, draws())
    torch.testing.assert_close(again[1], noise)  # nothing but the generator decides
    torch.testing.assert_close(again[2], t)


@pytest.mark.parametrize("shape", [(300,), (2, 150)])
def test_own_noise_is_normal_with_one_draw_per_diffusion_step(shape):
    obs = torch.full((*shape, 5), 0.5)
    noise = base.own_noise(obs, Squares(), 2, draws())
    assert noise.shape == (*shape, 3, 2)
    assert abs(noise.mean().item()) < 0.1 and abs(noise.std().item() - 1.0) < 0.1
    torch.testing.assert_close(base.own_noise(obs, Squares(), 2, draws()), noise)


def test_the_loss_is_a_mean_over_the_batch_and_a_sum_over_members_and_heads():
    values = torch.tensor([[1.0, 2.0, 6.0], [-1.0, 0.0, 2.5]])
    assert base.loss_of(values[0]).item() == pytest.approx(3.0)
    assert base.loss_of(values).item() == pytest.approx(3.0 + 0.5)
    assert base.loss_of(torch.stack([values, 10.0 * values])).item() == pytest.approx(38.5)


def test_mean_over_a_mask_is_per_member_and_zero_where_the_mask_is_empty():
    values = torch.tensor([[1.0, 2.0, 6.0], [-1.0, 4.0, 2.5], [3.0, 5.0, 7.0]])
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(base.mean_over(values, mask), known_values(3.5, 4.0, 0.0))
    torch.testing.assert_close(base.mean_over(values[0], mask[0]), torch.tensor(3.5))


def test_descending_moves_only_the_optimizers_own_parameters_and_forgets_old_gradients():
    mine = torch.nn.Parameter(known_values(3.0))
    foreign = torch.nn.Parameter(known_values(2.0))
    optimizer = torch.optim.SGD([mine], lr=0.1)
    mine.grad = known_values(1000.0)
    base.descend(optimizer, (mine * foreign).square().sum())
    # d/dx (2 x)^2 = 8 x = 24
    torch.testing.assert_close(mine.detach(), known_values(3.0 - 0.1 * 24.0))
    assert foreign.grad is None and foreign.item() == 2.0
    base.descend(optimizer, 5.0 * mine.sum() + 0.0 * foreign.sum())
    torch.testing.assert_close(mine.detach(), known_values(0.6 - 0.5))


def test_parameters_that_a_loss_does_not_reach_stay_though_adam_remembers_their_last_step():
    """Of two multipliers in one optimizer, trained in turns."""
    first, second = (torch.nn.Parameter(known_values(1.0)) for _ in range(2))
    optimizer = base.adam([first, second], 0.1)
    base.descend(optimizer, first.sum())
    assert first.item() == pytest.approx(0.9) and second.item() == 1.0
    base.descend(optimizer, second.sum())
    assert first.item() == pytest.approx(0.9) and second.item() == pytest.approx(0.9)


def test_a_summary_has_detached_means():
    values = torch.tensor([[1.0, 2.0], [4.0, 9.0]], requires_grad=True)
    found = base.summary(loss=values, share=torch.tensor([True, False, False, False]))
    assert set(found) == {"loss", "share"}
    assert found["loss"].item() == 4.0 and found["share"].item() == 0.25
    assert found["loss"].shape == () and not found["loss"].requires_grad
    assert found["share"].dtype == torch.float32


def test_what_is_made_lies_where_its_input_lies(data):
    """On torch's "meta" device, which has shapes but no numbers and mixes with no other."""
    obs, act = torch.zeros(2, 4, device="meta"), torch.zeros(2, 3, device="meta")
    _, noise, t = base.cloning_loss(Squares(), obs, act, None)
    assert noise.device == t.device == base.own_noise(obs, Squares(), 3, None).device == obs.device
    data.device = torch.device("meta")
    actor = base.make_actor(data, "mlp", 4, 1, 0.0, 2, "clean")
    assert all(value.device == data.device for value in actor.state_dict().values())
    parameter = torch.nn.Parameter(torch.zeros(1, device="meta"))
    optimizer = torch.optim.Adam([parameter])
    base.make_capturable(optimizer)
    assert optimizer.param_groups[0]["lr"].device == parameter.device


def test_averages_move_by_the_rate_towards_the_source():
    target, source = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for module, weight, bias in ((target, 2.0, -1.0), (source, 10.0, 3.0)):
        module.weight.data.fill_(weight)
        module.bias.data.fill_(bias)
    polyak(target, source, 0.25)
    assert (target.weight.item(), target.bias.item()) == (4.0, 0.0)
    assert (source.weight.item(), source.bias.item()) == (10.0, 3.0)


# algorithms by name


def test_algorithms_have_these_names_and_what_a_name_fixes():
    cloning = ("bc", "bc-safe", "bc-lookahead", "bc-actor", "bc-choice", "bc-safe-choice")
    ours = ("sevpo", "fisor", *cloning, "cpq", "coptidice", "ccac")
    theirs = ("bc-osrl", "bc-safe-osrl", "cpq-osrl", "coptidice-osrl", "ccac-osrl")
    assert tuple(algorithms.ALGORITHMS) == (*ours, *theirs, "bcq-lag", "bear-lag")
    fixed = {name: entry[2] for name, entry in algorithms.ALGORITHMS.items() if entry[2]}
    safe = ("bc-safe", "bc-safe-choice", "bc-safe-osrl")
    assert fixed == dict.fromkeys(safe, {"safe_only": True})
    for name, entry in algorithms.ALGORITHMS.items():
        stem = "".join(part.capitalize() for part in name.replace("bc-safe", "bc").split("-"))
        if name in cloning:
            stem = "BcChoice" if name.endswith("choice") else "BehaviorCloning"
        assert entry[0].__name__ == stem, name
    assert algorithms.ALGORITHMS["bc"][1].__name__ == "BcConfig"
    assert algorithms.ALGORITHMS["bc-choice"][1].__name__ == "BcChoiceConfig"


def test_a_configuration_is_made_of_plain_data():
    config = algorithms.make_config("sevpo", {"critic_hidden": [8, 4], "mu1": 2.5})
    assert type(config).__name__ == "SevpoConfig"
    assert config.critic_hidden == (8, 4) and config.mu1 == 2.5 and config.mu2 == 5.0
    assert algorithms.make_config("bc", {}).safe_only is False
    # what the name fixes wins over what is asked for
    assert algorithms.make_config("bc-safe", {"safe_only": False, "steps": 3}).safe_only is True
    assert algorithms.make_config("bc-safe", {"steps": 3}).steps == 3


def test_an_unknown_algorithm_or_setting_is_named_with_the_known_ones():
    known = ", ".join(algorithms.ALGORITHMS)
    with pytest.raises(ValueError, match=f"^unknown algorithm 'sac', expected one of {known}$"):
        algorithms.make_config("sac", {})
    expected = "unknown setting 'mu3' of bc, expected one of safe_only, cost_limit, steps, batch, "
    with pytest.raises(ValueError, match=expected):
        algorithms.make_config("bc", {"steps": 1, "mu3": 1.0})


@pytest.mark.parametrize("members", [None, 3])
def test_an_algorithm_is_made_with_its_configuration_data_and_members(data, members):
    values = {"critic_hidden": (4,), "width": 4, "depth": 1, "actor": "mlp"}
    config = algorithms.make_config("bc-choice", values)
    algorithm = algorithms.make_algorithm("bc-choice", config, data, members)
    assert type(algorithm).__name__ == "BcChoice"
    assert algorithm.config is config and algorithm.members == members
    assert isinstance(algorithm.q_c, Critic) and algorithm.q_c.members == members
    torch.testing.assert_close(algorithm.normalizer.mean, data.mean)
    assert np.isfinite(algorithm.limit)
