"""``go2-export --target unitree``: held by what Unitree's runners read and compute."""

import json
from collections import deque

import mujoco
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

from go2_sevpo.deploy.export import unitree_target
from go2_sevpo.deploy.export.cli import Args, export_run
from go2_sevpo.deploy.export.unitree_layout import our_order, runner_config
from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.observations import SCAN_CENTRE, map_fields
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.networks.layers import Normalizer
from go2_sevpo.policies.contract import ContractError
from go2_sevpo.policies.torch_policy import BudgetPolicy, GaussianPolicy, save_policy
from tests.conftest import diffusion_policy

# Every key that unitree_rl_gym reads with config["..."], commit 276801e.
DEPLOY_REAL_KEYS = [
    "control_dt",
    "msg_type",
    "imu_type",
    "lowcmd_topic",
    "lowstate_topic",
    "policy_path",
    "leg_joint2motor_idx",
    "kps",
    "kds",
    "default_angles",
    "arm_waist_joint2motor_idx",
    "arm_waist_kps",
    "arm_waist_kds",
    "arm_waist_target",
    "ang_vel_scale",
    "dof_pos_scale",
    "dof_vel_scale",
    "action_scale",
    "cmd_scale",
    "max_cmd",
    "num_actions",
    "num_obs",
]
DEPLOY_MUJOCO_KEYS = [
    "policy_path",
    "xml_path",
    "simulation_duration",
    "simulation_dt",
    "control_decimation",
    "kps",
    "kds",
    "default_angles",
    "ang_vel_scale",
    "dof_pos_scale",
    "dof_vel_scale",
    "action_scale",
    "cmd_scale",
    "num_actions",
    "num_obs",
    "cmd_init",
]
# What the C++ runners read: unitree_rl_lab e72a072, unitree_rl_mjlab 5b7e396.
RUNNER_KEYS = [
    "joint_ids_map",
    "step_dt",
    "stiffness",
    "damping",
    "default_joint_pos",
    "actions",
    "observations",
]
ACTION_KEYS = ["joint_ids", "scale", "offset", "clip"]
TERM_KEYS = ["params", "history_length", "scale", "clip"]
REGISTERED = ["base_ang_vel", "projected_gravity", "joint_pos_rel", "joint_vel_rel", "last_action"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A diffusion policy with critics and four candidates, and its folder."""
    home = tmp_path_factory.mktemp("unitree")
    policy = diffusion_policy("argmin_cost")
    info = {"algorithm": "sevpo", "candidates": 4}
    save_policy(home / "policy_last.safetensors", policy, torch.randn(300, 265), info)
    found = export_run(Args(home, home / "go2", target="unitree"))
    assert found["action"] <= 1e-5
    return home / "go2", policy


def noise_of(policy, candidates=4):
    return unitree_target.fixed_noise(policy, candidates, 12)[0]


def session(folder):
    return onnxruntime.InferenceSession(str(folder / "exported" / "policy.onnx"))


def load(folder, name):
    return yaml.safe_load((folder / name).read_text(encoding="utf-8"))


def test_the_graph_is_static_with_the_runners_names(exported):
    folder, _ = exported
    found = session(folder)
    assert [(x.name, x.shape, x.type) for x in found.get_inputs()] == [
        ("obs", [1, 265], "tensor(float)")
    ]
    assert [(x.name, x.shape, x.type) for x in found.get_outputs()] == [
        ("actions", [1, 12], "tensor(float)")
    ]
    model = onnx.load(str(folder / "exported" / "policy.onnx"), load_external_data=False)
    assert not any(t.external_data for t in model.graph.initializer)
    about = json.loads({p.key: p.value for p in model.metadata_props}["go2_sevpo.unitree"])
    assert about["noise"] == "fixed, seed 0"
    assert list(about["missing_terms"]) == [
        "foot_contact",
        "waypoints",
        "height_scan",
        "foot_heights",
    ]


def test_both_files_give_the_policys_action(exported):
    folder, policy = exported
    ours = torch.randn(20, 265)
    theirs = torch.zeros(20, 265)
    theirs[:, our_order(environment_contract())] = ours
    script = torch.jit.load(str(folder / "exported" / "policy.pt"))
    run = session(folder)
    with torch.no_grad():
        for row, seen in zip(ours.split(1), theirs.split(1)):
            expected = policy(row, noise_of(policy))[0].numpy()
            assert np.abs(run.run(None, {"obs": seen.numpy()})[0] - expected).max() <= 1e-5
            assert np.abs(script(seen).numpy() - expected).max() <= 1e-5


class Runner:
    """The C++ runner's arithmetic: each term clipped, scaled, kept; oldest first, term by term."""

    def __init__(self, config):
        self.terms = config["observations"]
        self.kept = None

    def observe(self, values):
        frames = {}
        for name, term in self.terms.items():
            value = np.asarray(values[name]).astype(np.float64)
            if term["clip"] is not None:
                value = value.clip(*term["clip"])
            frames[name] = value * np.array(term["scale"])
        if self.kept is None:
            self.kept = {
                name: deque([frames[name]] * term["history_length"], term["history_length"])
                for name, term in self.terms.items()
            }
        for name, value in frames.items():
            self.kept[name].append(value)
        return np.concatenate([x for kept in self.kept.values() for x in kept]).astype(np.float32)


def test_a_runner_that_computes_its_terms_acts_as_in_the_environment(exported):
    """From bare sensors in the motors' order, over 30 steps, histories included."""
    folder, policy = exported
    config = load(folder, "params/deploy.yaml")
    runner, run = Runner(config), session(folder)
    ids = config["joint_ids_map"]
    default = np.array(config["default_joint_pos"])
    env = Go2Parkour(ParkourConfig(num_envs=1, randomization=Randomization.off()))
    observation, last = env.reset(), np.zeros(12)
    motors = [r.JOINT_NAMES.index(n) for n in r.SDK_JOINT_NAMES]
    for _ in range(30):
        state, sensed = env._state, env._sensed
        q, dq = (x[0, motors].numpy() for x in (state.joint_position, state.joint_velocity))
        foot = sensed.feet[..., 2:3] - r.FOOT_RADIUS - sensed.foot_ground
        seen = runner.observe(
            {
                "base_ang_vel": sensed.angular_velocity[0],
                "projected_gravity": sensed.gravity[0],
                "joint_pos_rel": q[ids] - default,
                "joint_vel_rel": dq[ids],
                "last_action": last,
                "foot_contact": sensed.contact[0].float(),
                "waypoints": map_fields(state, sensed, env._targets(), env.map_offset)[0, :6],
                "height_scan": (state.base_position[:, 2:3] - SCAN_CENTRE - sensed.scan)[0],
                "foot_heights": foot.flatten(),
            }
        )
        with torch.no_grad():
            action = policy(observation, noise_of(policy))[0]
        last = run.run(None, {"obs": seen[None]})[0][0]
        assert np.abs(last - action[0].numpy()).max() <= 1e-5
        observation = env.step(action)[0]
    env.close()


def test_the_runners_keys_are_there_and_say_what_the_contract_says(exported):
    folder, _ = exported
    config = load(folder, "params/deploy.yaml")
    for key in RUNNER_KEYS:
        assert config[key] is not None, key
    action = config["actions"]["JointPositionAction"]
    assert [k for k in ACTION_KEYS if k not in action] == []
    assert action["scale"] == [r.ACTION_SCALE] * 12
    assert action["offset"] == config["default_joint_pos"] == list(r.DEFAULT_JOINT_POSITIONS)
    names = list(config["observations"])
    assert names[:5] == REGISTERED
    # "trick to check" whether there is one input: the first term must have params.
    for term in config["observations"].values():
        assert [k for k in TERM_KEYS if k not in term] == []
    sizes = [len(t["scale"]) * t["history_length"] for t in config["observations"].values()]
    assert sum(sizes) == 265
    assert [r.SDK_JOINT_NAMES[k] for k in config["joint_ids_map"]] == list(r.JOINT_NAMES)
    assert config["step_dt"] == r.CONTROL_DT and config["commands"] == {}
    text = (folder / "params" / "deploy.yaml").read_text()
    for name in ("foot_contact (4 x 3", "waypoints (6", "height_scan (85", "foot_heights (36"):
        assert f"#   {name}" in text
    assert "noise inside the policy is fixed, seed 0" in text and "&" not in text


def test_gains_are_in_the_motors_order():
    contract = environment_contract()
    contract["kp"] = [float(k) for k in range(12)]
    contract["kd"] = [0.1 * k for k in range(12)]
    config = runner_config(contract)
    for joint, motor in enumerate(config["joint_ids_map"]):
        assert config["stiffness"][motor] == contract["kp"][joint]
        assert config["damping"][motor] == contract["kd"][joint]


def test_the_scripts_find_every_key_they_read(exported):
    folder, _ = exported
    config = load(folder, "unitree_rl_gym.yaml")
    for key in DEPLOY_REAL_KEYS + DEPLOY_MUJOCO_KEYS:
        assert config[key] is not None, key
    assert config["msg_type"] == "go" and config["num_obs"] == 265
    for key in ("default_angles", "cmd_scale", "max_cmd", "arm_waist_target", "cmd_init"):
        assert np.array(config[key], np.float32).ndim == 1
    motors = config["leg_joint2motor_idx"] + config["arm_waist_joint2motor_idx"]
    assert sorted(motors) == list(range(12)) == config["weak_motor"]
    home = "{LEGGED_GYM_ROOT_DIR}/deploy/pre_train/go2"
    for key, file in (("policy_path", "exported/policy.pt"), ("xml_path", "go2.xml")):
        assert config[key] == f"{home}/{file}"
        assert (folder / file).is_file()
    assert sum(size * frames for _, size, frames in config["observation_order"]) == 265
    assert set(config["missing_terms"]) == {
        n for n, _, _ in config["observation_order"] if n not in REGISTERED
    }


def test_the_policy_stops_a_script_that_fills_the_observation_itself(exported):
    """As deploy_mujoco does: 47 numbers in its own order, the rest zero."""
    folder, _ = exported
    script = torch.jit.load(str(folder / "exported" / "policy.pt"))
    filled = torch.zeros(1, 265)
    filled[0, :47] = torch.randn(47)
    with pytest.raises(Exception, match="terms this script does not compute .missing_terms. are"):
        script(filled)
    with pytest.raises(Exception, match="expected one observation of the size num_obs"):
        script(torch.randn(1, 47))
    filled[0, 200] = 0.1
    assert script(filled).shape == (1, 12)


def test_the_torque_model_stands_under_the_scripts_pd_law(exported):
    folder, _ = exported
    config = load(folder, "unitree_rl_gym.yaml")
    model = mujoco.MjModel.from_xml_path(str(folder / "go2.xml"))
    data = mujoco.MjData(model)
    model.opt.timestep = config["simulation_dt"]
    assert [model.actuator(k).name for k in range(12)] == list(r.JOINT_NAMES)
    kps, kds, default = (np.array(config[k]) for k in ("kps", "kds", "default_angles"))
    data.qpos[7:] = default
    for _ in range(400):
        data.ctrl[:] = (default - data.qpos[7:]) * kps - data.qvel[6:] * kds
        mujoco.mj_step(model, data)
    assert 0.25 < data.qpos[2] < 0.36 and abs(data.qpos[3]) > 0.99
    assert np.abs(data.actuator_force).max() > 1.0
    limits = np.array(r.TORQUE_LIMITS)
    data.ctrl[:] = 1000.0
    mujoco.mj_step(model, data)
    assert np.allclose(data.actuator_force, limits, rtol=1e-4)


def test_policies_that_play_without_noise_have_none_inside(tmp_path):
    policy = GaussianPolicy([265, 8, 12], torch.full((12,), 0.5), 0.25)
    save_policy(tmp_path / "p.safetensors", policy, torch.randn(80, 265), {"algorithm": "ppo"})
    export_run(Args(tmp_path / "p.safetensors", tmp_path / "out", target="unitree"))
    props = onnx.load(str(tmp_path / "out" / "exported" / "policy.onnx")).metadata_props
    assert json.loads(props[1].value)["noise"] == "zero"
    observation = torch.randn(1, 265)
    seen = torch.zeros(1, 265)
    seen[:, our_order(environment_contract())] = observation
    with torch.no_grad():
        expected = policy(observation, torch.zeros(1, 1, 1, 12))[0].numpy()
    found = session(tmp_path / "out").run(None, {"obs": seen.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-5


def test_files_that_act_otherwise_are_not_written(tmp_path, monkeypatch):
    policy = diffusion_policy()
    save_policy(tmp_path / "p.safetensors", policy, torch.randn(80, 265), {"algorithm": "sevpo"})
    monkeypatch.setattr(unitree_target, "_difference", lambda *_: float("nan"))
    with pytest.raises(ContractError, match="files for Unitree differ from the policy by nan"):
        export_run(Args(tmp_path / "p.safetensors", tmp_path / "out", target="unitree"))
    assert not (tmp_path / "out").exists()


def test_a_difference_in_either_file_is_found(exported, tmp_path):
    folder, policy = exported
    index = torch.tensor(our_order(environment_contract()))
    other = unitree_target.StaticPolicy(diffusion_policy("first"), index, noise_of(policy, 1))
    files = [folder / "exported" / name for name in ("policy.onnx", "policy.pt")]
    assert unitree_target._difference(other, torch.randn(8, 265), *files) > 1e-3
    same = unitree_target.StaticPolicy(policy, index, noise_of(policy))
    assert unitree_target._difference(same, torch.randn(8, 265), *files) <= 1e-5


def refused(tmp_path, policy, message, info=None, out="out", layout=None):
    save_policy(tmp_path / "p.safetensors", policy, torch.randn(80, 265), info or {})
    with pytest.raises(ContractError, match=message) as error:
        export_run(Args(tmp_path / "p.safetensors", tmp_path / out, target="unitree"))
    assert "\n" not in str(error.value) and not list(tmp_path.glob("out*"))


def test_what_unitrees_runners_cannot_play_is_refused(tmp_path):
    normalizer = Normalizer(torch.zeros(265), torch.ones(265))
    refused(
        tmp_path,
        BudgetPolicy([266, 8, 12], normalizer, 5.0, 10.0),
        "keeps a cost budget and needs the episode's cost so far, which Unitree's runners do not",
    )
    refused(
        tmp_path,
        diffusion_policy(),
        "the policy is for 'reach_avoid_vehicle', expected 'unitree_go2'",
        {"environment": "go2_sevpo/ReachAvoid-v0"},
    )
    refused(
        tmp_path, diffusion_policy(), r"out\.onnx names a file, --target unitree", out="out.onnx"
    )


def test_targets_and_contracts_that_do_not_fit(tmp_path):
    with pytest.raises(ContractError, match="target is 'ros', expected one of onnx, unitree$"):
        export_run(Args(tmp_path, target="ros"))
    contract = environment_contract()
    with pytest.raises(
        ContractError, match=r"says of its observation size, Unitree's files need its fields, too"
    ):
        runner_config({**contract, "observation": {"size": 265}})
    mixed = {**contract, "action_scale": [1.2] * 11 + [0.5]}
    mixed["sampler"] = {"candidates": 1}
    with pytest.raises(ContractError, match="unitree_rl_gym's scripts take one for all"):
        policy = GaussianPolicy([265, 8, 12], torch.zeros(12), 1.0)
        unitree_target.write_unitree(policy, mixed, torch.randn(4, 265), tmp_path / "out")
