"""Handing over from one policy to another, on the real simulator.

A policy without noise in a world without noise does the same again: put back k steps before its own
fall, it falls after exactly k steps. That holds nothing but the physics.
"""

import pytest
import torch

from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.handover import Handover, Moments, uniform_steps
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import onnx_policy, run_episodes
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy


def worlds(n=3, seconds=2.0):
    config = ParkourConfig(
        num_envs=n,
        courses=("simple",),
        variants=n,
        course_seed=11,
        seed=5,
        threads=1,
        episode_seconds=seconds,
        randomization=Randomization.off(),
    )
    return Go2Parkour(config)


def shipped(name):
    return onnx_policy(OnnxPolicy(find_policy(name)), 0, 0.0)


def test_the_same_policy_falls_again_after_just_as_many_steps():
    env = worlds()
    ago = torch.tensor([[1, 1, 1], [7, 20, 31]])
    moments = Moments(ago)
    first = run_episodes(env, shipped("weak"), 5, keep=True, each_step=moments.keep)
    assert all(record["fall"] for record in first.episodes) and moments.known.all()
    for number, steps in enumerate(ago.tolist()):
        start = moments.start(env, number)
        # What was observed there then is observed there again.
        ends = torch.tensor([r["length"] for r in first.episodes]).cumsum(0)
        rows = [int(e) - s for e, s in zip(ends, steps)]
        then = torch.from_numpy(first.columns["observations"][rows])
        assert torch.equal(start, then)
        again = run_episodes(env, shipped("weak"), 5, start=start)
        assert [r["length"] for r in again.episodes] == steps
        assert all(r["fall"] for r in again.episodes)
    env.close()


def test_moments_before_the_episode_began_are_not_known():
    env = worlds(1)
    moments = Moments(torch.tensor([[100000]]))
    run_episodes(env, shipped("weak"), 5, each_step=moments.keep)
    with pytest.raises(ValueError, match="no world has fallen after so many steps"):
        moments.start(env, 0)
    env.close()
    with pytest.raises(ValueError, match=r"shape \(2,\) and are at least 0, expected \(moments, w"):
        Moments(torch.tensor([0, 1]))


def test_who_acts_is_recorded_row_by_row():
    env, asked = worlds(3, 0.2), []

    def acting(value):
        def act(obs, spent):
            asked.append((value, len(obs)))
            return torch.full((len(obs), 12), value), torch.full((len(obs),), value)

        return act

    both = Handover(env, acting(0.1), acting(-0.1), torch.tensor([0, 4, 99]))
    rollout = run_episodes(env, both, 5, keep=True)
    assert [r["length"] for r in rollout.episodes] == [10, 10, 10]
    expected = [1] * 10 + [0] * 4 + [1] * 6 + [0] * 10
    assert both.column().tolist() == expected
    actions = rollout.columns["actions"][:, 0]
    assert actions.tolist() == pytest.approx([-0.1 if w else 0.1 for w in expected])
    assert asked[:2] == [(0.1, 2), (-0.1, 1)] and asked[-1] == (-0.1, 2)
    env.close()


def test_steps_are_drawn_between_two_times():
    steps = uniform_steps(0.1, 0.2, 500, torch.Generator().manual_seed(0))
    assert sorted(set(steps.tolist())) == [5, 6, 7, 8, 9, 10]
