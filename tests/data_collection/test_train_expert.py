import json
import shutil
from dataclasses import replace

import pytest
import torch

pytest.importorskip("rsl_rl")

from go2_sevpo.data_collection.experts import train as te
from go2_sevpo.data_collection.experts.ppo import installed_version
from go2_sevpo.data_collection.experts.trainer import ACTION_UNIT
from go2_sevpo.deploy.export.cli import Args as ExportArgs
from go2_sevpo.deploy.export.cli import export_run
from go2_sevpo.envs.go2.config import Randomization
from go2_sevpo.policies.torch_policy import load_policy

pytestmark = pytest.mark.filterwarnings("ignore")


def small(name="expert"):
    config = te.load_config(te.CONFIG_DIR / f"{name}.yaml")
    env = replace(config.env, num_envs=8, variants=2, threads=1)
    return replace(
        config,
        env=env,
        ppo=replace(
            config.ppo,
            iterations=4,
            steps_per_iteration=8,
            hidden=(16, 16),
            critic_iterations=0,
            ramp=(0, 0.0),
        ),
    )


def trainer(out, name="expert", seed=0):
    from dataclasses import asdict

    config = small(name)
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text(json.dumps({"seed": seed, **asdict(config)}))
    return te.Trainer(config, out, seed)


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value.detach().float().flatten()]
    values = (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, (list, tuple))
        else []
    )
    return [t for v in values for t in tensors(v)]


def weights(t):
    return torch.cat(tensors(t.learner.state_dict())).clone()


five = pytest.mark.skipif(
    int(installed_version().split(".")[0]) < 5, reason="rsl-rl-lib 5.x's own interface"
)


def test_resumed_training_equals_uninterrupted_bit_for_bit(tmp_path):
    a = trainer(tmp_path / "a")
    rows = [a.iterate() for _ in range(4)]
    b = trainer(tmp_path / "b")
    b.iterate()
    b.iterate()
    b.save()
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    # Saving must not move the random numbers: the run that was saved goes on alike.
    b.iterate()
    b.save()
    b.iterate()
    assert torch.equal(weights(a), weights(b))
    c = trainer(tmp_path / "c", seed=99)  # another seed: everything must come from the checkpoint
    c.load()
    later = [c.iterate(), c.iterate()]
    assert torch.equal(weights(a), weights(c))
    assert rows[3]["reward"] == later[1]["reward"]
    assert c.iteration == 4


def test_resuming_with_other_settings_is_refused_by_name(tmp_path):
    first = trainer(tmp_path)
    first.iterate()
    first.save()
    record = {"seed": 0, **te.asdict(first.config)}
    te._check_settings(tmp_path, record)
    longer = te.asdict(replace(first.config, ppo=replace(first.config.ppo, iterations=9)))
    te._check_settings(tmp_path, {"seed": 0, **longer})
    other = te.asdict(replace(first.config, ppo=replace(first.config.ppo, gamma=0.5)))
    with pytest.raises(ValueError, match=r"other settings: ppo.gamma: 0.99.* -> 0.5; use another"):
        te._check_settings(tmp_path, {"seed": 0, **other})
    with pytest.raises(ValueError, match="other settings: seed: 0 -> 4"):
        te._check_settings(tmp_path, {**record, "seed": 4})
    with pytest.raises(ValueError, match="nothing to resume"):
        te._check_settings(tmp_path / "nowhere", record)


def test_seeds_differ_and_training_moves_the_weights(tmp_path):
    a, b = trainer(tmp_path / "a"), trainer(tmp_path / "b", seed=1)
    start = weights(a)
    assert not torch.equal(start, weights(b))
    before = torch.cat(tensors(a.learner.actor()))
    a.iterate()
    assert not torch.equal(before, torch.cat(tensors(a.learner.actor())))


@five
def test_exported_actor_is_the_trained_one(tmp_path):
    t = trainer(tmp_path / "a")
    t.iterate()
    t.save()
    policy, observations, info = load_policy(tmp_path / "a" / "policy_last.safetensors")
    with torch.no_grad():
        obs = t.learner.adapter.get_observations()
        expected = (t.learner.alg.get_policy()(obs) * ACTION_UNIT).clamp(-1, 1)
        found = policy(obs["policy"], torch.zeros(8, 1, 1, 12))[0]
    assert torch.allclose(expected, found, atol=1e-6)
    assert info["algorithm"] == "ppo"
    assert export_run(ExportArgs(tmp_path / "a", tmp_path / "p.onnx"))["action"] < 1e-5


