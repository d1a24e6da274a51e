"""Evaluation during training by numbers: ranks, the best of each member, when it is due, what the
curve says.
"""

import numpy as np
import pytest
import torch

from go2_sevpo.data.shards import DatasetError
from go2_sevpo.envs.seeds import EVALUATION
from go2_sevpo.offline_training.evaluation import best
from go2_sevpo.offline_training.evaluation import go2 as evaluation
from go2_sevpo.offline_training.evaluation.best import BestKeeper, read_curve
from go2_sevpo.offline_training.evaluation.go2 import (
    courses_of,
    go2_evaluator,
    go2_rank,
    torch_actor,
)


def test_names():
    assert best.CURVE == "evaluation.csv" and evaluation.GO2 == "go2_sevpo/Go2Parkour-v0"


def test_rank_is_most_successes_then_least_cost():
    assert go2_rank({"success": 0.75, "fall": 0.5, "cost": 3.0}) == [0.75, -3.0]
    order = [(0.5, 0.0), (0.6, 9.0), (0.6, 8.5), (0.7, 100.0)]
    ranks = [go2_rank({"success": s, "cost": c}) for s, c in order]
    assert ranks == sorted(ranks)


def keeper_of(found, out, every=10, **options):
    values = iter(found)
    options = {"rank": go2_rank, **options}
    return BestKeeper(lambda policy: dict(next(values), policy=policy), every, out, **options)


