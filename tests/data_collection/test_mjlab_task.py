"""Our task in mjlab, run by mjlab on Warp's CPU device (``make test-mjlab``)."""

import importlib.util
import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch

from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rewards import RewardWeights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("mjlab") is None,
        reason="needs mjlab, whose pins differ from ours: make test-mjlab",
    ),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.xdist_group("mjlab"),
]
WORLDS = 3


def make(parkour, worlds=WORLDS, seed=4):
    import mjlab.tasks  # noqa: F401
    from mjlab.envs import ManagerBasedRlEnv
    from mjlab.tasks.registry import load_env_cfg

    cfg = load_env_cfg("go2_parkour")
    cfg.actions["joint_targets"].parkour = parkour
    cfg.scene.num_envs, cfg.seed = worlds, seed
    cfg.episode_length_s = parkour.episode_seconds
    return ManagerBasedRlEnv(cfg, device="cpu")


def worlds_of(env):
    return env.action_manager.get_term("joint_targets").worlds


@pytest.fixture(scope="module")
def plain():
    """Three worlds on different hard courses, nothing random."""
    config = ParkourConfig(
        num_envs=WORLDS,
        courses=("hard",),
        variants=WORLDS,
        randomization=Randomization.off(),
        simulator="mujoco-warp",
        device="cpu",
        seed=4,
    )
    return config, make(config)


def test_mjlab_knows_the_task_by_its_entry_point():
    import mjlab.tasks  # noqa: F401
    from mjlab.tasks.registry import list_tasks

    assert "go2_parkour" in list_tasks()


def test_worlds_move_as_on_our_own_warp_back_end(plain):
    """The same courses, starts and actions: the physics are one, held to each other."""
    config, env = plain
    own = Go2Parkour(config)
    theirs = env.reset()[0]["actor"]
    ours = own.reset()
    assert torch.allclose(theirs, ours, atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        action = 0.1 * torch.randn(WORLDS, 12, generator=generator)
        found, reward, terminated, truncated, _ = env.step(4.0 * action)
        expected = own.step(action)
        assert torch.allclose(
            worlds_of(env)._state.base_position, own._state.base_position, atol=2e-3
        )
        assert torch.allclose(reward, expected[1], atol=5e-3)
        assert not (terminated | truncated).any()
    assert torch.allclose(found["actor"][:, :46], own.observation[:, :46], atol=0.05)
    positions = own._state.base_position
    assert (positions[:, 2] > 0.2).all(), "they stand"
    own.close()


def test_every_world_has_a_course_of_its_own(plain):
    from go2_sevpo.envs.go2.description.scene import course_boxes

    _, env = plain
    env.reset()
    worlds = worlds_of(env)
    model = env.sim.mj_model
    for world in range(WORLDS):
        course = worlds.courses[int(worlds.course_ids[world])]
        for i, box in enumerate(course_boxes(course)[:12]):
            geom = model.geom(f"course_{i}").id
            found = worlds.sim._view["geom_pos"][world, geom]
            assert torch.allclose(found, torch.tensor(box.position).float(), atol=1e-5)
    assert len(set(worlds.course_ids.tolist())) == WORLDS


def test_rewards_and_ends_are_our_environments(plain):
    config, env = plain
    env.reset()
    worlds = worlds_of(env)
    assert set(env.reward_manager.active_terms) == {
        f.name for f in fields(RewardWeights) if f.name != "target_speed"
    }
    fallen = torch.zeros(WORLDS, dtype=torch.bool)
    for _ in range(60):
        # Legs thrown about: sooner or later somebody falls.
        before = worlds.observation
        _, reward, terminated, _, _ = env.step(4.0 * torch.sign(torch.randn(WORLDS, 12)))
        result = worlds.result()
        rates = sum(result.terms.values()) * 0.02
        once = config.reward.fall * result.fall.float()
        once = once + config.reward.success * result.success.float()
        assert torch.allclose(reward, rates + once, atol=1e-4)
        assert torch.equal(terminated, result.fall | result.success | result.stuck)
        fallen |= result.fall
        if result.fall.any():
            world = int(result.fall.nonzero()[0])
            assert worlds.episode_length[world] == 0 == env.episode_length_buf[world]
            assert abs(float(worlds._state.base_position[world, 0])) < 0.3, "back at the start"
            frames = worlds.observation[world, :138].reshape(3, 46)
            assert torch.allclose(frames[0], frames[1]) and torch.allclose(frames[0], frames[2])
        assert not torch.equal(before, worlds.observation)
    assert fallen.any()


def test_mjlabs_runner_trains_and_its_checkpoint_is_exported(tmp_path):
    from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
    from mjlab.tasks.registry import load_rl_cfg
    from mjlab.utils.os import dump_yaml
    from tensordict import TensorDict

    from go2_sevpo.deploy.export.cli import Args, export_run
    from go2_sevpo.policies.onnx_policy import OnnxPolicy

    config = ParkourConfig(courses=("simple",), variants=2, levels=2, curriculum=True)
    env = RslRlVecEnvWrapper(make(config, 2), clip_actions=4.0)
    rl = load_rl_cfg("go2_parkour")
    rl.num_steps_per_env = 6
    rl.actor = replace(rl.actor, hidden_dims=(16, 8), obs_normalization=True)
    dump_yaml(tmp_path / "params" / "agent.yaml", asdict(rl))
    runner = MjlabOnPolicyRunner(env, asdict(rl), None, "cpu")
    before = [p.clone() for p in runner.alg.get_policy().parameters()]
    runner.learn(2, init_at_random_ep_len=True)
    after = list(runner.alg.get_policy().parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after))
    runner.save(str(tmp_path / "model_1.pt"))
    observations = torch.randn(32, 265)
    groups = {"actor": observations, "critic": torch.zeros(32, 279)}
    with torch.no_grad():
        mean = runner.get_inference_policy("cpu")(TensorDict(groups, batch_size=[32]))
    export_run(Args(tmp_path / "model_1.pt", tmp_path / "p.onnx"))
    policy = OnnxPolicy(tmp_path / "p.onnx")
    noise = np.zeros(policy.noise_shape(32), np.float32)
    found = policy.act(observations.numpy(), noise)[0]
    assert np.abs(found - 0.25 * mean.clamp(-4.0, 4.0).numpy()).max() <= 1e-5
    assert json.loads(json.dumps(policy.contract))["kind"] == "ppo"
