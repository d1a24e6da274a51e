"""Checkpoints that other libraries wrote, held to those libraries' own inference.

``checkpoints/record.py`` ran each library and recorded what its own policy answered.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import nn

from go2_sevpo.deploy.export.cli import Args, export_run
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.runs.checkpoint import CheckpointError
from tests.deploy.checkpoints.record import CASES

pytestmark = pytest.mark.skipif(
    "weights_only" not in torch.load.__code__.co_varnames,
    reason="safe reading of .pt needs torch 1.13",
)
FILES = Path(__file__).parent / "checkpoints"
OWN = {"contract": {"observation": {"size": 5}, "action_clip": 5.0}, "action_unit": 1.0}
SPECIAL = {
    "rsl_rl_1.0.2_plain": {"activation": "selu"},
    "rsl_rl_2.3.3_plain": {"activation": "tanh"},
    "rsl_rl_3.3.0_spread": {"distribution": "state_dependent_std"},
    "rsl_rl_5.4.2_spread": {"distribution": "state_dependent_std"},
    "rsl_rl_5.4.2_beta": {"distribution": "beta", "action_range": [-2.0, 1.0]},
}
RECORDED = sorted(p.stem for p in FILES.glob("*.json"))
RECURRENT = sorted(p.stem for p in FILES.glob("*recurrent.pt"))


def export(tmp_path, source, **layout):
    (tmp_path / "layout.yaml").write_text(yaml.safe_dump({**OWN, **layout}))
    out = tmp_path / "p.onnx"
    export_run(Args(Path(source), out, layout=tmp_path / "layout.yaml"))
    return OnnxPolicy(out)


def played(policy, observations):
    noise = np.zeros(policy.noise_shape(len(observations)), np.float32)
    return policy.act(np.asarray(observations, np.float32), noise)[0]


def checkpoint(name):
    return torch.load(str(FILES / f"{name}.pt"), weights_only=True)


def test_every_case_is_recorded():
    names = {f"rsl_rl_{version}_{case}" for version, cases in CASES.items() for case in cases}
    assert {p.stem for p in FILES.glob("*.pt")} == names
    assert set(RECORDED) | set(RECURRENT) == names and len(RECURRENT) == 4


@pytest.mark.parametrize("name", RECORDED)
def test_the_exported_file_acts_as_the_library_that_wrote_the_checkpoint(tmp_path, name):
    held = json.loads((FILES / f"{name}.json").read_text())
    expected = np.array(held["actions"])
    assert np.abs(expected).max() < 5.0, "else the clip would hide differences"
    policy = export(tmp_path, FILES / f"{name}.pt", **SPECIAL.get(name, {}))
    assert np.abs(played(policy, held["observations"]) - expected).max() <= 1e-5
    assert policy.session.get_inputs()[0].shape[1] == 5 and policy.num_actions == 12


def test_a_run_of_mjlab_acts_as_in_mjlab(tmp_path):
    """Its activation, its normaliser and its limit of actions come from the run's own folder."""
    run = FILES / "mjlab_1.6.0"
    held = json.loads((run / "expected.json").read_text())
    export_run(Args(run / "model_1.pt", tmp_path / "p.onnx"))
    expected = 0.25 * np.array(held["actions"]).clip(-4.0, 4.0)
    policy = OnnxPolicy(tmp_path / "p.onnx")
    found = played(policy, held["observations"])
    assert np.abs(found - expected).max() <= 1e-5 and np.abs(expected).max() > 0.01
    assert policy.contract["provenance"]["layout"]["activation"] == "tanh"
    (tmp_path / "alone.pt").write_bytes((run / "model_1.pt").read_bytes())
    export_run(Args(tmp_path / "alone.pt", tmp_path / "p.onnx"))
    found = played(OnnxPolicy(tmp_path / "p.onnx"), held["observations"])
    assert np.abs(found - expected).max() > 1e-3, "without its folder it is taken to be elu"