def test_every_member_keeps_its_own_best_and_ties_keep_the_earlier(tmp_path):
    found = [
        {"success": 0.5, "cost": 2.0},
        {"success": 0.1, "cost": 1.0},  # the first of each member is the best so far
        {"success": 0.5, "cost": 2.0},
        {"success": 0.1, "cost": 0.5},  # the same again; cheaper
        {"success": 0.4, "cost": 0.0},
        {"success": 0.0, "cost": 0.0},
        {"success": 0.5, "cost": 1.5},
        {"success": 0.2, "cost": 9.0},
    ]
    keeper = keeper_of(found, tmp_path)
    better = [keeper.offer(k % 2, 10 * (k // 2), 7.0)[0] for k in range(8)]
    assert better == [True, True, False, True, False, False, True, True]
    assert keeper.best == {0: [0.5, -1.5], 1: [0.2, -9.0]}


def test_an_offer_returns_what_was_found_and_logs_it_with_six_decimals(tmp_path):
    third = {"success": 1.0 / 3.0, "cost": 1234.56789012}
    keeper = keeper_of([third, third], tmp_path, rank=lambda found: [-found["cost"]])
    assert keeper.offer(3, 40, 2.0) == (True, {**third, "policy": 2.0})
    assert keeper.best == {3: [-1234.56789012]}
    keeper.offer(0, 50, 2.5)
    assert (tmp_path / "evaluation.csv").read_text().splitlines() == [
        "step,member,success,cost,policy",
        "40,3,0.333333,1234.57,2",
        "50,0,0.333333,1234.57,2.5",
    ]
    assert read_curve(tmp_path) == [
        {"step": 40.0, "member": 3.0, "success": 0.333333, "cost": 1234.57, "policy": 2.0},
        {"step": 50.0, "member": 0.0, "success": 0.333333, "cost": 1234.57, "policy": 2.5},
    ]


def test_rounding_is_for_the_log_alone(tmp_path):
    keeper = keeper_of(
        [{"success": 0.5, "cost": 0.0}, {"success": 0.5000000001, "cost": 0.0}], tmp_path
    )
    assert [keeper.offer(0, k, 0.0)[0] for k in range(2)] == [True, True]
    tiny = keeper_of([{"success": 0.0000004, "cost": 0.0000016}], tmp_path / "..")
    tiny.out = tmp_path / "tiny"
    tiny.out.mkdir()
    tiny.offer(0, 1, 0.0)
    assert read_curve(tiny.out)[0]["success"] == 0.0
    assert read_curve(tiny.out)[0]["cost"] == 2e-6


def test_a_run_without_evaluations_has_no_curve(tmp_path):
    assert read_curve(tmp_path) == []


@pytest.mark.parametrize(
    "step, total, expected",
    [
        (9, 25, False),
        (10, 25, True),
        (11, 25, False),
        (20, 25, True),
        (24, 25, False),
        (25, 25, True),
        (26, 25, False),
        (30, 25, True),
    ],
)
def test_evaluation_is_due_every_so_many_steps_and_at_the_end(tmp_path, step, total, expected):
    assert BestKeeper(lambda _: {}, 10, tmp_path, go2_rank).due(step, total) is expected


def test_courses_of_a_dataset_are_each_named_once_in_order():
    def manifest(*courses, name="go2_sevpo/Go2Parkour-v0"):
        parts = [{"info": {"source": {"course": c}}} for c in courses]
        return {"environment": {"name": name}, "shards": parts}

    assert courses_of(manifest("simple", "hard", "simple", "flat")) == ("flat", "hard", "simple")
    text = (
        "^evaluation .* go2_sevpo/Go2Parkour-v0 or a Safety-Gymnasium task, but the "
        "dataset is of {}$"
    )
    with pytest.raises(DatasetError, match=text.format("other")):
        courses_of(manifest("simple", name="other"))
    for unknown in ({"shards": []}, {"environment": None, "shards": []}, {"environment": {}}):
        with pytest.raises(DatasetError, match=text.format("an unknown one")):
            courses_of(unknown)


class Echo:
    """Action: the first noise; cost value: the first observation number plus the spent cost."""

    def __init__(self, needs_cost=False, **sampler):
        self.needs_cost = needs_cost
        self.sampler = {"choice": "first_safe", "steps": 3, "noise_scale": 1.0, **sampler}
        self.noise = []

    def __call__(self, observation, noise, spent=None):
        self.noise.append(noise)
        value = observation[:, 0] if spent is None else observation[:, 0] + spent
        return noise[:, 0, 0] / observation[:, :1], value, torch.zeros(len(noise)).long()


def test_actors_draw_their_noise_from_a_stream_of_their_own():
    generator = torch.Generator().manual_seed(5)
    expected = [torch.randn(2, 4, 3, 12, generator=generator) for _ in range(2)]
    policy, state = Echo(), torch.get_rng_state()
    play = torch_actor(policy, 4, 5)
    obs = torch.tensor([[2.0], [0.0]])
    found = [play(obs, torch.zeros(2)) for _ in range(2)]
    for noise, wanted, (action, value) in zip(policy.noise, expected, found):
        assert torch.equal(noise, wanted)
        assert torch.equal(action[0], wanted[0, 0, 0] / 2.0)
        assert torch.isfinite(action).all() and value.tolist() == [2.0, 0.0]
    assert torch.equal(torch.get_rng_state(), state)
    alone = Echo(choice="first", steps=2, noise_scale=0.5)
    torch_actor(alone, 4, 5)(obs, torch.zeros(2))
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(alone.noise[0], 0.5 * torch.randn(2, 1, 2, 12, generator=generator))


def test_actors_that_need_it_get_the_spent_cost_and_nan_actions_become_zero():
    play = torch_actor(Echo(True, noise_scale=0.0), 1, 0)
    action, value = play(torch.tensor([[1.0], [0.0]]), torch.tensor([3.0, 0.5]))
    assert value.tolist() == [4.0, 0.5]
    assert torch.equal(action, torch.zeros(2, 12))  # 0 / 0 in the second row


def test_actors_need_no_gradients():
    weight = torch.ones(1, requires_grad=True)

    class Learning(Echo):
        def __call__(self, observation, noise, spent=None):
            return observation * weight, observation[:, 0] * weight, noise[:, 0, 0, 0].long()

    action, value = torch_actor(Learning(), 1, 0)(torch.ones(2, 12), torch.zeros(2))
    assert not action.requires_grad and not value.requires_grad


def test_go2_evaluation_is_the_mean_over_episodes_and_then_over_courses(monkeypatch):
    made, closed, played = [], [], []

    class World:
        def __init__(self, config):
            self.config = config
            made.append(config)

        def close(self):
            closed.append(self.config.courses)

    def run(world, actor, seed):
        played.append((world.config.courses, seed, actor))
        numbers = {
            "flat": ((True, False, 1.0), (False, True, 4.0), (True, False, 0.0), (True, True, 1.0)),
            "hard": (
                (False, True, 10.0),
                (False, True, 20.0),
                (False, False, 0.0),
                (True, False, 2.0),
            ),
        }[world.config.courses[0]]
        episodes = [dict(zip(("success", "fall", "cost"), n)) for n in numbers]
        return type("Played", (), {"episodes": episodes})

    monkeypatch.setattr(evaluation, "Go2Parkour", World)
    monkeypatch.setattr(evaluation, "run_episodes", run)
    monkeypatch.setattr(evaluation, "torch_actor", lambda *arguments: arguments)
    found = go2_evaluator(("flat", "hard"), 4, 6, 3, "other", 2)("policy")
    assert found == {
        "success/flat": 0.75,
        "fall/flat": 0.5,
        "cost/flat": 1.5,
        "success/hard": 0.25,
        "fall/hard": 0.5,
        "cost/hard": 8.0,
        "success": 0.5,
        "fall": 0.5,
        "cost": 4.75,
    }
    assert all(isinstance(v, float) and not isinstance(v, np.floating) for v in found.values())
    assert closed == [("flat",), ("hard",)]
    for config, course in zip(made, ("flat", "hard")):
        assert config.courses == (course,) and config.num_envs == config.variants == 4
        # Seeds of their own, the same ones at every evaluation.
        assert config.course_seed == config.seed == EVALUATION.first + 3 * 10000
        assert config.threads == 2 and config.simulator == "other"
    stream = EVALUATION.number(3)
    assert played == [((c,), stream, ("policy", 6, stream)) for c in ("flat", "hard")]
    made.clear()
    go2_evaluator(("flat",), 4, 6)("policy")
    assert made[0].course_seed == made[0].seed == EVALUATION.first
    assert made[0].threads == 1 and made[0].simulator == "mujoco"


def test_worlds_are_closed_even_if_playing_fails(monkeypatch):
    closed = []

    class World:
        def __init__(self, config):
            pass

        def close(self):
            closed.append(True)

    def fail(*_):
        raise RuntimeError("fell over")

    monkeypatch.setattr(evaluation, "Go2Parkour", World)
    monkeypatch.setattr(evaluation, "run_episodes", fail)
    with pytest.raises(RuntimeError, match="fell over"):
        go2_evaluator(("flat",), 1, 1)(Echo())
    assert closed == [True]
