import json

import numpy as np
import onnx
import pytest
import torch

from go2_sevpo.deploy.export import cli as export
from go2_sevpo.deploy.export.cli import Args, export_run, write_onnx
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.policies.contract import CONTRACT_KEY, ContractError, check_contract
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.policies.torch_policy import load_policy, save_policy
from go2_sevpo.runs.checkpoint import CheckpointError
from tests.conftest import contract_of, diffusion_policy


@pytest.mark.parametrize(
    "choice", ["first", "first_safe", "escape", "argmin_cost", "argmax_reward"]
)
@pytest.mark.parametrize("kind", ["mlp", "resnet"])
def test_exported_run_acts_like_torch_at_any_batch_and_candidates(tmp_path, choice, kind):
    policy = diffusion_policy(choice, kind)
    save_policy(
        tmp_path / "policy_last.safetensors",
        policy,
        torch.randn(300, 265),
        {"algorithm": "sevpo", "candidates": 4},
    )
    found = export_run(Args(tmp_path, tmp_path / "p.onnx"))
    assert found["action"] <= 1e-5
    assert found["cost_value"] <= 1e-5
    session = OnnxPolicy(tmp_path / "p.onnx")
    assert session.candidates == (1 if choice == "first" else 4)
    obs = torch.randn(9, 265)
    for n in (1, 3, 16):
        session.candidates = n
        noise = torch.randn(session.noise_shape(9))
        with torch.no_grad():
            action, value, candidate = policy(obs, noise)
        got = session.act(obs.numpy(), noise.numpy())
        assert np.array_equal(got[2], candidate.numpy())
        assert np.allclose(got[0], action.numpy(), atol=1e-5)
        assert np.allclose(got[1], value.numpy(), atol=1e-5)
        assert candidate.max() < (
            n * 6 if choice == "escape" else n
        )  # uniform actions follow: T = 5 per candidate


def test_argmin_cost_takes_the_candidate_the_critic_likes_best():
    policy = diffusion_policy("argmin_cost")
    obs, noise = torch.randn(5, 265), torch.randn(5, 8, 5, 12)
    with torch.no_grad():
        action, _, candidate = policy(obs, noise)
        each = torch.stack([policy(obs, noise[:, k : k + 1])[0] for k in range(8)], dim=1)
        cost = torch.stack([policy.cost_critic(obs, each[:, k]).amax(0) for k in range(8)], dim=1)
    assert torch.equal(candidate, cost.argmin(1))
    assert torch.allclose(action, each[torch.arange(5), candidate], atol=1e-6)


@pytest.mark.parametrize("with_reward_critic", [True, False])
def test_first_safe_takes_the_first_candidate_within_the_limit_or_else_the_least_cost(
    with_reward_critic,
):
    policy = diffusion_policy("first_safe")
    if not with_reward_critic:
        policy.reward_critic = None
    obs, noise = (
        torch.zeros(60, 265),
        torch.randn(60, 6, 5, 12),
    )  # one state: costs differ by the action alone
    with torch.no_grad():
        each = torch.stack([policy(obs, noise[:, k : k + 1])[0] for k in range(6)], dim=1)
        cost = torch.stack([policy.cost_critic(obs, each[:, k]).amax(0) for k in range(6)], dim=1)
        policy.limit = float(cost.quantile(0.15))
        candidate = policy(obs, noise)[2]
    safe = [[k for k in range(6) if c[k] <= policy.limit] for c in cost.tolist()]
    assert {bool(k) for k in safe} == {True, False} and any(k and k[0] > 0 for k in safe)
    assert candidate.tolist() == [k[0] if k else int(c.argmin()) for k, c in zip(safe, cost)]


