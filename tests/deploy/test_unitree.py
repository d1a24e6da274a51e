"""The deploy YAML against the model it describes."""

import mujoco
import numpy as np
import pytest
import torch
import yaml

from go2_sevpo.deploy.export.cli import Args, export_run
from go2_sevpo.deploy.export.unitree import deploy_config
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.model_files import ASSET_DIR
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.policies.torch_policy import save_policy
from tests.conftest import diffusion_policy


@pytest.fixture
def config(tmp_path):
    save_policy(
        tmp_path / "policy_last.safetensors",
        diffusion_policy(),
        torch.randn(64, 265),
        {"candidates": 4},
    )
    export_run(Args(tmp_path, tmp_path / "p.onnx"))
    return yaml.safe_load((tmp_path / "p.yaml").read_text()), OnnxPolicy(tmp_path / "p.onnx")


def test_arrays_fit_the_model_and_the_policy(config):
    found, policy = config
    model = mujoco.MjModel.from_xml_path(str(ASSET_DIR / "go2.xml"))
    for i, name in enumerate(found["joint_names"]):
        motor = model.actuator(name)
        assert motor.gainprm[0] == found["kps"][i] and -motor.biasprm[2] == pytest.approx(
            found["kds"][i]
        )
        assert motor.forcerange[1] == pytest.approx(found["torque_limits"][i])
        low, high = model.joint(name).range
        assert low < found["default_angles"][i] < high
    assert model.opt.timestep == found["simulation_dt"]
    assert found["simulation_dt"] * found["control_decimation"] == pytest.approx(
        found["control_dt"]
    )
    assert (found["num_obs"], found["num_actions"]) == (265, 12)
    noise = np.zeros(
        (1, found["candidates"], found["sampling_steps"], found["num_actions"]), np.float32
    )
    assert policy.act(np.zeros((1, found["num_obs"]), np.float32), noise)[0].shape == (1, 12)


def test_motor_map_is_the_sdks(config):
    found, _ = config
    motors = dict(zip(found["joint_names"], found["leg_joint2motor_idx"]))
    assert [motors[f"{leg}_hip_joint"] for leg in ("FR", "FL", "RR", "RL")] == [0, 3, 6, 9]
    assert sorted(motors.values()) == list(range(12))
    assert [r.SDK_JOINT_NAMES[k] for k in found["leg_joint2motor_idx"]] == found["joint_names"]


def test_other_robots_have_none():
    with pytest.raises(
        ValueError, match="the policy is for 'reach_avoid_vehicle', expected 'unitree_go2'"
    ):
        deploy_config({"robot": "reach_avoid_vehicle"}, None)
