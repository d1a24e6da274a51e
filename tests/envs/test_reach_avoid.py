import math

import gymnasium
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from go2_sevpo.envs.reach_avoid import task
from go2_sevpo.envs.reach_avoid import truth as truth_module
from go2_sevpo.envs.reach_avoid.truth import Resolution, Truth, certify, load_truth

pytestmark = pytest.mark.xdist_group("reach_avoid")


@pytest.fixture(scope="module")
def truth(reach_avoid_truth):
    return load_truth(reach_avoid_truth)


def test_one_step_is_euler_with_unit_controls():
    state = torch.tensor([[1.0, -1.0, 1.0, math.pi / 2]])
    new = task.advance(state, torch.tensor([[0.5, -3.0]]))  # the second is clipped to -1
    assert torch.allclose(new, torch.tensor([[1.0, -0.95, 1.025, math.pi / 2 - 0.05]]), atol=1e-6)
    assert task.advance(torch.tensor([[0.0, 0, 2.0, 0]]), torch.tensor([[1.0, 0]]))[0, 2] == 2.0


def test_cost_is_one_inside_the_hazard_only():
    env = task.ReachAvoid(2, auto_reset=False)
    env.reset(torch.tensor([[-0.85, 0.0, 1.0, 0.0], [-0.85, 0.0, 1.0, math.pi]]))
    zero = torch.zeros(2, 2)
    costs = torch.stack([env.step(zero)[2] for _ in range(3)])
    # Steps of 0.05: the first world is at 0.80, 0.75, 0.70 from the centre, the second leaves.
    assert costs[1:, 0].tolist() == [1.0, 1.0]
    assert costs[:, 1].tolist() == [0.0] * 3


def test_goal_ends_with_the_reward_and_leaving_is_no_success():
    env = task.ReachAvoid(2, auto_reset=False)
    env.reset(torch.tensor([[1.87, 2.2, 1.0, 0.0], [2.98, 0.0, 1.0, 0.0]]))
    _, reward, _, terminated, truncated, info = env.step(torch.zeros(2, 2))
    assert terminated.tolist() == [True, True]
    assert not truncated.any()
    assert info["success"].tolist() == [True, False]
    assert info["left"].tolist() == [False, True]
    assert reward[0].item() == pytest.approx(5.05, abs=1e-4)


def test_time_limit_truncates_and_the_final_observation_is_the_true_one():
    env = task.ReachAvoid(1)
    env.reset(torch.tensor([[-2.0, -2.0, 0.0, 0.0]]))
    for k in range(300):
        obs, _, _, terminated, truncated, info = env.step(torch.tensor([[-1.0, 0.0]]))
        assert not terminated
        assert bool(truncated) == (k == 299)
    assert info["final_observation"][0, :3].tolist() == [-2.0, -2.0, 0.0]
    assert obs[0, :2].tolist() != [-2.0, -2.0]


def test_observation_names_the_state():
    state = torch.tensor([task.PAPER_START])
    assert torch.allclose(task.state_of(task.observe(state)), state)
    assert task.observe(state).shape[-1] == len(task.OBSERVATION) == task.NUM_OBS


def test_gymnasium_accepts_the_environment():
    env = gymnasium.make(task.ENV_ID, start="random")
    check_env(env.unwrapped, skip_render_check=True)
    obs, _ = gymnasium.make(task.ENV_ID).reset()
    assert torch.allclose(torch.tensor(obs), task.observe(torch.tensor(task.PAPER_START)))
    with pytest.raises(ValueError, match="start is 'x', expected paper or random"):
        task.ReachAvoidGym("x")


def test_least_violation_is_the_straight_way_out_at_full_speed(truth):
    """From d inside the hazard, heading outwards at 2 m/s, (0.8 - d) / 0.1 steps are
    unavoidable.
    """
    for d in (0.1, 0.35, 0.55):
        state = torch.tensor([[-d, 0.0, 2.0, math.pi]])
        steps = math.floor((0.8 - d) / 0.1 - 1e-6)
        assert truth.least_violation(state).item() == pytest.approx(steps, abs=0.8)
        assert certify(truth, state, False)["cost"].item() == steps


def test_fast_and_close_is_unavoidable_slow_is_not(truth):
    fast, slow = torch.tensor([[-1.0, 0.0, 2.0, 0.0]]), torch.tensor([[-1.0, 0.0, 0.3, 0.0]])
    assert truth.least_violation(fast).item() > 3
    assert truth.least_violation(slow).item() < 0.1
    assert certify(truth, slow, False)["cost"].item() == 0


def test_least_violation_does_not_depend_on_rotation_or_reflection(truth):
    state = torch.tensor([[-0.9, 0.2, 1.5, 0.1]])
    a = 1.1
    x, y, v, theta = state[0].tolist()
    turned = [x * math.cos(a) - y * math.sin(a), x * math.sin(a) + y * math.cos(a), v, theta + a]
    mirrored = [x, -y, v, -theta]
    for other in (turned, mirrored):
        assert torch.allclose(
            truth.least_violation(torch.tensor([other])), truth.least_violation(state), atol=1e-4
        )


def test_the_lattice_agrees_with_the_symmetric_grid(truth):
    states = task.random_states(500, torch.Generator().manual_seed(0))
    a, b = truth.least_violation(states), truth.least_violation_4d(states)
    inside = (a > 0.5) & (b < 100)
    assert inside.sum() > 20
    assert (a - b)[inside].abs().mean() < 1.0


def test_greedy_control_reaches_the_goal_without_violation_where_the_table_says_so(truth):
    states = truth_module.feasible_starts(truth, 64, 0)
    proof = certify(truth, states, True)
    assert (proof["success"] & (proof["cost"] == 0)).float().mean() > 0.95
    paper = certify(truth, torch.tensor([task.PAPER_START]), True)
    assert bool(paper["success"])
    assert paper["cost"].item() == 0


def test_a_lattice_on_which_controls_move_nothing_is_refused():
    with pytest.raises(ValueError, match="6 speeds and 32 headings are too few"):
        truth_module.solve_reach(Resolution(speeds=6, headings=32), lambda _: None)


def test_tables_are_solved_once_and_cached(tmp_path, monkeypatch):
    calls = []
    for name in ("solve_reach", "solve_violation", "solve_violation_4d"):
        monkeypatch.setattr(
            truth_module, name, lambda *_, name=name: calls.append(name) or torch.rand(2, 2, 2, 2)
        )
    first = load_truth(tmp_path / "deep" / "t.safetensors", say=lambda _: None)
    again = load_truth(tmp_path / "deep" / "t.safetensors", say=lambda _: None)
    assert sorted(calls) == ["solve_reach", "solve_violation", "solve_violation_4d"]
    assert torch.equal(first.reach, again.reach)
    assert isinstance(again, Truth)
