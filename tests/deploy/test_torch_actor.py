"""PPO checkpoints of other projects: their own file layouts, what is refused, and that the export
acts like the actor.
"""

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from go2_sevpo.deploy.export.cli import Args, export_run
from go2_sevpo.policies.contract import ContractError
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.runs.checkpoint import CheckpointError

pytestmark = pytest.mark.skipif(
    "weights_only" not in torch.load.__code__.co_varnames,
    reason="safe reading of .pt needs torch 1.13",
)


def actor(inputs=265):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(inputs, 16), nn.ELU(), nn.Linear(16, 8), nn.ELU(), nn.Linear(8, 12)
    )


def checkpoint(path, net, key="model_state_dict", prefix="actor.", **extra):
    state = {f"{prefix}{k}": v for k, v in net.state_dict().items()}
    torch.save(
        {key: {**state, "std": torch.full((12,), 0.5), **extra}, "iter": 100, "infos": None},
        str(path),
    )
    return path


@pytest.mark.parametrize(
    "key, prefix",
    [
        ("model_state_dict", "actor."),
        ("actor_state_dict", "mlp."),
        ("model_state_dict", "actor.actor_backbone."),
    ],
)
def test_known_files_act_like_their_actor(tmp_path, key, prefix):
    net = actor()
    path = checkpoint(tmp_path / "model_1500.pt", net, key, prefix)
    export_run(Args(path, tmp_path / "p.onnx"))
    obs = torch.randn(5, 265)
    found = OnnxPolicy(tmp_path / "p.onnx").act(obs.numpy(), np.zeros((5, 1, 1, 12), np.float32))[0]
    with torch.no_grad():
        assert np.allclose(found, (0.25 * net(obs)).clamp(-1, 1).numpy(), atol=1e-5)
    assert yaml.safe_load((tmp_path / "p.yaml").read_text())["num_obs"] == 265


def test_layout_says_what_weights_mean(tmp_path):
    net = nn.Sequential(nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 12))
    path = checkpoint(tmp_path / "model_1.pt", net, prefix="pi.")
    layout = tmp_path / "layout.yaml"
    layout.write_text("{prefix: pi., activation: relu, action_unit: 1.0}")
    with pytest.raises(
        ContractError, match="takes 48 numbers, the environment's observation has 265"
    ):
        export_run(Args(path, tmp_path / "p.onnx", layout=layout))
    layout.write_text(
        "{prefix: pi., activation: relu, action_unit: 1.0, contract: {observation: {size: 48}}}"
    )
    export_run(Args(path, tmp_path / "p.onnx", layout=layout))
    obs = torch.randn(3, 48)
    policy = OnnxPolicy(tmp_path / "p.onnx")
    with torch.no_grad():
        expected = net(obs).clamp(-1, 1).numpy()
    assert np.allclose(
        policy.act(obs.numpy(), np.zeros((3, 1, 1, 12), np.float32))[0], expected, atol=1e-5
    )
    assert policy.contract["observation"] == {"size": 48}
    layout.write_text("{activations: relu}")
    with pytest.raises(CheckpointError, match="unknown key 'activations'"):
        export_run(Args(path, tmp_path / "p.onnx", layout=layout))


class Malicious:
    def __reduce__(self):
        return print, ("executed",)


def test_files_that_are_refused(tmp_path, capsys):
    encoders = {"actor.depth_encoder.0.weight": torch.zeros(2, 2)}
    with pytest.raises(
        CheckpointError, match=r"encoders \(depth_encoder\), only extreme-parkour's"
    ):
        export_run(Args(checkpoint(tmp_path / "a.pt", actor(), **encoders), tmp_path / "p.onnx"))
    torch.save({"optimizer": {}}, str(tmp_path / "b.pt"))
    with pytest.raises(CheckpointError, match="has no actor at .*its keys are optimizer"):
        export_run(Args(tmp_path / "b.pt", tmp_path / "p.onnx"))
    torch.save({"model_state_dict": Malicious()}, str(tmp_path / "c.pt"))
    with pytest.raises(CheckpointError, match="is not a checkpoint of weights alone"):
        export_run(Args(tmp_path / "c.pt", tmp_path / "p.onnx"))
    assert "executed" not in capsys.readouterr().out
    assert not list(tmp_path.glob("*.onnx"))


PROPRIO, SCAN, EXPLICIT, PRIVILEGED, STEPS, LATENT = 7, 9, 3, 5, 10, 6