@pytest.mark.parametrize("name", [n for n in RECORDED if n.endswith("normalised")])
def test_without_its_normaliser_the_actor_would_act_otherwise(tmp_path, name):
    """The recorded observations are such that the comparison notices."""
    whole = checkpoint(name)
    whole.pop("obs_norm_state_dict", None)
    for part in whole.values():
        if isinstance(part, dict):
            for key in [k for k in part if "obs_normalizer" in str(k)]:
                del part[key]
    torch.save(whole, str(tmp_path / "bare.pt"))
    held = json.loads((FILES / f"{name}.json").read_text())
    policy = export(tmp_path, tmp_path / "bare.pt")
    assert np.abs(played(policy, held["observations"]) - np.array(held["actions"])).max() > 0.1
    with_epsilon = export(tmp_path, FILES / f"{name}.pt", normalizer_epsilon=0.0)
    other = played(with_epsilon, held["observations"])
    assert np.abs(other - np.array(held["actions"])).max() > 1e-4


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_actors_are_refused_by_name(tmp_path, name):
    with pytest.raises(
        CheckpointError,
        match=r"the actor is recurrent \((memory_a\.rnn|rnn\.rnn)\.bias_hh_l0, .*\), "
        "only feed-forward actors are understood$",
    ):
        export(tmp_path, FILES / f"{name}.pt")
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize("name", [n for n in RECORDED if n.endswith(("spread", "beta"))])
def test_outputs_of_unknown_meaning_are_refused_and_asked_for(tmp_path, name):
    with pytest.raises(
        CheckpointError,
        match="has no standard deviation, so what the actor's 24 outputs are is not known: "
        "say distribution: gaussian, state_dependent_std or beta in the layout$",
    ):
        export(tmp_path, FILES / f"{name}.pt")


def test_the_noise_of_a_normalised_actor_is_the_librarys(tmp_path):
    """std in units of the network's output, from a logarithm (2.3.3, 5.4.2) or as it is (3.3.0)."""
    for name, container, key in (
        ("rsl_rl_2.3.3_normalised", "model_state_dict", "log_std"),
        ("rsl_rl_3.3.0_normalised", "model_state_dict", "std"),
        ("rsl_rl_5.4.2_normalised", "actor_state_dict", "distribution.log_std_param"),
    ):
        std = checkpoint(name)[container][key]
        std = std.exp() if "log" in key else std
        policy = export(tmp_path, FILES / f"{name}.pt")
        observation = np.zeros((1, 5), np.float32)
        noisy = policy.act(observation, np.full((1, 1, 1, 12), 0.5, np.float32))[0]
        step = noisy - played(policy, observation)
        assert np.allclose(step[0], 0.5 * std.numpy(), atol=1e-5)


