"""PPO checkpoints of other projects: their own file layouts, what is refused, and that the export acts like the actor."""

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from deploy.export import Args, export_run
from go2_sevpo.checkpoint import CheckpointError
from go2_sevpo.contract import ContractError
from go2_sevpo.onnx_policy import OnnxPolicy

pytestmark = pytest.mark.skipif(
    "weights_only" not in torch.load.__code__.co_varnames, reason="safe reading of .pt needs torch 1.13"
)


def actor(inputs=265):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.ELU(), nn.Linear(16, 8), nn.ELU(), nn.Linear(8, 12))


def checkpoint(path, net, key="model_state_dict", prefix="actor.", **extra):
    state = {f"{prefix}{k}": v for k, v in net.state_dict().items()}
    torch.save({key: {**state, "std": torch.full((12,), 0.5), **extra}, "iter": 100, "infos": None}, str(path))
    return path


@pytest.mark.parametrize(
    "key, prefix",
    [("model_state_dict", "actor."), ("actor_state_dict", "mlp."), ("model_state_dict", "actor.actor_backbone.")],
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
    with pytest.raises(ContractError, match="takes 48 numbers, the environment's observation has 265"):
        export_run(Args(path, tmp_path / "p.onnx", layout=layout))
    layout.write_text("{prefix: pi., activation: relu, action_unit: 1.0, contract: {observation: {size: 48}}}")
    export_run(Args(path, tmp_path / "p.onnx", layout=layout))
    obs = torch.randn(3, 48)
    policy = OnnxPolicy(tmp_path / "p.onnx")
    with torch.no_grad():
        expected = net(obs).clamp(-1, 1).numpy()
    assert np.allclose(policy.act(obs.numpy(), np.zeros((3, 1, 1, 12), np.float32))[0], expected, atol=1e-5)
    assert policy.contract["observation"] == {"size": 48}
    layout.write_text("{activations: relu}")
    with pytest.raises(CheckpointError, match="unknown key 'activations'"):
        export_run(Args(path, tmp_path / "p.onnx", layout=layout))


class Malicious:
    def __reduce__(self):
        return print, ("executed",)


def test_files_that_are_refused(tmp_path, capsys):
    encoders = {"actor.scan_encoder.0.weight": torch.zeros(2, 2)}
    with pytest.raises(CheckpointError, match=r"encoders \(actor.scan_encoder\)"):
        export_run(Args(checkpoint(tmp_path / "a.pt", actor(), **encoders), tmp_path / "p.onnx"))
    torch.save({"optimizer": {}}, str(tmp_path / "b.pt"))
    with pytest.raises(CheckpointError, match="has no actor at .*its keys are optimizer"):
        export_run(Args(tmp_path / "b.pt", tmp_path / "p.onnx"))
    torch.save({"model_state_dict": Malicious()}, str(tmp_path / "c.pt"))
    with pytest.raises(CheckpointError, match="is not a checkpoint of weights alone"):
        export_run(Args(tmp_path / "c.pt", tmp_path / "p.onnx"))
    assert "executed" not in capsys.readouterr().out
    assert not list(tmp_path.glob("*.onnx"))