def parkour_state(scan=True):
    """Random weights under the names and in the shapes of an extreme-parkour run (history of 10,
    channels of 10).
    """
    torch.manual_seed(1)
    modules = {
        "priv_encoder.0": nn.Linear(PRIVILEGED, 8),
        "priv_encoder.2": nn.Linear(8, LATENT),
        "history_encoder.encoder.0": nn.Linear(PROPRIO, 30),
        "history_encoder.conv_layers.0": nn.Conv1d(30, 20, 4, 2),
        "history_encoder.conv_layers.2": nn.Conv1d(20, 10, 2, 1),
        "history_encoder.linear_output.0": nn.Linear(30, LATENT),
        "actor_backbone.0": nn.Linear(PROPRIO + (4 if scan else SCAN) + EXPLICIT + LATENT, 16),
        "actor_backbone.2": nn.Linear(16, 12),
    }
    if scan:
        modules.update({"scan_encoder.0": nn.Linear(SCAN, 8), "scan_encoder.2": nn.Linear(8, 4)})
    estimator = {"estimator.0": nn.Linear(PROPRIO, 8), "estimator.2": nn.Linear(8, EXPLICIT)}
    weights = {f"actor.{n}.{k}": v for n, m in modules.items() for k, v in m.state_dict().items()}
    weights.update({"std": torch.full((12,), 0.5), "critic.0.weight": torch.zeros(3, 3)})
    estimated = {f"{n}.{k}": v for n, m in estimator.items() for k, v in m.state_dict().items()}
    return {
        "model_state_dict": weights,
        "estimator_state_dict": estimated,
        "iter": 3,
        "infos": None,
    }


def parkour_action(state, obs, privileged=False, estimator=True):
    """The same actor written out with functions alone, one history step at a time."""
    w, e, f = state["model_state_dict"], state["estimator_state_dict"], torch.nn.functional

    def lin(x, name, weights=w, root="actor."):
        return x @ weights[f"{root}{name}.weight"].T + weights[f"{root}{name}.bias"]

    def conv(steps, name, stride):
        weight, bias = w[f"actor.{name}.weight"], w[f"actor.{name}.bias"]
        width = weight.shape[2]
        return [
            sum(steps[t + k] @ weight[:, :, k].T for k in range(width)) + bias
            for t in range(0, len(steps) - width + 1, stride)
        ]

    proprio, scan, explicit, priv, history = obs.split(
        [PROPRIO, SCAN, EXPLICIT, PRIVILEGED, STEPS * PROPRIO], 1
    )
    if "actor.scan_encoder.0.weight" in w:
        scan = torch.tanh(lin(f.elu(lin(scan, "scan_encoder.0")), "scan_encoder.2"))
    if estimator:
        explicit = lin(f.elu(lin(proprio, "estimator.0", e, "")), "estimator.2", e, "")
    steps = [f.elu(lin(s, "history_encoder.encoder.0")) for s in history.split(PROPRIO, 1)]
    steps = [f.elu(s) for s in conv(steps, "history_encoder.conv_layers.0", 2)]
    steps = [f.elu(s) for s in conv(steps, "history_encoder.conv_layers.2", 1)]
    flat = torch.stack(steps, 2).flatten(1)
    latent = f.elu(lin(flat, "history_encoder.linear_output.0"))
    if privileged:
        latent = f.elu(lin(f.elu(lin(priv, "priv_encoder.0")), "priv_encoder.2"))
    return lin(
        f.elu(lin(torch.cat([proprio, scan, explicit, latent], 1), "actor_backbone.0")),
        "actor_backbone.2",
    )


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("latent, estimator", [("history", True), ("privileged", False)])
def test_extreme_parkour_actor(tmp_path, scan, latent, estimator):
    state = parkour_state(scan)
    torch.save(state, str(tmp_path / "model_3.pt"))
    size = PROPRIO + SCAN + EXPLICIT + PRIVILEGED + STEPS * PROPRIO
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        yaml.safe_dump(
            {
                "latent": latent,
                "estimator": estimator,
                "action_unit": 1.0,
                "contract": {"observation": {"size": size}},
            }
        )
    )
    export_run(Args(tmp_path / "model_3.pt", tmp_path / "p.onnx", layout=layout))
    obs = torch.randn(6, size)
    found = OnnxPolicy(tmp_path / "p.onnx").act(obs.numpy(), np.zeros((6, 1, 1, 12), np.float32))[0]
    expected = parkour_action(state, obs, latent == "privileged", estimator).clamp(-1, 1)
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_extreme_parkour_layouts_that_do_not_fit(tmp_path):
    state = parkour_state()
    del state["estimator_state_dict"]
    torch.save(state, str(tmp_path / "model_3.pt"))
    with pytest.raises(CheckpointError, match="has no estimator_state_dict"):
        export_run(Args(tmp_path / "model_3.pt", tmp_path / "p.onnx"))
    layout = tmp_path / "layout.yaml"
    layout.write_text("latent: teacher")
    with pytest.raises(
        CheckpointError, match="latent is 'teacher' .* expected history or privileged"
    ):
        export_run(Args(tmp_path / "model_3.pt", tmp_path / "p.onnx", layout=layout))