def test_escape_is_first_safe_with_uniform_actions_where_no_candidate_is_within_the_limit():
    policy = diffusion_policy("escape")
    obs, noise = torch.zeros(60, 265), torch.randn(60, 6, 5, 12)
    uniform = 2.0 * torch.distributions.Normal(0.0, 1.0).cdf(noise.reshape(60, 30, 12)) - 1.0
    with torch.no_grad():
        policy.choice = "first"
        own = torch.stack([policy(obs, noise[:, k : k + 1])[0] for k in range(6)], dim=1)
        policy.choice = "escape"
        every = torch.cat([own, uniform], dim=1)
        cost = torch.stack([policy.cost_critic(obs, every[:, k]).amax(0) for k in range(36)], dim=1)
        policy.limit = float(cost[:, :6].quantile(0.15))
        action, _, candidate = policy(obs, noise)
    safe = [[k for k in range(6) if c[k] <= policy.limit] for c in cost.tolist()]
    assert candidate.tolist() == [k[0] if k else int(c.argmin()) for k, c in zip(safe, cost)]
    assert (candidate < 6).any() and (candidate >= 6).any()
    assert torch.allclose(action, every[torch.arange(60), candidate], atol=1e-5)


def test_a_limit_of_the_export_replaces_the_runs(tmp_path):
    save_policy(
        tmp_path / "p.safetensors",
        diffusion_policy("first"),
        torch.randn(300, 265),
        {"algorithm": "sevpo"},
    )
    out = tmp_path / "p.onnx"
    export_run(Args(tmp_path / "p.safetensors", out, choice="escape", candidates=4, limit=-1e9))
    session = OnnxPolicy(out)
    assert session.contract["sampler"]["limit"] == -1e9
    never = session.act(
        np.zeros((50, 265), np.float32),
        np.random.default_rng(0).normal(size=(50, 4, 5, 12)).astype(np.float32),
    )[2]
    assert (never >= 4).any(), "no candidate is within that limit"
    export_run(Args(tmp_path / "p.safetensors", out, choice="escape", candidates=4, limit=1e9))
    assert (
        not OnnxPolicy(out)
        .act(np.zeros((5, 265), np.float32), np.ones((5, 4, 5, 12), np.float32))[2]
        .any()
    )
    with pytest.raises(
        ContractError,
        match="limit 1 for choice first, expected one of first_safe, escape, argmax_reward",
    ):
        export_run(Args(tmp_path / "p.safetensors", out, limit=1.0))


def test_file_is_single_and_carries_the_full_contract(gaussian_onnx):
    model = onnx.load(str(gaussian_onnx), load_external_data=False)
    assert not any(t.external_data for t in model.graph.initializer)
    assert list(gaussian_onnx.parent.iterdir()) == [gaussian_onnx]
    contract = json.loads({p.key: p.value for p in model.metadata_props}[CONTRACT_KEY])
    expected = json.loads(json.dumps(environment_contract()))
    assert {k: contract[k] for k in expected} == expected


def test_saved_policy_file_restores_exactly(tmp_path):
    policy = diffusion_policy("argmax_reward")
    save_policy(tmp_path / "p.safetensors", policy, torch.randn(3, 265), {"algorithm": "sevpo"})
    again, observations, info = load_policy(tmp_path / "p.safetensors")
    obs, noise = torch.randn(4, 265), torch.randn(4, 3, 5, 12)
    with torch.no_grad():
        assert torch.equal(policy(obs, noise)[0], again(obs, noise)[0])
    assert observations.shape == (3, 265)
    assert info["algorithm"] == "sevpo"
    assert again.describe() == policy.describe()


def test_failed_parity_leaves_no_file_under_the_final_name(tmp_path, monkeypatch):
    policy = diffusion_policy()
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    monkeypatch.setattr(export, "parity", lambda *_: {"action": 1e-3, "cost_value": 0.0})
    with pytest.raises(ContractError, match=r"differ by 1.00e-03"):
        write_onnx(policy, contract_of(policy, 4), torch.randn(64, 265), tmp_path / "p.onnx")
    assert not (tmp_path / "p.onnx").exists()


def test_parity_notices_a_changed_weight(tmp_path):
    policy = diffusion_policy()
    write_onnx(policy, contract_of(policy, 4), torch.randn(64, 265), tmp_path / "p.onnx")
    with torch.no_grad():
        policy.diffusion.denoiser.out.bias += 0.05
    assert (
        export.parity(policy, OnnxPolicy(tmp_path / "p.onnx", candidates=1), torch.randn(64, 265))[
            "action"
        ]
        > 1e-3
    )


