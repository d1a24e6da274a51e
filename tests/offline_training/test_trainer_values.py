"""The trainer with an algorithm that only counts: what is written when, and what a resumed run
remembers.
"""

import csv
import os
import signal
import sys
import types

import pytest
import torch

from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.offline_training import trainer as trainer_module
from go2_sevpo.offline_training.evaluation.best import BestKeeper, read_curve
from go2_sevpo.offline_training.evaluation.go2 import go2_rank
from go2_sevpo.offline_training.trainer import MetricLog, Trainer, member_folder
from go2_sevpo.policies.torch_policy import GaussianPolicy, load_policy
from go2_sevpo.runs import progress
from go2_sevpo.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from go2_sevpo.runs.finite import NotFiniteError
from tests.conftest import make_episodes


class Writer:
    """Stands for TensorBoard's."""

    all = []

    def __init__(self, folder):
        self.folder, self.scalars, self.flushed = folder, [], 0
        Writer.all.append(self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def flush(self):
        self.flushed += 1


class Clock:
    """Stands still unless somebody moves it."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    Writer.all = []
    board = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    clock = Clock()
    monkeypatch.setattr(trainer_module, "time", clock)
    monkeypatch.setattr(progress, "time", clock)


@pytest.fixture(scope="module")
def data():
    return OfflineDataset([make_episodes((200, 150), 3, 2)])


class Counting:
    """Two stages; one weight that moves with momentum by random numbers of the trainer's and of
    torch's own stream.
    """

    def __init__(self, first=4, second=6, members=None):
        self.stages, self.members, self.lengths = (
            ("one", "two"),
            members,
            {"one": first, "two": second},
        )
        self.weight, self.momentum = torch.tensor([1.0]), torch.zeros(1)
        self.done, self.interrupt = [], None

    def steps(self, stage):
        return self.lengths[stage]

    def update(self, stage, step, data, generator):
        trainer_module.time.now += 0.5
        self.done.append((stage, step))
        self.given = data, generator
        if self.interrupt == (stage, step):
            os.kill(os.getpid(), signal.SIGINT)
        drawn = torch.rand(1, generator=generator) + 10.0 * torch.rand(1)
        self.momentum = 0.9 * self.momentum + drawn
        self.weight = self.weight - 0.1 * self.momentum
        return {"actor_loss": torch.tensor(float(step) ** 2), "v_c": torch.tensor(2.0)}

    def policy(self, choice=None, member=0):
        with torch.random.fork_rng(devices=[]):
            policy = GaussianPolicy([3, 2], torch.zeros(2), 1.0)
        policy.mlp[0].weight.data.fill_(self.weight.item() + 100.0 * member)
        return policy

    def state_dict(self):
        optimizer = {"state": {0: {"momentum": self.momentum}}}
        return {"weight": self.weight, "optimizer": optimizer}

    def load_state_dict(self, state):
        self.weight, self.momentum = state["weight"], state["optimizer"]["state"][0]["momentum"]


def make(
    out,
    data,
    algorithm=None,
    info=None,
    seed=5,
    log_every=2,
    save_every=1000,
    keeper=None,
    lines=None,
):
    out.mkdir(exist_ok=True)
    say = (lambda _: None) if lines is None else lines.append
    return Trainer(
        algorithm or Counting(), data, out, info or {}, seed, log_every, save_every, say, keeper
    )


def read(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def weights_of(path):
    return load_policy(path)[0].mlp[0].weight[0, 0].item()


def test_names_of_files(tmp_path):
    assert trainer_module.CHECKPOINT == "checkpoint.safetensors"
    assert trainer_module.POLICY == "policy_last.safetensors"
    assert trainer_module.BEST == "policy_best.safetensors"
    assert member_folder(tmp_path, 0) == tmp_path / "member_00"
    assert member_folder(tmp_path, 7) == tmp_path / "member_07"
    assert member_folder(tmp_path, 12) == tmp_path / "member_12"


def test_logged_numbers_are_means_since_the_last_flush(tmp_path):
    log = MetricLog(tmp_path)
    assert Writer.all[0].folder == str(tmp_path / "tensorboard")
    for value in (1.0, 2.0, 6.0):
        log.add({"a": torch.tensor(value), "b": torch.tensor(10.0 * value)})
    row = log.flush("one", 7, 2.5)
    assert row == {"step": 7.0, "steps_per_second": 2.5, "a": 3.0, "b": 30.0}
    log.add({"a": torch.tensor(4.0), "b": torch.tensor(0.5)})
    assert log.flush("one", 9, 1.25) == {"step": 9.0, "steps_per_second": 1.25, "a": 4.0, "b": 0.5}
    assert read(tmp_path / "one.csv") == [
        ["step", "steps_per_second", "a", "b"],
        ["7", "2.5", "3", "30"],
        ["9", "1.25", "4", "0.5"],
    ]
    assert Writer.all[0].scalars[:4] == [
        ("one/step", 7.0, 7),
        ("one/steps_per_second", 2.5, 7),
        ("one/a", 3.0, 7),
        ("one/b", 30.0, 7),
    ]
    assert Writer.all[0].scalars[-1] == ("one/b", 0.5, 9) and Writer.all[0].flushed == 2
    assert log.flush("two", 1, 0.0) == {"step": 1.0, "steps_per_second": 0.0}  # nothing was added


def test_defaults(tmp_path, data):
    trainer = Trainer(Counting(), data, tmp_path, {}, 0)
    assert (trainer.log_every, trainer.save_every, trainer.say) == (200, 2000, print)
    assert trainer.keeper is None and trainer.graphed is False


def test_stages_are_run_in_order_and_every_step_once(tmp_path, data):
    algorithm = Counting()
    trainer = make(tmp_path / "run", data, algorithm)
    assert (trainer.stage, trainer.step) == (0, 0)
    assert trainer.run() is True
    expected = [("one", k) for k in range(4)] + [("two", k) for k in range(6)]
    assert algorithm.done == expected
    assert (trainer.stage, trainer.step) == (2, 0)
    assert algorithm.given[0] is data and algorithm.given[1] is trainer.generator
    assert trainer.run() is True and algorithm.done == expected  # nothing is left


def test_rows_are_logged_every_so_many_steps_and_at_a_stages_end(tmp_path, data):
    make(tmp_path, data, Counting(5, 4), log_every=2).run()
    # Means of step^2 over steps (0, 1), (2, 3), (4); the same again without the last.
    assert [(r[0], r[2], r[3]) for r in read(tmp_path / "one.csv")[1:]] == [
        ("2", "0.5", "2"),
        ("4", "6.5", "2"),
        ("5", "16", "2"),
    ]
    assert [(r[0], r[2]) for r in read(tmp_path / "two.csv")[1:]] == [("2", "0.5"), ("4", "6.5")]
    assert read(tmp_path / "one.csv")[0] == ["step", "steps_per_second", "actor_loss", "v_c"]


def test_speed_is_steps_over_seconds_and_the_time_left_follows_from_the_stages_own(tmp_path, data):
    """A step takes half a second."""
    lines = []
    make(tmp_path, data, Counting(12, 3), log_every=2, lines=lines).run()
    assert [r[1] for r in read(tmp_path / "one.csv")[1:]] == ["2"] * 6
    assert [r[1] for r in read(tmp_path / "two.csv")[1:]] == ["2", "2"]
    # A line every fifth row and at the end: 10 steps took 5 s, so 2 steps take 1 s.
    assert lines == [
        "one 10/12  2 steps/s  actor_loss 72.5  v_c 2  ETA 1 s",
        "one 12/12  2 steps/s  actor_loss 110  v_c 2  ETA 0 s",
        "two 3/3  2 steps/s  actor_loss 4  v_c 2  ETA 0 s",
    ]


def test_there_is_a_line_every_fifth_row_whatever_the_steps_between_rows(tmp_path, data):
    lines = []
    make(tmp_path, data, Counting(30, 0), log_every=5, lines=lines).run()
    assert [line.split()[1] for line in lines] == ["25/30", "30/30"]


def test_a_line_shows_losses_values_and_shares_in_their_order(tmp_path, data):
    names = (
        "clipped_share",
        "unsafe_share",
        "safe_share",
        "q_r",
        "v_c",
        "q_loss",
        "v_loss",
        "actor_loss",
        "other",
    )

    class Talking(Counting):
        def update(self, *arguments):
            trainer_module.time.now += 1.0
            return {name: torch.tensor(float(k + 1)) for k, name in enumerate(names)}

    lines = []
    make(tmp_path, data, Talking(0, 1), lines=lines).run()
    assert lines == [
        "two 1/1  1 steps/s  actor_loss 8  v_loss 7  q_loss 6  v_c 5  q_r 4  safe_share 3  "
        "unsafe_share 2  "
        "clipped_share 1  ETA 0 s"
    ]


def test_time_left_of_a_resumed_stage_counts_its_new_steps_only(tmp_path, data):
    assert not make(tmp_path, data, Counting(16, 1)).run(4)
    lines = []
    trainer = make(tmp_path, data, Counting(16, 1), lines=lines)
    trainer.load()
    trainer.run()
    # Rows at 6, 8 and 10: 6 steps in 3 s, 6 are left.
    assert lines[0] == "one 10/16  2 steps/s  actor_loss 72.5  v_c 2  ETA 3 s"


def test_evaluations_are_no_training_time(tmp_path, data):
    """A step takes two seconds, an evaluation 100 s: 0.5 steps/s, and 2 steps are left after 10."""
    lines, clock = [], trainer_module.time

    class Slow(Counting):
        def update(self, *arguments):
            clock.now += 1.5
            return super().update(*arguments)

    def evaluate(policy):
        clock.now += 100.0
        return {"success": 0.0, "cost": 0.0}

    keeper = BestKeeper(evaluate, 2, tmp_path, go2_rank)
    make(tmp_path, data, Slow(1, 12), keeper=keeper, lines=lines).run()
    assert [r[1] for r in read(tmp_path / "two.csv")[1:]] == ["0.5"] * 6
    shown = [line for line in lines if line.startswith("two 10/12")]
    assert len(shown) == 1 and shown[0].endswith("ETA 4 s")


@pytest.mark.parametrize(
    "save_every, expected",
    [(3, [(0, 3), (1, 3), (1, 6), (2, 0)]), (4, [(0, 4), (1, 4), (2, 0)]), (100, [(2, 0)])],
)
def test_checkpoints_are_written_every_so_many_steps_and_at_the_end(
    tmp_path, data, monkeypatch, save_every, expected
):
    saved, save = [], save_checkpoint

    def record(path, kind, state):
        saved.append((path.name, kind, state["stage"], state["step"]))
        save(path, kind, state)

    monkeypatch.setattr(trainer_module, "save_checkpoint", record)
    make(tmp_path, data, save_every=save_every).run()
    assert saved == [("checkpoint.safetensors", "offline", *x) for x in expected]


@pytest.mark.parametrize(
    "limit, stage, step", [(0, 0, 0), (3, 0, 3), (4, 1, 0), (5, 1, 1), (9, 1, 5)]
)
def test_a_run_stops_after_so_many_steps_and_keeps_where_it_was(tmp_path, data, limit, stage, step):
    algorithm = Counting()
    trainer = make(tmp_path, data, algorithm)
    assert trainer.run(limit) is False
    assert len(algorithm.done) == limit and (trainer.stage, trainer.step) == (stage, step)
    state = load_checkpoint(tmp_path / "checkpoint.safetensors", "offline")
    assert (state["stage"], state["step"], state["best"]) == (stage, step, None)
    assert state["info"] == {}


def test_a_limit_of_all_steps_is_no_interruption(tmp_path, data):
    assert make(tmp_path, data).run(10) is True


@pytest.mark.parametrize("cut", [1, 3, 4, 7])
def test_a_resumed_run_is_where_an_uninterrupted_one_is(tmp_path, data, cut):
    """The weight depends on the trainer's random numbers, on torch's and on the optimiser's
    momentum.
    """
    torch.manual_seed(1)
    whole = Counting()
    make(tmp_path / "whole", data, whole).run()
    torch.manual_seed(1)
    assert make(tmp_path / "cut", data).run(cut) is False
    torch.manual_seed(2)
    rest = Counting()
    rest.weight, rest.momentum = torch.tensor([7.0]), torch.tensor([3.0])
    trainer = make(tmp_path / "cut", data, rest, seed=99)
    trainer.load()
    assert trainer.run() is True
    assert torch.equal(rest.weight, whole.weight)
    assert torch.equal(rest.momentum, whole.momentum)
    assert len(rest.done) == 10 - cut
    for name in ("one.csv", "two.csv"):
        texts = [(tmp_path / run / name).read_text() for run in ("whole", "cut")]
        kept = [[r.split(",")[0] for r in t.splitlines()] for t in texts]
        assert set(kept[0]) <= set(kept[1])


def test_a_curve_at_rest_ends_the_last_stage_and_the_run(tmp_path, data):
    algorithm, asked, lines = Counting(2, 12), [], []
    keeper = BestKeeper(lambda _: {"success": 0.0, "cost": 0.0}, 3, tmp_path, go2_rank)
    trainer = make(tmp_path, data, algorithm, keeper=keeper, lines=lines)
    trainer.settled = lambda: asked.append(trainer.step) or len(asked) == 2
    assert trainer.run() is True
    assert asked == [3, 6]
    assert [p["step"] for p in read_curve(tmp_path)] == [3.0, 6.0]
    assert any("settled after 6 of at most 12 steps" in line for line in lines)
    # It has ended: going on does nothing.
    again = make(tmp_path, data, Counting(2, 12), keeper=keeper)
    again.load()
    assert again.run() is True
    assert len(read_curve(tmp_path)) == 2


def test_what_is_restored_is_what_was_saved(tmp_path, data):
    keeper = BestKeeper(lambda _: {"success": 0.25, "cost": 3.0}, 2, tmp_path, go2_rank)
    trainer = make(tmp_path, data, Counting(2, 6), keeper=keeper)
    trainer.run(5)
    states = trainer.generator.get_state(), torch.get_rng_state()
    torch.rand(3)
    fresh = BestKeeper(lambda _: {"success": 0.1, "cost": 0.0}, 2, tmp_path, go2_rank)
    again = make(tmp_path, data, Counting(2, 6), keeper=fresh, seed=1)
    assert not torch.equal(again.generator.get_state(), states[0])
    again.load()
    assert (again.stage, again.step) == (1, 3)
    assert torch.equal(again.generator.get_state(), states[0])
    assert torch.equal(torch.get_rng_state(), states[1])
    assert again.keeper.best == {0: [0.25, -3.0]}
    # A worse policy than the one before the interruption does not become the best.
    best = (tmp_path / "policy_best.safetensors").read_bytes()
    again.run()
    assert (tmp_path / "policy_best.safetensors").read_bytes() == best
    assert again.keeper.best == {0: [0.25, -3.0]}
    final = load_checkpoint(tmp_path / "checkpoint.safetensors", "offline")
    assert final["best"] == {0: [0.25, -3.0]}


def test_checkpoints_without_evaluations_give_an_empty_best(tmp_path, data):
    make(tmp_path, data).run(3)
    keeper = BestKeeper(lambda _: {}, 2, tmp_path, go2_rank)
    keeper.best = {0: [1.0, 1.0]}
    trainer = make(tmp_path, data, keeper=keeper)
    trainer.load()
    assert trainer.keeper.best == {}
    state = load_checkpoint(tmp_path / "checkpoint.safetensors", "offline")
    del state["best"]  # as older runs wrote it
    save_checkpoint(tmp_path / "checkpoint.safetensors", "offline", state)
    trainer.load()
    assert trainer.keeper.best == {}


def test_logs_forget_what_was_done_after_the_checkpoint(tmp_path, data):
    make(tmp_path, data, Counting(4, 6), log_every=1).run(7)  # one is done, three steps of two
    (tmp_path / "evaluation.csv").write_text("step,member\r\n2,0\r\n3,0\r\n4,0\r\n")
    with open(tmp_path / "two.csv", "a", encoding="utf-8") as handle:
        handle.write("4,1,1,1\r\n5,1,1,1\r\n")
    make(tmp_path, data, Counting(4, 6)).load()
    assert [r[0] for r in read(tmp_path / "one.csv")] == ["step", "1", "2", "3", "4"]
    assert [r[0] for r in read(tmp_path / "two.csv")] == ["step", "1", "2", "3"]
    assert read(tmp_path / "evaluation.csv") == [["step", "member"], ["2", "0"], ["3", "0"]]


def test_logs_of_later_stages_are_forgotten_altogether(tmp_path, data):
    make(tmp_path, data, Counting(4, 6), log_every=1).run(2)
    for name in ("two", "evaluation"):
        (tmp_path / f"{name}.csv").write_text("step,x\r\n1,0\r\n2,0\r\n")
    with open(tmp_path / "one.csv", "a", encoding="utf-8") as handle:
        handle.write("3,1,1,1\r\n")
    make(tmp_path, data, Counting(4, 6)).load()
    assert [r[0] for r in read(tmp_path / "one.csv")] == ["step", "1", "2"]
    assert read(tmp_path / "two.csv") == [["step", "x"]]
    assert read(tmp_path / "evaluation.csv") == [["step", "x"]]


def test_logs_of_a_finished_run_stay(tmp_path, data):
    make(tmp_path, data, Counting(4, 6), log_every=2).run()
    (tmp_path / "evaluation.csv").write_text("step,x\r\n6,0\r\n")
    make(tmp_path, data, Counting(4, 6)).load()
    assert [r[0] for r in read(tmp_path / "two.csv")] == ["step", "2", "4", "6"]
    assert read(tmp_path / "evaluation.csv") == [["step", "x"], ["6", "0"]]


INFO = {
    "algorithm": "a",
    "config": {"x": 1},
    "dataset": "d",
    "seed": 3,
    "members": None,
    "version": 1,
}


@pytest.mark.parametrize("key", ["algorithm", "config", "dataset", "seed", "members"])
def test_a_run_goes_on_only_with_what_it_was_begun_with(tmp_path, data, key):
    make(tmp_path, data, info=INFO).run(3)
    make(tmp_path, data, info={**INFO, "version": 2}).load()  # of another version of the program
    other = make(tmp_path, data, info={**INFO, key: "other"})
    with pytest.raises(CheckpointError) as error:
        other.load()
    assert str(error.value) == f"{tmp_path} was begun with {key} {INFO[key]}, now other"
    assert (other.stage, other.step) == (0, 0)
    missing = make(tmp_path, data, info={k: v for k, v in INFO.items() if k != "dataset"})
    with pytest.raises(CheckpointError, match="was begun with dataset d, now None"):
        missing.load()


def test_only_checkpoints_of_training_are_gone_on_from(tmp_path, data):
    with pytest.raises(CheckpointError, match="no checkpoint at .*checkpoint.safetensors"):
        make(tmp_path, data).load()
    save_checkpoint(tmp_path / "checkpoint.safetensors", "policy", {})
    with pytest.raises(CheckpointError, match="is a 'policy' checkpoint, expected 'offline'"):
        make(tmp_path, data).load()


def test_a_run_leaves_its_policy_with_logged_observations_and_where_it_comes_from(tmp_path, data):
    algorithm = Counting()
    make(tmp_path, data, algorithm, INFO).run(6)
    policy, observations, info = load_policy(tmp_path / "policy_last.safetensors")
    assert policy.mlp[0].weight[0, 0].item() == algorithm.weight.item()
    assert info == {**INFO, "stage": 1, "step": 2}
    # 256 rows spread evenly over the data's 350, from the first to the last, as they were before
    # they were normalised.
    rows = torch.linspace(0, 349, 256).long()
    assert rows[0] == 0 and rows[-1] == 349
    raw = torch.from_numpy(make_episodes((200, 150), 3, 2).columns["observations"])
    torch.testing.assert_close(observations, raw[rows], rtol=1e-4, atol=1e-5)
    assert not (tmp_path / "policy_best.safetensors").exists()


def test_logged_observations_are_without_nearness(tmp_path):
    episodes = make_episodes((30, 30), 3, 2)
    near = OfflineDataset([episodes], lidar=(1, 0.5))
    make(tmp_path, near).run(1)
    observations = load_policy(tmp_path / "policy_last.safetensors")[1]
    assert observations.shape == (256, 3) and near.num_obs == 5
    expected = torch.from_numpy(episodes.columns["observations"])
    torch.testing.assert_close(observations[[0, -1]], expected[[0, -1]], rtol=1e-4, atol=1e-5)


def test_members_have_folders_of_their_own(tmp_path, data):
    algorithm = Counting(members=3)
    keeper = BestKeeper(lambda p: {"success": 0.0, "cost": 0.0}, 6, tmp_path, go2_rank)
    make(tmp_path, data, algorithm, INFO, keeper=keeper).run()
    last = algorithm.weight.item()
    for k in range(3):
        for name, more in (("last", {}), ("best", {"evaluation": {"success": 0.0, "cost": 0.0}})):
            path = tmp_path / f"member_{k:02d}" / f"policy_{name}.safetensors"
            assert weights_of(path) == pytest.approx(last + 100.0 * k)
            found = load_policy(path)[2]
            stage, step = (2, 0) if name == "last" else (1, 6)
            assert found == {**INFO, "stage": stage, "step": step, **more, "member": k}
    assert not (tmp_path / "member_03").exists()
    assert not list(tmp_path.glob("policy_*"))
    assert [r[:2] for r in read(tmp_path / "evaluation.csv")[1:]] == [
        ["6", "0"],
        ["6", "1"],
        ["6", "2"],
    ]
    assert sorted(keeper.best) == [0, 1, 2]


def test_one_member_has_a_folder_too(tmp_path, data):
    make(tmp_path, data, Counting(members=1)).run(1)
    assert load_policy(tmp_path / "member_00" / "policy_last.safetensors")[2]["member"] == 0
    assert not (tmp_path / "policy_last.safetensors").exists()


def test_the_last_stage_is_evaluated_when_due_and_the_best_is_kept(tmp_path, data):
    algorithm, lines, seen = Counting(4, 5), [], []
    found = iter([(0.5, 3.0), (0.25, 0.0), (0.75, 9.0)])

    def evaluate(policy):
        seen.append((algorithm.done[-1], policy.training, policy.mlp[0].weight[0, 0].item()))
        return dict(zip(("success", "cost"), next(found)))

    keeper = BestKeeper(evaluate, 2, tmp_path, go2_rank)
    make(tmp_path, data, algorithm, keeper=keeper, lines=lines).run()
    assert [s[0] for s in seen] == [("two", 1), ("two", 3), ("two", 4)]
    assert not any(s[1] for s in seen)
    assert [line for line in lines if line.startswith("evaluation")] == [
        "evaluation at 2, member 0: success 0.5  cost 3  (best so far)",
        "evaluation at 4, member 0: success 0.25  cost 0",
        "evaluation at 5, member 0: success 0.75  cost 9  (best so far)",
    ]
    policy, _, info = load_policy(tmp_path / "policy_best.safetensors")
    assert info == {"stage": 1, "step": 5, "evaluation": {"success": 0.75, "cost": 9.0}}
    assert policy.mlp[0].weight[0, 0].item() == seen[2][2]


def test_evaluated_policies_are_copies(tmp_path, data):
    algorithm = Counting(0, 2)
    own = algorithm.policy()
    own.train()
    algorithm.policy = lambda choice=None, member=0: own

    def evaluate(policy):
        assert policy is not own
        policy.mlp[0].weight.data.fill_(9.0)
        return {"success": 0.0, "cost": 0.0}

    make(tmp_path, data, algorithm, keeper=BestKeeper(evaluate, 1, tmp_path, go2_rank)).run()
    assert own.training and own.mlp[0].weight[0, 0].item() == 1.0
    assert weights_of(tmp_path / "policy_best.safetensors") == 1.0


def test_an_interrupt_ends_the_run_after_the_step_with_a_checkpoint(tmp_path, data):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    algorithm = Counting()
    algorithm.interrupt = ("two", 1)
    trainer = make(tmp_path, data, algorithm)
    assert trainer.run() is False
    assert algorithm.done[-1] == ("two", 1)
    state = load_checkpoint(tmp_path / "checkpoint.safetensors", "offline")
    assert (state["stage"], state["step"]) == (1, 2)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_random_numbers_follow_from_the_seed(tmp_path, data):
    expected = torch.rand(4, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.rand(4, generator=make(tmp_path, data, seed=5).generator), expected)


def test_whole_steps_can_be_captured(tmp_path, data, monkeypatch):
    made = []

    class Graphed:
        def __init__(self, *parts):
            made.append(parts)

        def update(self, stage, step):
            made.append((stage, step))
            return {"actor_loss": torch.tensor(1.0)}

    graphs = types.SimpleNamespace(GraphedUpdates=Graphed)
    monkeypatch.setitem(sys.modules, "go2_sevpo.offline_training.graphs", graphs)
    algorithm = Counting(1, 2)
    trainer = Trainer(algorithm, data, tmp_path, {}, 0, say=lambda _: None, graphed=True)
    assert trainer.run() and algorithm.done == []
    assert made == [(algorithm, data, trainer.generator), ("one", 0), ("two", 0), ("two", 1)]


def test_a_row_that_a_stop_cut_in_two_is_the_same_after_the_resume(tmp_path, data):
    assert make(tmp_path / "whole", data, Counting(8, 4), log_every=4).run()
    cut = make(tmp_path / "cut", data, Counting(8, 4), log_every=4)
    assert not cut.run(6)  # two steps into the second row
    rest = make(tmp_path / "cut", data, Counting(8, 4), log_every=4, seed=99)
    rest.load()
    assert not rest.run(1)  # what was loaded is taken once
    assert rest.run()
    for name in ("one.csv", "two.csv"):
        whole, again = (read(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert [(r[0], *r[2:]) for r in whole] == [(r[0], *r[2:]) for r in again]


def test_a_stop_before_the_first_step_has_nothing_logged(tmp_path, data):
    make(tmp_path, data, Counting()).save()
    assert load_checkpoint(tmp_path / trainer_module.CHECKPOINT, "offline")["log"] is None
    again = make(tmp_path, data, Counting())
    again.load()
    assert again.run()


def test_a_logged_value_that_is_not_finite_is_told_with_its_steps(tmp_path, data):
    class Breaking(Counting):
        def update(self, stage, step, *others):
            found = super().update(stage, step, *others)
            return {**found, "v_c": torch.tensor(float("nan"))} if step == 2 else found

    text = "^stage one, steps up to 4: v_c is nan, expected a finite number; the last checkpoint is"
    with pytest.raises(NotFiniteError, match=text):
        make(tmp_path, data, Breaking(), log_every=2).run()
    assert [r[0] for r in read(tmp_path / "one.csv")[1:]] == ["2"]
    assert not (tmp_path / trainer_module.CHECKPOINT).exists()


def test_a_weight_that_is_not_finite_is_told_with_its_stage(tmp_path, data):
    trainer = make(tmp_path, data, Counting())
    trainer.step = 3
    trainer.algorithm.weight = torch.tensor([1.0, float("inf")])
    text = "^step 3 of stage number 1: weight has numbers that are not finite; the last checkpoint"
    with pytest.raises(NotFiniteError, match=text):
        trainer.save()
    assert not (tmp_path / trainer_module.CHECKPOINT).exists()
