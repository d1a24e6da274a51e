"""CCAC: budgets from the data, the push on generated pairs, and a policy that feels what it has
spent.
"""

import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.data.shards import Episodes
from go2_sevpo.deploy.export.cli import Args, export_run
from go2_sevpo.policies.contract import ContractError
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.policies.torch_policy import load_policy, save_policy

SMALL = {
    "hidden": (32, 32),
    "vae_hidden": 32,
    "latent": 4,
    "batch": 128,
    "vae_steps": 400,
    "steps": 800,
    "rate": 3e-3,
    "actor_rate": 3e-3,
    "horizon": 10,
    "weight_hidden": 16,
}


def make(dataset, members=None, **changes):
    torch.manual_seed(0)
    return make_algorithm("ccac", make_config("ccac", {**SMALL, **changes}), dataset, members)


def spenders(n=400, length=10):
    """Ten steps in one state: action +0.5 earns 1 and costs 1, action -0.5 earns 0.5 and is free;
    each episode has its own share.
    """
    rng = np.random.default_rng(0)
    dear = rng.random((n, length)) < np.linspace(0, 1, n)[:, None]
    rows = n * length
    zeros = np.zeros((rows, 3), np.float32)
    end = np.tile(np.arange(length) == length - 1, n).astype(np.float32)
    flat = dear.reshape(-1)
    columns = {
        "observations": zeros,
        "next_observations": zeros,
        "actions": (np.where(flat, 0.5, -0.5)[:, None] + 0.05 * rng.normal(size=(rows, 1))).astype(
            np.float32
        ),
        "rewards": np.where(flat, 1.0, 0.5).astype(np.float32),
        "costs": flat.astype(np.float32),
        "terminals": end,
        "timeouts": 0 * end,
    }
    table = {
        "length": np.full(n, length),
        "return": columns["rewards"].reshape(n, -1).sum(1),
        "cost": dear.sum(1).astype(np.float32),
        "success": np.ones(n, bool),
        "fall": np.zeros(n, bool),
    }
    return OfflineDataset([Episodes(columns, table)])


def test_cost_to_go_is_the_rest_of_the_episode():
    data = spenders(5, 4)
    cost = data.cost.reshape(5, 4)
    expected = torch.flip(torch.cumsum(torch.flip(cost, [1]), 1), [1])
    assert torch.equal(data.cost_to_go.reshape(5, 4), expected)


def trained(data, **changes):
    algorithm = make(data, **changes)
    generator = torch.Generator().manual_seed(0)
    for stage in algorithm.stages:
        for step in range(algorithm.steps(stage)):
            metrics = algorithm.update(stage, step, data, generator)
            if stage == "vae":
                last_vae = metrics
    return algorithm, last_vae, metrics


@pytest.mark.slow
def test_policy_earns_while_its_budget_lasts_and_saves_when_it_is_spent():
    data = spenders()
    algorithm, vae, metrics = trained(data, episode_limit=5.0)
    assert vae["class_right"] > 0.75, (
        "the classifier must tell which pairs are dearer than a budget"
    )
    assert metrics["dear_share"] > 0.05, (
        "generated pairs must include some that a budget does not allow"
    )
    policy = algorithm.policy()
    obs, noise = torch.zeros(2, 3), torch.zeros(2, 1, 1, 1)
    with torch.no_grad():
        action, left, _ = policy(obs, noise, torch.tensor([0.0, 5.0]))
    assert left.tolist() == [5.0, 0.0]
    assert action[1] < action[0] - 0.2, "nothing left to spend must mean a cheaper action"


def test_generated_pairs_that_are_too_dear_are_pushed_up_to_their_budget():
    data = spenders()
    algorithm = make(data)
    kappa, reference = torch.full((64,), 8.0), torch.full((64,), 2.0)
    before = algorithm.weight(0, reference).mean()
    # The classifier calls all dear; the cost critic says nothing costs anything.
    for module, value in ((algorithm.classifier.net[-1], 5.0), (algorithm.q_c.layers[-1], -5.0)):
        module.weight.data.zero_()
        module.bias.data.fill_(value)
    batch = data.sample((64,), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    first = algorithm.generated_gap(kappa, reference, generator)[0].mean()
    assert first < 0
    for _ in range(60):
        algorithm.update_critics(batch, kappa, reference, generator)
    assert algorithm.generated_gap(kappa, reference, generator)[0].mean() > first + 0.05
    assert algorithm.weight(0, reference).mean() > before


def test_members_do_not_feel_each_other(dataset):
    algorithm = make(dataset, members=2, vae_steps=2, steps=2)
    generator = torch.Generator().manual_seed(0)
    for stage in algorithm.stages:
        for step in range(2):
            algorithm.update(stage, step, dataset, generator)
    assert algorithm.policy(member=1)(torch.zeros(3, 4), torch.zeros(3, 1, 1, 2), torch.zeros(3))[
        0
    ].shape == (3, 2)


def test_saved_loaded_and_exported_with_its_third_input(dataset, tmp_path):
    policy = make(dataset).policy()
    save_policy(tmp_path / "p.safetensors", policy, dataset.frames[:16], {"algorithm": "ccac"})
    again = load_policy(tmp_path / "p.safetensors")[0]
    obs, noise, spent = torch.randn(5, 4), torch.zeros(5, 1, 1, 2), torch.arange(5.0)
    with torch.no_grad():
        expected = policy(obs, noise, spent)[0]
        assert torch.equal(again(obs, noise, spent)[0], expected)
    export_run(Args(tmp_path / "p.safetensors", tmp_path / "p.onnx"))
    session = OnnxPolicy(tmp_path / "p.onnx")
    found = session.act(obs.numpy(), noise.numpy(), spent.numpy())[0]
    assert np.abs(found - expected.numpy()).max() < 1e-5
    with pytest.raises(ContractError, match="cost so far"):
        session.act(obs.numpy(), noise.numpy())
    export_run(Args(tmp_path / "p.safetensors", tmp_path / "q.onnx", budget=3.0))
    other = OnnxPolicy(tmp_path / "q.onnx")
    assert other.contract["sampler"]["cost_budget"] == 3.0
    assert other.act(obs.numpy(), noise.numpy(), spent.numpy())[1].tolist() == [
        3.0,
        2.0,
        1.0,
        0.0,
        0.0,
    ]


def test_a_budget_is_refused_where_there_is_none(dataset, tmp_path):
    policy = make_algorithm("bc", make_config("bc", {"width": 8, "depth": 2}), dataset).policy()
    save_policy(tmp_path / "p.safetensors", policy, dataset.frames[:16], {"algorithm": "bc"})
    with pytest.raises(ContractError, match="budget 3 for a bc policy"):
        export_run(Args(tmp_path / "p.safetensors", tmp_path / "p.onnx", budget=3.0))