def changed(tmp_path, name, change):
    whole = checkpoint(name)
    change(whole)
    torch.save(whole, str(tmp_path / "changed.pt"))
    return tmp_path / "changed.pt"


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "rsl_rl_3.3.0_normalised",
            lambda w: w["model_state_dict"].update({"actor_cnns.depth.0.weight": torch.ones(1)}),
            r"perhaps part of the actor: actor_cnns\.depth\.0\.weight; name what does not act",
        ),
        (
            "rsl_rl_5.4.2_normalised",
            lambda w: w["actor_state_dict"].update({"cnns.scan.0.weight": torch.ones(1)}),
            r"perhaps part of the actor: cnns\.scan\.0\.weight; name",
        ),
        (
            "rsl_rl_1.0.2_plain",
            lambda w: w.update({"depth_encoder_state_dict": {"a.weight": torch.ones(1)}}),
            r"perhaps part of the actor: depth_encoder_state_dict; name",
        ),
        (
            "rsl_rl_2.3.3_normalised",
            lambda w: w.update({"obs_norm_state_dict": {"emp_norm._std": torch.ones(5)}}),
            r"normaliser obs_norm_state_dict/ has emp_norm\._std, expected those of rsl_rl's "
            "EmpiricalNormalization: _mean, _var, _std, count",
        ),
        (
            "rsl_rl_2.3.3_normalised",
            lambda w: w["obs_norm_state_dict"].update(_mean=torch.zeros(1, 6)),
            "obs_norm_state_dict/_mean has 6 numbers, the actor takes 5",
        ),
        (
            "rsl_rl_3.3.0_normalised",
            lambda w: w.update(obs_norm_state_dict={"_mean": torch.zeros(5)}),
            r"has obs_norm_state_dict and actor_obs_normalizer\.\*, expected one of them",
        ),
        (
            "rsl_rl_3.3.0_normalised",
            lambda w: w["model_state_dict"].update({"log_std": torch.zeros(12)}),
            "has std and log_std, expected one of them",
        ),
        (
            "rsl_rl_1.0.2_plain",
            lambda w: w["model_state_dict"].update({"std": torch.zeros(6)}),
            r"the standard deviation has shape \(6,\), the actor gives 12 numbers",
        ),
        (
            "rsl_rl_1.0.2_plain",
            lambda w: w["model_state_dict"].update({"actor.1.weight": torch.ones(8)}),
            r"actor\.1\.weight has shape \(8,\), expected linear layers with a bias alone",
        ),
        (
            "rsl_rl_1.0.2_plain",
            lambda w: [
                w["model_state_dict"].update(
                    {f"actor.5.{k}": w["model_state_dict"].pop(f"actor.4.{k}")}
                )
                for k in ("weight", "bias")
            ],
            "the actor's linear layers are number 0, 2, 5, expected every other one from 0",
        ),
    ],
)
def test_what_may_act_and_is_not_understood_is_refused_by_name(tmp_path, name, change, message):
    path = changed(tmp_path, name, change)
    with pytest.raises(CheckpointError, match=message) as error:
        export(tmp_path, path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_what_the_layout_ignores_does_not_act(tmp_path):
    path = changed(
        tmp_path,
        "rsl_rl_1.0.2_plain",
        lambda w: [
            w["model_state_dict"].update({"adaptation.0.weight": torch.ones(2, 2)}),
            w.update({"discriminator": {"a": torch.ones(1)}}),
        ],
    )
    with pytest.raises(CheckpointError, match=r"actor: adaptation\.0\.weight, discriminator; "):
        export(tmp_path, path, activation="selu")
    policy = export(tmp_path, path, activation="selu", ignore=["adaptation.", "discriminator"])
    held = json.loads((FILES / "rsl_rl_1.0.2_plain.json").read_text())
    assert np.abs(played(policy, held["observations"]) - np.array(held["actions"])).max() <= 1e-5


@pytest.mark.parametrize(
    "content, expected",
    [
        (
            {"model": {"a2c_network.actor_mlp.0.weight": torch.ones(1)}, "epoch": 3},
            "its keys are model, epoch; it is rl_games', which is not understood$",
        ),
        (
            {"policy": {"net.0.weight": torch.ones(1)}, "observation_preprocessor": {}},
            "its keys are policy, observation_preprocessor; it is skrl's, which is not understood$",
        ),
        ({"weights": torch.ones(1)}, "has no actor at .*its keys are weights$"),
        (torch.ones(3), "holds a Tensor, expected a dictionary of states$"),
    ],
)
def test_other_libraries_files_are_named(tmp_path, content, expected):
    torch.save(content, str(tmp_path / "m.pt"))
    with pytest.raises(CheckpointError, match=expected):
        export(tmp_path, tmp_path / "m.pt")


def test_a_scripted_module_is_no_checkpoint(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "policy.pt"))
    with pytest.raises(
        CheckpointError, match="alone: it is a TorchScript module, exported already"
    ):
        export(tmp_path, tmp_path / "policy.pt")
    with zipfile.ZipFile(str(tmp_path / "sb3.pt"), "w") as archive:
        archive.writestr("policy.pth", b"")
    with pytest.raises(CheckpointError, match="alone: it is Stable-Baselines3's, which is not"):
        export(tmp_path, tmp_path / "sb3.pt")


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "logs",
            r"no checkpoint at .*logs/policy_last\.safetensors; the folder is another "
            r"library's: give .*logs/model_100\.pt itself$",
        ),
        ("empty", r"no checkpoint at .*empty/policy_last\.safetensors, expected a run folder of"),
        ("policy.onnx", r"policy\.onnx is a \.onnx file, expected a run folder of go2-train or"),
        ("agent", r"agent is a nameless file, expected a run folder"),
        ("gone.pt", r"no checkpoint at .*gone\.pt: there is no such file, expected a run folder"),
        ("gone", r"no checkpoint at .*gone/policy_last\.safetensors, expected a run folder of"),
    ],
)
def test_what_is_no_run_is_named_with_what_is_supported(tmp_path, name, message):
    for folder in ("logs", "empty"):
        (tmp_path / folder).mkdir()
    for model in ("model_5.pt", "model_100.pt", "model_last.pt"):
        (tmp_path / "logs" / model).write_bytes(b"")
    for file in ("policy.onnx", "agent"):
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(CheckpointError, match=message) as error:
        export_run(Args(tmp_path / name, tmp_path / "p.onnx"))
    assert "\n" not in str(error.value)


def run_folder(tmp_path, name, agent):
    """A run as Isaac Lab and mjlab lay it out: the configuration beside the checkpoint."""
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "agent.yaml").write_text(agent)
    path = tmp_path / "model_2.pt"
    path.write_bytes((FILES / f"{name}.pt").read_bytes())
    return path


@pytest.mark.parametrize(
    "name, agent",
    [
        (
            "rsl_rl_5.4.2_beta",
            {
                "actor": {
                    "activation": "elu",
                    "hidden_dims": (8, 6),
                    "distribution_cfg": {
                        "class_name": "rsl_rl.modules.distribution.BetaDistribution",
                        "action_range": (-2.0, 1.0),
                    },
                },
                "clip_actions": None,
            },
        ),
        ("rsl_rl_3.3.0_spread", {"policy": {"state_dependent_std": True, "activation": "elu"}}),
        ("rsl_rl_2.3.3_plain", {"policy": {"activation": "tanh"}, "seed": 3}),
        (
            "rsl_rl_5.4.2_spread",
            {
                "actor": {
                    "distribution_cfg": {"class_name": "HeteroscedasticGaussianDistribution"}
                },
                "clip_actions": 100.0,
            },
        ),
    ],
)
def test_what_the_run_wrote_about_itself_is_read(tmp_path, name, agent):
    path = run_folder(tmp_path, name, yaml.dump(agent))
    held = json.loads((FILES / f"{name}.json").read_text())
    assert (
        np.abs(played(export(tmp_path, path), held["observations"]) - held["actions"]).max() < 1e-5
    )


