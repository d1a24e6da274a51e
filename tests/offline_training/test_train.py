import json
from pathlib import Path

import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.data import shards
from go2_sevpo.data.dataset import load
from go2_sevpo.offline_training.train import Args, settings_of, train
from go2_sevpo.offline_training.trainer import Trainer
from go2_sevpo.policies.torch_policy import load_policy
from go2_sevpo.runs.checkpoint import CheckpointError, load_checkpoint
from go2_sevpo.runs.finite import NotFiniteError
from go2_sevpo.runs.lock import BusyError, sole_writer
from tests.conftest import make_episodes

SETS = [
    "critic_steps=30",
    "policy_steps=30",
    "critic_hidden=[16,16]",
    "width=16",
    "depth=2",
    "critic_batch=16",
    "actor_batch=16",
    "limit=0.1",
]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    entry = shards.write_shard(path / "00.hdf5", make_episodes(lengths=(20, 30, 25, 40)), {})
    shards.write_manifest(path, [entry], {})
    return path


def state(trainer):
    return {k: v for k, v in trainer.algorithm.state_dict().items() if isinstance(v, dict)}


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in flat(v)]
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in flat(v)]
    return []


@pytest.mark.parametrize("algorithm", ["sevpo", "bc", "fisor", "bc-choice"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("cut", [20, 45])
def test_resumed_equals_uninterrupted_bit_for_bit(dataset, tmp_path, algorithm, dropout, cut):
    critics = {"critic_hidden": [16], "critic_batch": 16}
    values = {
        "sevpo": {
            **critics,
            "critic_steps": 30,
            "policy_steps": 30,
            "actor_batch": 16,
            "limit": 0.05,
        },
        "fisor": {**critics, "steps": 60, "actor_batch": 16},
        "bc-choice": {**critics, "critic_steps": 30, "steps": 30, "batch": 16},
        "bc": {"steps": 60, "batch": 16},
    }[algorithm]
    values.update({"actor": "resnet", "dropout": dropout, "width": 16, "depth": 1})

    def trainer(out, seed):
        torch.manual_seed(seed)
        config = make_config(algorithm, values)
        return Trainer(
            make_algorithm(algorithm, config, dataset),
            dataset,
            tmp_path / out,
            {"seed": 0},
            0,
            10,
            1000,
            lambda _: None,
        )

    whole = trainer("a", 0)
    assert whole.run()
    part = trainer("b", 0)
    assert not part.run(cut)
    rest = trainer("b", 99)
    rest.load()
    assert rest.run()
    a, b = flat(state(whole)), flat(state(rest))
    assert len(a) == len(b) > 10
    assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_command_trains_logs_and_leaves_an_exportable_policy(folder, tmp_path):
    out = tmp_path / "run"
    assert train(Args((folder,), out, set=SETS, log_every=10))
    for name in (
        "config.json",
        "critics.csv",
        "policy.csv",
        "checkpoint.safetensors",
        "policy_last.safetensors",
    ):
        assert (out / name).is_file(), name
    assert list((out / "tensorboard").iterdir())
    header = (out / "policy.csv").read_text().splitlines()[0].split(",")
    assert {"safe_share", "unsafe_share", "clipped_share", "q_r", "v_c"} <= set(header)
    policy, observations, info = load_policy(out / "policy_last.safetensors")
    assert info["dataset"]["transitions"] == 115
    action, value, _ = policy(observations[:4], torch.randn(4, 2, 5, 2))
    assert action.shape == (4, 2)
    assert torch.isfinite(value).all()


@pytest.mark.parametrize("cut", [None, 40])
def test_members_leave_a_policy_each_and_resume_bit_for_bit(folder, tmp_path, cut):
    """Two members trained in one go, or cut in the policy stage and resumed."""
    torch.manual_seed(0)
    whole, out = tmp_path / "whole", tmp_path / "cut"
    assert train(Args((folder,), whole, set=SETS, members=2))
    if cut is not None:
        data = load(folder)
        torch.manual_seed(0)
        algorithm = make_algorithm(
            "sevpo", make_config("sevpo", settings_of(Args((folder,), out, set=SETS))), data, 2
        )
        info = json.loads((whole / "config.json").read_text())
        out.mkdir()
        assert not Trainer(algorithm, data, out, info, 0).run(cut)
        assert train(Args((folder,), out, set=SETS, members=2, resume=True))
        for k in range(2):
            paths = [p / f"member_{k:02d}" / "policy_last.safetensors" for p in (whole, out)]
            a, b = (load_policy(p)[0].state_dict() for p in paths)
            assert all(torch.equal(a[key], b[key]) for key in a)
        with pytest.raises(CheckpointError, match="was begun with members 2, now 3"):
            train(Args((folder,), out, set=SETS, members=3, resume=True))
    weights = [load_policy(whole / f"member_{k:02d}" / "policy_last.safetensors") for k in range(2)]
    assert weights[0][2]["member"] == 0
    assert not torch.equal(
        weights[0][0].diffusion.denoiser.out.weight, weights[1][0].diffusion.denoiser.out.weight
    )


def test_existing_run_is_neither_overwritten_nor_resumed_with_other_settings(folder, tmp_path):
    out = tmp_path / "run"
    train(Args((folder,), out, set=SETS))
    with pytest.raises(ValueError, match="already holds a run"):
        train(Args((folder,), out, set=SETS))
    before = (out / "config.json").read_text()
    with pytest.raises(CheckpointError, match="was begun with config"):
        train(Args((folder,), out, set=[*SETS, "mu1=2.0"], resume=True))
    assert (out / "config.json").read_text() == before
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(Args((folder,), tmp_path / "other", set=SETS, resume=True))


def test_logs_have_every_step_once_after_a_kill(folder, tmp_path):
    """Killed three times, each time ten steps after a checkpoint."""
    data, out = load(folder), tmp_path / "run"
    config = make_config("sevpo", settings_of(Args((folder,), out, set=SETS)))
    out.mkdir()
    for done, kept in ((0, 15), (15, 20), (35, 5)):
        trainer = Trainer(
            make_algorithm("sevpo", config, data), data, out, {}, 0, 5, 1000, lambda _: None
        )
        if done:
            trainer.load()
        assert not trainer.run(kept)
        saved = (out / "checkpoint.safetensors").read_bytes()
        assert not trainer.run(10)
        (out / "checkpoint.safetensors").write_bytes(saved)
    (out / "evaluation.csv").write_text("step,member,success\n10,0,1\n25,0,1\n")
    trainer = Trainer(
        make_algorithm("sevpo", config, data), data, out, {}, 0, 5, 1000, lambda _: None
    )
    trainer.load()
    assert (out / "evaluation.csv").read_text().splitlines() == ["step,member,success", "10,0,1"]
    assert trainer.run()
    for name in ("critics.csv", "policy.csv"):
        steps = [int(line.split(",")[0]) for line in (out / name).read_text().splitlines()[1:]]
        assert steps == list(range(5, 31, 5)), name


def test_two_trainings_in_one_folder_are_refused(folder, tmp_path):
    with sole_writer(tmp_path / "run"), pytest.raises(
        BusyError, match="run is being written by another process"
    ):
        train(Args((folder,), tmp_path / "run", set=SETS))
    assert not (tmp_path / "run" / "config.json").exists()


def test_safe_cloning_never_sees_an_unsafe_episode(dataset):
    algorithm = make_algorithm(
        "bc-safe", make_config("bc-safe", {"steps": 1, "cost_limit": 0.5, "width": 8}), dataset
    )
    assert algorithm.rows.tolist() == list(range(20, 50))
    with pytest.raises(ValueError, match="no episode without a fall"):
        make_algorithm("bc-safe", make_config("bc-safe", {"steps": 1, "cost_limit": -1.0}), dataset)


def test_a_limit_that_is_asked_for_is_not_overruled_by_the_presets_rule():
    def limits(preset, *given):
        found = settings_of(Args((), Path("o"), preset=preset, set=list(given)))
        return {k: found.get(k) for k in ("limit", "episode_limit", "false_alarms")}

    rule = {"limit": None, "episode_limit": None, "false_alarms": 0.01}
    assert limits("laptop") == rule
    assert limits("laptop", "limit=0.5") == {**rule, "limit": 0.5, "false_alarms": None}
    assert limits("laptop", "false_alarms=0.1", "limit=0.5") == {
        "limit": 0.5,
        "episode_limit": None,
        "false_alarms": 0.1,
    }
    assert limits("safety", "limit=0.5")["episode_limit"] is None
    assert limits("safety", "limit=0.5", "episode_limit=3.0")["episode_limit"] == 3.0
    assert limits("laptop", "episode_limit=3.0")["false_alarms"] is None


def test_paper_printed_differs_from_paper_where_the_equations_are_taken_to_the_letter():
    """The numbers of Table 8 are the same in both; its soft update factor is 0.001."""
    mended, printed = (
        vars(make_config("sevpo", settings_of(Args((), Path("o"), preset=name))))
        for name in ("paper", "paper_printed")
    )
    assert {k: v for k, v in printed.items() if mended[k] != v} == {
        "target_rate": 0.001,
        "advantage": "paper",
        "penalty": "paper",
        "normalize_advantage": False,
        "normalize_weights": False,
        "unsafe_objective": "printed",
        "trust_region": "printed",
        "bootstrap": "printed",
        "exponent_clip": 5.0,
    }
    assert mended["target_rate"] == 0.005 and mended["trust_region"] == "added"
    for algorithm in ("fisor", "bc", "bc-safe", "bc-lookahead", "bc-actor", "bc-choice"):
        both = [
            make_config(algorithm, settings_of(Args((), Path("o"), algorithm, preset=name)))
            for name in ("paper", "paper_printed")
        ]
        assert both[0] == both[1], algorithm


def test_paper_preset_is_table_8():
    config = make_config("sevpo", settings_of(Args((), Path("o"), preset="paper")))
    found = (
        config.tau,
        config.gamma,
        config.alpha,
        config.mu1,
        config.mu2,
        config.b1,
        config.b2,
        config.ema,
    )
    assert found == (0.9, 0.99, 0.99, 3.0, 5.0, 1.0, 3.0, 0.001)
    assert (config.diffusion_steps, config.policy_steps, config.trust_interval) == (5, 1000000, 5)
    assert config.trust_start * config.policy_steps == 500000
    assert Args((), Path("o")).candidates == 16


def test_options_named_off_are_not_truth_values(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("sevpo: {trust_region: off, floor: true, unsafe_objective: none}")
    values = settings_of(Args((), Path("o"), preset=str(preset)))
    assert values == {"trust_region": "off", "floor": True, "unsafe_objective": "none"}
    given = settings_of(
        Args(
            (),
            Path("o"),
            preset="safety",
            set=("trust_region=off", "floor=False", "b2=0.5", "limit=1"),
        )
    )
    assert (
        given["trust_region"] == "off"
        and given["floor"] is False
        and given["b2"] == 0.5
        and given["limit"] == 1
    )
    assert make_config("sevpo", given).trust_region == "off"


def test_the_safety_preset_depends_on_whether_the_task_has_a_lidar(tmp_path):
    found = {}
    for name in ("CarGoal1", "HalfCheetahVelocity"):
        path = tmp_path / f"{name}.hdf5"
        path.write_bytes(b"")
        path.with_suffix(".json").write_text(f'{{"task": "{name}"}}')
        config = make_config(
            "sevpo", settings_of(Args((path,), tmp_path, preset="safety", set=["mu1=2"]))
        )
        found[name] = (config.unsafe_objective, config.b2, config.choice, config.mu1)
    assert found == {
        "CarGoal1": ("search", 1.0, "escape", 2),
        "HalfCheetahVelocity": ("gradient", 0.3, "argmax_reward", 2),
    }


def test_bad_settings_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match="unknown setting 'mu3' of sevpo"):
        train(Args((folder,), tmp_path / "x", set=["mu3=1"]))
    with pytest.raises(ValueError, match="is not name=value"):
        train(Args((folder,), tmp_path / "x", set=["mu1"]))
    with pytest.raises(ValueError, match="unknown algorithm 'ppo'"):
        train(Args((folder,), tmp_path / "x", algorithm="ppo"))
    with pytest.raises(ValueError, match="presets are laptop, paper, paper_printed, reach"):
        train(Args((folder,), tmp_path / "x", preset="big"))
    with pytest.raises(ValueError, match="members is 0, expected at least 1"):
        train(Args((folder,), tmp_path / "x", members=0))
    other = tmp_path / "mine.yaml"
    other.write_text("bc: {}")
    with pytest.raises(ValueError, match="mine.yaml has no settings for sevpo, only for bc"):
        train(Args((folder,), tmp_path / "x", preset=str(other)))
    with pytest.raises(shards.DatasetError, match="no dataset"):
        train(Args((tmp_path,), tmp_path / "x"))


@pytest.mark.parametrize("cut", [7, 13])
def test_members_with_dropout_resume_bit_for_bit_whenever_they_are_saved(dataset, tmp_path, cut):
    """Saving a member's policy builds networks, which draw weights; the training must not
    notice.
    """
    values = {"steps": 20, "batch": 16, "actor": "resnet", "width": 8, "depth": 1, "dropout": 0.5}

    def trainer(out, seed, save_every):
        torch.manual_seed(seed)
        algorithm = make_algorithm("bc", make_config("bc", values), dataset, 2)
        return Trainer(algorithm, dataset, tmp_path / out, {}, 0, 5, save_every, lambda _: None)

    seldom = trainer("a", 0, 1000)
    assert seldom.run()
    often = trainer("b", 0, 3)
    assert often.run()
    assert not trainer("c", 0, 4).run(cut)
    rest = trainer("c", 99, 6)
    rest.load()
    assert rest.run()
    weights = [flat(state(t)) for t in (seldom, often, rest)]
    assert all(torch.equal(x, y) and torch.equal(x, z) for x, y, z in zip(*weights))
    # The logs agree row by row, but for the speed.
    rows = [
        [row.split(",")[0:1] + row.split(",")[2:] for row in path.read_text().splitlines()]
        for path in (tmp_path / name / "policy.csv" for name in "abc")
    ]
    assert rows[0] == rows[1] == rows[2] and len(rows[0]) == 5


def test_a_run_begun_again_before_its_first_checkpoint_logs_every_step_once(folder, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "critics.csv").write_text("step,steps_per_second\n10,5\n20,5\n")
    assert train(Args((folder,), out, set=SETS, log_every=10))
    steps = [line.split(",")[0] for line in (out / "critics.csv").read_text().splitlines()[1:]]
    assert steps == ["10", "20", "30"]


def test_numbers_that_are_not_finite_end_the_training_and_spare_the_checkpoint(folder, tmp_path):
    out = tmp_path / "run"
    # The reward is scaled beyond what float32 holds.
    with pytest.raises(ValueError, match="stage policy.*is (nan|inf).*the last checkpoint is kept"):
        train(Args((folder,), out, set=SETS, log_every=5, save_every=30, reward_scale=1e38))
    assert load_policy(out / "policy_last.safetensors")[2]["stage"] == 0
    weights = flat(load_checkpoint(out / "checkpoint.safetensors", "offline")["algorithm"])
    assert all(torch.isfinite(w).all() for w in weights if w.is_floating_point())


def test_weights_that_are_not_finite_are_never_saved(dataset, tmp_path):
    algorithm = make_algorithm("bc", make_config("bc", {"steps": 4, "width": 8}), dataset)
    trainer = Trainer(algorithm, dataset, tmp_path, {}, 0, 1, 100, lambda _: None)
    trainer.save()
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    algorithm.average.denoiser.out.bias.data[0] = float("inf")
    with pytest.raises(NotFiniteError, match="average/denoiser.out.bias has numbers that are not"):
        trainer.save()
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