def test_presets_are_what_they_say():
    expert, weak = (te.load_config(te.CONFIG_DIR / f"{n}.yaml") for n in ("expert", "weak"))
    assert set(expert.env.courses) == {"flat", "simple", "hard"}
    assert expert.env.curriculum
    assert weak.env.courses == ("flat",)


@five
def test_mirror_augmentation_doubles_and_mirrors(tmp_path):
    from go2_sevpo.data_collection.experts.rsl_rl_adapter import mirror_augmentation

    t = trainer(tmp_path / "a")
    obs, actions = t.learner.adapter.get_observations(), torch.randn(8, 12)
    both, twice = mirror_augmentation(None, obs, actions)
    assert both.batch_size[0] == 16
    assert torch.equal(twice[:8], actions)
    again, _ = mirror_augmentation(None, both[8:], None)
    assert torch.equal(again["policy"][8:], obs["policy"])
    assert torch.equal(again["privileged"][8:], obs["privileged"])


@pytest.mark.parametrize("agent", ["zero", "random"])
def test_environment_can_be_tried_without_a_policy(agent, capsys):
    te.try_environment(small("weak"), agent, 0, steps=5)
    assert f"{agent} agent: 5 steps in 8 worlds" in capsys.readouterr().out


def test_bad_configuration_is_named(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("env: {num_worlds: 3}\n")
    with pytest.raises(ValueError, match="unknown key 'num_worlds' in env"):
        te.load_config(path)
    with pytest.raises(ValueError, match="presets are expert"):
        te.load_config(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="unknown agent 'x'"):
        te.run(te.Args(tmp_path, agent="x"))


# ---- beginning with a policy ---------------------------------------------------------------------


@five
def test_training_begins_with_the_actor_of_a_policy(tmp_path):
    t = trainer(tmp_path / "a")
    t.iterate()
    t.save()
    export_run(ExportArgs(tmp_path / "a", tmp_path / "p.onnx"))
    other = trainer(tmp_path / "b", seed=5)
    other.learner.load_actor(te.actor_of(str(tmp_path / "p.onnx"), other.policy().sizes))
    given, found = t.learner.actor(), other.learner.actor()
    for name in given:
        if name != "std":  # the preset's own
            assert torch.equal(given[name], found[name]), name
    assert found["std"].tolist() == pytest.approx([t.config.ppo.initial_std] * 12)


@five
def test_an_actor_of_another_shape_is_refused(tmp_path):
    message = r"has an actor with layers of \[265, 256, 128, 64, 12\], expected \[265, 8, 12\]"
    with pytest.raises(ValueError, match=message):
        te.actor_of("expert", [265, 8, 12])
    with pytest.raises(ValueError, match=r"layers of \[\], expected"):
        te.actor_of("sevpo", [265, 8, 12])


@five
def test_the_critic_catches_up_before_the_actor_moves(tmp_path):
    t = trainer(tmp_path / "a")
    t.config = replace(t.config, ppo=replace(t.config.ppo, critic_iterations=2))
    start, critic = t.learner.actor(), t.learner.state_dict()["critic_state_dict"]
    before = {k: v.clone() for k, v in critic.items()}
    start = {k: v.clone() for k, v in start.items()}
    for _ in range(2):
        t.iterate()
    assert all(torch.equal(v, t.learner.actor()[k]) for k, v in start.items())
    after = t.learner.state_dict()["critic_state_dict"]
    assert any(not torch.equal(v, after[k]) for k, v in before.items())
    t.iterate()
    assert not all(torch.equal(v, t.learner.actor()[k]) for k, v in start.items())


@five
def test_randomisation_grows_to_its_full_width(tmp_path):
    t = trainer(tmp_path / "a")
    t.config = replace(t.config, ppo=replace(t.config.ppo, ramp=(2, 0.5)))
    full, found = t.config.env.randomization, []
    for _ in range(3):
        t.iterate()
        found.append(t.env.config.randomization.damping[1])
    assert found == [0.5 * full.damping[1], 0.75 * full.damping[1], full.damping[1]]
    assert t.env.view.z == full


def test_presets_of_version_2_take_its_randomisation_for_what_they_do_not_name():
    weak, old = (te.load_config(te.CONFIG_DIR / f"{n}.yaml") for n in ("weak", "weak_v1"))
    assert (weak.env.version, old.env.version) == (2, 1)
    assert weak.env.randomization == Randomization.of(2)
    assert old.env.randomization == Randomization()
    expert = te.load_config(te.CONFIG_DIR / "expert.yaml").env.randomization
    assert expert.joint_damping and expert.damping == (0.0, 1.0)
    assert expert.true_map_share == 0.15