def test_the_runs_limit_of_actions_is_kept_and_the_layout_has_the_last_word(tmp_path):
    agent = {"policy": {"activation": "selu"}, "clip_actions": 0.5, "device": Path("cuda")}
    path = run_folder(tmp_path, "rsl_rl_1.0.2_plain", yaml.dump(agent))
    held = json.loads((FILES / "rsl_rl_1.0.2_plain.json").read_text())
    actions = np.array(held["actions"])
    assert np.abs(actions).max() > 0.5
    found = played(export(tmp_path, path, action_unit=2.0), held["observations"])
    assert np.abs(found - 2.0 * actions.clip(-0.5, 0.5)).max() < 1e-5
    found = played(export(tmp_path, path, clip_actions=9.0), held["observations"])
    assert np.abs(found - actions).max() < 1e-5
    found = played(
        export(tmp_path, path, clip_actions=9.0, activation="relu"), held["observations"]
    )
    assert np.abs(found - actions).max() > 0.01


@pytest.mark.parametrize(
    "agent, message",
    [
        ("a: [", "agent.yaml, the run's configuration, cannot be read: "),
        ("- 1", "agent.yaml is not the configuration of an rsl_rl run: expected a mapping with ac"),
        ("params: {network: 1}", "agent.yaml is not the configuration of an rsl_rl run"),
        ("actor: {activation: GLU}", "activation is 'glu' in the run's params/agent.yaml, expec"),
        (
            "actor: {distribution_cfg: {class_name: my.Cauchy}}",
            "agent.yaml: the distribution is Cauchy, expected one of GaussianDistribution, Het",
        ),
    ],
)
def test_configurations_of_another_kind_are_named(tmp_path, agent, message):
    path = run_folder(tmp_path, "rsl_rl_1.0.2_plain", agent)
    with pytest.raises(CheckpointError, match=message) as error:
        export(tmp_path, path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1, 2]", "layout.yaml holds a list, expected a mapping with some of prefix, activation"),
        ("a: [", "layout.yaml is not a layout: .*, expected plain YAML$"),
        ("activation: gelo", "activation is 'gelo' in .*, expected elu, relu, .* or identity$"),
        ("squash: 3", "squash is 3 in .*, expected true or false$"),
        ("action_unit: much", "action_unit is 'much' in .*, expected a number$"),
        ("action_range: [1, -1]", r"action_range is \[1, -1\] in .*, expected two numbers"),
        ("normalizer_epsilon: -1", "normalizer_epsilon is -1 in .*, expected a number, at least 0"),
        ("ignore: critic", "ignore is 'critic' in .*, expected a list of beginnings of names"),
        ("contract: 265", "contract is 265 in .*, expected a mapping of contract fields"),
    ],
)
def test_layouts_that_are_none(tmp_path, text, message):
    (tmp_path / "layout.yaml").write_text(text)
    path = FILES / "rsl_rl_1.0.2_plain.pt"
    with pytest.raises(CheckpointError, match=message) as error:
        export_run(Args(path, tmp_path / "p.onnx", layout=tmp_path / "layout.yaml"))
    assert "\n" not in str(error.value)


def test_distributions_that_do_not_fit_the_weights(tmp_path):
    with pytest.raises(
        CheckpointError, match="has a standard deviation of its own, the layout says beta$"
    ):
        export(tmp_path, FILES / "rsl_rl_3.3.0_normalised.pt", distribution="beta")
    with pytest.raises(
        CheckpointError, match="gives 24 numbers, squashed; beta needs two for each action, not"
    ):
        path = FILES / "rsl_rl_5.4.2_beta.pt"
        export(tmp_path, path, distribution="beta", squash=True)


def test_actions_are_clipped_as_the_contract_says(tmp_path):
    held = json.loads((FILES / "rsl_rl_1.0.2_plain.json").read_text())
    expected = np.array(held["actions"])
    contract = {"observation": {"size": 5}, "action_clip": 0.5}
    path = FILES / "rsl_rl_1.0.2_plain.pt"
    policy = export(tmp_path, path, activation="selu", contract=contract)
    assert np.abs(expected).max() > 0.5
    found = played(policy, held["observations"])
    assert np.abs(found - expected.clip(-0.5, 0.5)).max() <= 1e-5
    model = onnx.load(str(tmp_path / "p.onnx"))
    assert json.loads(model.metadata_props[0].value)["action_clip"] == 0.5
