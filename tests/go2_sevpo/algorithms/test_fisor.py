import pytest
import torch

from go2_sevpo.algorithms.fisor import Fisor, FisorConfig, reachability_target
from go2_sevpo.data.dataset import Batch

SMALL = {
    "steps": 30,
    "critic_hidden": (32, 32),
    "critic_batch": 32,
    "actor_batch": 32,
    "actor": "mlp",
    "width": 32,
    "depth": 2,
    "dropout": 0.0,
}


def make(dataset, **changes):
    torch.manual_seed(0)
    return Fisor(FisorConfig(**{**SMALL, **changes}), dataset)


def test_reachability_target_keeps_the_worst_of_now_and_later():
    h, later = torch.tensor([-1.0, -1.0, 25.0, -1.0]), torch.tensor([-0.5, 20.0, -1.0, 20.0])
    target = reachability_target(h, later, torch.tensor([1.0, 1.0, 1.0, 0.0]), 0.9)
    assert target.tolist() == pytest.approx([-0.55, 17.9, 25.0, -1.0], rel=1e-5)


def test_reachability_value_of_an_absorbing_violation_is_h_not_a_sum(dataset):
    """A summed critic would reach h / (1 - gamma)."""
    algorithm = make(dataset, gamma=0.9, target_rate=0.5)
    algorithm.v_optimizer = torch.optim.Adam(
        [*algorithm.v_r.parameters(), *algorithm.v_h.parameters()], 1e-2
    )
    algorithm.q_optimizer = torch.optim.Adam(
        [*algorithm.q_r.parameters(), *algorithm.q_h.parameters()], 1e-2
    )
    obs, act = torch.zeros(64, dataset.num_obs), torch.zeros(64, dataset.num_actions)
    zero = torch.zeros(64)
    batch = Batch(obs, act, zero, torch.ones(64), obs, zero, zero)
    for _ in range(400):
        algorithm.update_critics(batch)
    assert algorithm.v_h(obs).mean().item() == pytest.approx(25.0, abs=1.0)


def test_weights_follow_the_regions(dataset):
    algorithm = make(dataset)
    batch = dataset.sample(200, torch.Generator().manual_seed(0))
    algorithm.v_h.net[-1].weight.data.mul_(20)  # values of both signs
    with torch.no_grad():
        weight, safe, unsafe = algorithm.weights(batch)
    assert safe.any()
    assert unsafe.any()
    neither = ~safe & ~unsafe
    assert torch.all(weight[neither] == 0)
    assert torch.all(weight[safe | unsafe] > 0)
    assert weight[safe].max() <= 100.0
    assert weight[unsafe].max() <= 150.0


@pytest.mark.parametrize(
    "changes", [{}, {"warmup": 0.5}, {"prediction": "clean"}, {"actor": "resnet", "dropout": 0.1}]
)
def test_trains_to_finite_weights_and_changes_every_network(dataset, changes):
    algorithm = make(dataset, **changes)
    before = {
        k: {n: p.clone() for n, p in getattr(algorithm, k).named_parameters()}
        for k in Fisor.modules
    }
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        metrics = algorithm.update("policy", step, dataset, generator)
    assert all(torch.isfinite(v) for v in metrics.values())
    for k, old in before.items():
        assert any(
            not torch.equal(old[n], p) for n, p in getattr(algorithm, k).named_parameters()
        ), k


def test_signs_of_h_are_checked():
    with pytest.raises(ValueError, match="expected satisfied < 0 < violated"):
        FisorConfig(satisfied=1.0)