def test_contract_mismatch_names_the_field_and_both_values():
    found = json.loads(json.dumps({**environment_contract(), "control_dt": 0.01}))
    with pytest.raises(
        ContractError,
        match=r"policy x does not fit: field 'control_dt' is 0.01, the environment has 0.02",
    ):
        check_contract(found, environment_contract(), "policy x")
    found = json.loads(json.dumps(environment_contract()))
    found["joint_names"][3] = "FL_hip_joint"
    with pytest.raises(ContractError, match=r"joint_names\[3\]"):
        check_contract(found, environment_contract(), "p")
    found = json.loads(json.dumps(environment_contract()))
    found["observation"]["fields"][1]["scale"] = 2.0
    with pytest.raises(ContractError, match=r"observation.fields\[1\].scale"):
        check_contract(found, environment_contract(), "p")


def test_files_that_are_no_policies_are_refused(tmp_path):
    with pytest.raises(ContractError, match="no policy 'nothing'"):
        find_policy("nothing")
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    with pytest.raises(ContractError, match="not an ONNX file"):
        OnnxPolicy(tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        export_run(Args(tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nothing_follows_from_an_observation_that_is_not_finite(gaussian_onnx, bad):
    policy = OnnxPolicy(gaussian_onnx)
    obs = np.zeros((3, 265), np.float32)
    obs[1, 100] = bad
    action, value, _ = policy.act(obs, np.zeros(policy.noise_shape(3), np.float32))
    assert np.array_equal(action[1], np.zeros(12)) and value[1] == np.inf
    assert np.abs(action[[0, 2]]).min() > 0 and np.isfinite(value[[0, 2]]).all()
    assert (policy.bad_observations, policy.non_finite) == (1, 0)
    assert obs[1, 100] == bad or np.isnan(bad)  # the caller's stay as they are


def test_acting_noise_is_a_row_of_the_noise_input_and_agrees_with_torch(tmp_path):
    policy = diffusion_policy("first_safe")
    policy.lost_noise = torch.linspace(0.05, 0.3, 12)
    assert policy.sampler["steps"] == 5
    save_policy(
        tmp_path / "policy_last.safetensors",
        policy,
        torch.randn(64, 265),
        {"algorithm": "sevpo", "candidates": 4},
    )
    found = export_run(Args(tmp_path, tmp_path / "p.onnx", acting_noise=0.75))
    assert found["action"] <= 1e-5
    session = OnnxPolicy(tmp_path / "p.onnx")
    assert session.noise_shape(3) == (3, 4, 6, 12)
    assert session.contract["sampler"]["acting_noise"] == 0.75
    obs, noise = torch.randn(7, 265), torch.randn(7, 4, 6, 12)
    quiet = noise.clone()
    quiet[:, :, 5] = 0.0
    loud = session.act(obs.numpy(), noise.numpy())[0]
    centre = session.act(obs.numpy(), quiet.numpy())[0]
    with torch.no_grad():
        plain, _, _ = policy(obs, noise[:, :, :5])  # without the option
    assert np.allclose(centre, plain.numpy(), atol=1e-5)
    spread = 0.75 * policy.lost_noise.numpy() * noise[:, 0, 5].numpy()
    assert np.allclose(loud, np.clip(centre + spread, -1.0, 1.0), atol=1e-5)
    again = load_policy(tmp_path / "policy_last.safetensors")[0]
    assert torch.equal(again.lost_noise, policy.lost_noise) and again.acting_noise == 0.0


def test_acting_noise_needs_its_measure(tmp_path):
    save_policy(
        tmp_path / "policy_last.safetensors",
        diffusion_policy("first"),
        torch.randn(8, 265),
        {"algorithm": "fisor"},
    )
    with pytest.raises(ContractError, match="acting noise 1 for a fisor policy"):
        export_run(Args(tmp_path, tmp_path / "p.onnx", acting_noise=1.0))
