"""Policies by numbers: which candidate is taken, what the actors compute, what a policy file gives
back.
"""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import nn

from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.data.shards import Episodes
from go2_sevpo.networks.diffusion import Diffusion
from go2_sevpo.networks.layers import Critic, Denoiser, Normalizer, Value
from go2_sevpo.policies import torch_policy as policy_module
from go2_sevpo.policies.torch_policy import (
    BudgetPolicy,
    DiffusionPolicy,
    GaussianPolicy,
    act,
    budget_feature,
    load_policy,
    save_policy,
)
from go2_sevpo.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

close = torch.testing.assert_close


class Encoder(nn.Module):
    """A denoiser whose context is ten times the (normalised) observation."""

    def encode(self, obs):
        return 10.0 * obs


class FirstNoise(nn.Module):
    """A sampler whose action is its first noise times the temperature; keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.denoiser, self.given = Encoder(), {}

    def sample(self, obs, noise, temperature, context):
        self.given = {"obs": obs, "noise": noise, "temperature": temperature, "context": context}
        return noise[:, 0] * temperature


class Table(nn.Module):
    """Heads (H, rows, actions): the row is the observation's first number, the column ten times the
    action's.
    """

    def __init__(self, heads):
        super().__init__()
        self.table = torch.tensor(heads)

    def forward(self, obs, action):
        row, column = obs[:, 0].round().long(), (10.0 * action[:, 0]).round().long()
        return self.table[:, row, column]


class Distance(nn.Module):
    """Costs of two heads that are linear in |action - goal|, the goal being the observation's
    second number.
    """

    def forward(self, obs, action):
        distance = (action[:, 0] - obs[:, 1]).abs()
        return torch.stack([distance, distance - 0.5])


def plain_normalizer(size=2):
    return Normalizer(torch.zeros(size), torch.ones(size))


def numbered(batch, candidates, steps=2, size=1):
    """Noise whose first step of candidate k is k / 10."""
    noise = torch.full((batch, candidates, steps, size), 0.77)
    noise[:, :, 0] = torch.arange(candidates, dtype=torch.float32)[None, :, None] / 10.0
    return noise


def choosing(choice, cost, reward=None, limit=0.0, rows=2):
    """Which of the candidates is taken in each of ``rows`` states."""
    reward = None if reward is None else Table(reward)
    policy = DiffusionPolicy(
        plain_normalizer(), FirstNoise(), 1.0, choice, Table(cost), reward, limit=limit
    )
    obs = torch.tensor([[float(k), 0.0] for k in range(rows)])
    action, value, candidate = policy(obs, numbered(rows, len(cost[0][0])))
    close(action[:, 0], candidate / 10.0)  # the action that was chosen is the one that is returned
    assert candidate.dtype == torch.int64 and candidate.shape == (rows,)
    close(value, torch.zeros(rows))
    return candidate.tolist()


# Costs (heads, states, candidates). The larger head is (4, 5, 3) and (2, 7, 6); by the smaller, (1,
# 0, 2) and (1, 0, -9), by their mean or by one head alone the least would be another.
COST = [[[1.0, 5.0, 2.0], [2.0, 0.0, -9.0]], [[4.0, 0.0, 3.0], [1.0, 7.0, 6.0]]]


@pytest.mark.parametrize("choice", ["first_safe", "escape"])
def test_candidates_are_drawn_where_the_first_is_beyond_the_limit_and_nowhere_else(choice):
    """The same answer as with all of them, row by row."""
    torch.manual_seed(0)
    policy = small_diffusion(choice).eval()
    obs, noise = torch.randn(40, 3), torch.randn(40, 5, 3, 2)
    with torch.no_grad():
        seen = policy.normalizer(obs)
        first = policy._sample(seen, noise[:, :1])[:, 0]
        cost = policy.cost_critic(seen, first).amax(0)
        drawn = []
        sample = policy.diffusion.sample
        policy.diffusion.sample = lambda o, n, *rest: drawn.append(len(n)) or sample(o, n, *rest)
        for share in (0.0, 0.5, 1.0):
            policy.limit = float(cost.quantile(1.0 - share)) + (1.0 - share) * 1e-6 - share * 1e-6
            unsafe = int((cost > policy.limit).sum())
            drawn.clear()
            action, _, candidate = policy(obs, noise)
            assert drawn == [40, 5 * unsafe]
            whole, number = policy._chosen(seen, noise)
            close(action, whole)
            assert torch.equal(candidate, number)
        assert unsafe == 40


def test_names_of_choices():
    assert policy_module.CHOICES == (
        "first",
        "first_safe",
        "escape",
        "argmin_cost",
        "argmax_reward",
    )
    assert policy_module.LIMITED == ("first_safe", "escape", "argmax_reward")
    assert policy_module.POLICY_KIND == "policy"
    assert not DiffusionPolicy.needs_cost and not GaussianPolicy.needs_cost
    assert BudgetPolicy.needs_cost


def test_first_takes_candidate_0_whatever_critics_say():
    assert choosing("first", COST) == [0, 0]
    only = torch.tensor([[3.0, 4.0]])
    policy = DiffusionPolicy(plain_normalizer(), FirstNoise())
    action, value, candidate = policy(only, torch.tensor([[[[0.3]], [[0.6]]]]))
    close(action, torch.tensor([[0.3]]))
    close(value, torch.zeros(1))
    assert candidate.tolist() == [0]


def test_argmin_cost_takes_the_least_of_the_larger_head():
    assert choosing("argmin_cost", COST) == [2, 0]
    assert choosing("argmin_cost", COST, limit=100.0) == [2, 0]


# The larger heads are (3, 2, 1, 5) and (6, 4, 4.5, 1.5); the smaller ones would all be within any
# of these limits.
FIRST_SAFE_COST = [
    [[3.0, -9.0, 1.0, -9.0], [-9.0, 4.0, -9.0, 1.5]],
    [[-9.0, 2.0, -9.0, 5.0], [6.0, -9.0, 4.5, -9.0]],
]


@pytest.mark.parametrize(
    "limit, expected",
    [
        (0.999, [2, 3]),  # none is within it: the least cost
        (1.0, [2, 3]),
        (1.499, [2, 3]),
        (1.999, [2, 3]),
        (2.0, [1, 3]),  # a cost equal to the limit is within it
        (2.001, [1, 3]),
        (3.0, [0, 3]),
        (3.999, [0, 3]),
        (4.0, [0, 1]),
        (4.5, [0, 1]),
        (6.0, [0, 0]),
    ],
)
def test_first_safe_takes_the_first_candidate_within_the_limit(limit, expected):
    assert choosing("first_safe", FIRST_SAFE_COST, limit=limit) == expected
    reward = [[[0.0, 1.0, 2.0, 9.0]] * 2] * 2
    assert choosing("first_safe", FIRST_SAFE_COST, reward, limit=limit) == expected


# The larger heads cost (2, 1, 3, 9); the smaller heads reward (0, 1, 2, 3), the larger ones (9, 8,
# 7, 6).
ARGMAX_COST = [[[2.0, -5.0, 3.0, -5.0]], [[-5.0, 1.0, -5.0, 9.0]]]
ARGMAX_REWARD = [[[9.0, 1.0, 7.0, 3.0]], [[0.0, 8.0, 2.0, 6.0]]]


@pytest.mark.parametrize(
    "limit, expected",
    [(0.99, 1), (1.0, 1), (1.99, 1), (2.0, 1), (2.99, 1), (3.0, 2), (3.01, 2), (8.99, 2), (9.0, 3)],
)
def test_argmax_reward_takes_the_best_of_the_smaller_head_within_the_limit(limit, expected):
    assert choosing("argmax_reward", ARGMAX_COST, ARGMAX_REWARD, limit, rows=1) == [expected]


def test_argmax_reward_prefers_candidate_0_where_it_alone_is_within_the_limit():
    cost = [[[1.0, 2.0]], [[1.0, 2.0]]]
    assert choosing("argmax_reward", cost, [[[-50.0, 5.0]], [[-60.0, 5.0]]], 1.5, rows=1) == [0]


def test_argmax_reward_whose_reward_critic_was_taken_away_is_first_safe():
    policy = DiffusionPolicy(
        plain_normalizer(),
        FirstNoise(),
        1.0,
        "argmax_reward",
        Table(FIRST_SAFE_COST),
        Table(FIRST_SAFE_COST),
        limit=4.0,
    )
    policy.reward_critic = None
    obs = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert policy(obs, numbered(2, 4))[2].tolist() == [0, 1]


def escaping(own, uniform, goal, limit, scale=1.0):
    """Candidate and action of ``escape``: N own actions, N uniform ones (T = 1 would share the
    noise, so T is 2).
    """
    assert len(own) * 2 == len(uniform)
    normal = [NormalDist().inv_cdf((u + 1.0) / 2.0) for u in uniform]
    noise = torch.tensor(normal).reshape(1, len(own), 2, 1)

    class Own(FirstNoise):
        def sample(self, obs, noise, temperature, context):
            return torch.tensor(own)[: len(noise), None]  # only those that are asked for

    policy = DiffusionPolicy(plain_normalizer(), Own(), scale, "escape", Distance(), limit=limit)
    action, _, candidate = policy(torch.tensor([[0.0, goal]]), noise)
    return int(candidate), float(action)


def test_escape_takes_the_first_own_candidate_within_the_limit_however_good_uniform_ones_are():
    uniform = [0.5, -0.5, 0.1, 0.9]
    assert escaping([0.9, 0.3], uniform, 0.5, 0.25) == (1, pytest.approx(0.3, abs=1e-6))
    assert escaping([0.3, 0.4], uniform, 0.5, 0.25) == (0, pytest.approx(0.3, abs=1e-6))
    # 0.75 - 0.5 is exactly the limit.
    assert escaping([0.0, 0.75], uniform, 0.5, 0.25) == (1, pytest.approx(0.75, abs=1e-6))


def test_escape_searches_own_and_uniform_actions_where_no_own_one_is_within_the_limit():
    uniform = [0.7, -0.5, 0.55, 0.9]
    # Number 2 (0.7) is within the limit before number 4 (0.55) is, but the least cost is asked for.
    assert escaping([0.9, -0.3], uniform, 0.5, 0.25) == (4, pytest.approx(0.55, abs=1e-5))
    # Just below and at the own candidate's distance of 0.25.
    assert escaping([0.75, -0.3], uniform, 0.5, 0.2499) == (4, pytest.approx(0.55, abs=1e-5))
    # An own candidate may still be the best of all.
    assert escaping([0.9, -0.8], [0.1, 0.2, 0.3, 0.4], -0.9, 0.05)[0] == 1
    # The temperature is the actor's; uniform actions stay as they are.
    assert escaping([0.9, -0.3], uniform, 0.5, 0.25, scale=0.1)[1] == pytest.approx(0.55, abs=1e-5)


def test_uniform_actions_of_escape_are_numbered_by_candidate_then_step_and_keep_their_row():
    z = torch.tensor([-1.5, -0.4, 0.2, 0.8, 1.1, 2.0]).reshape(1, 3, 2, 1)
    noise = torch.cat([z, -z])  # two states
    expected = [2.0 * NormalDist().cdf(float(x)) - 1.0 for x in z.flatten()]
    for number, goal in enumerate(expected):
        policy = DiffusionPolicy(
            plain_normalizer(), FirstNoise(), 1.0, "escape", Distance(), limit=-9.0
        )
        obs = torch.tensor([[0.0, goal], [0.0, -goal]])
        action, _, candidate = policy(obs, noise)
        assert candidate.tolist() == [3 + number, 3 + number]
        close(action[:, 0], torch.tensor([goal, -goal]), rtol=1e-5, atol=1e-6)


def test_escape_does_not_ask_for_the_reward_even_if_it_could():
    cost, reward = [[[1.0, 0.5, 2.0]]], [[[0.0, 3.0, 9.0]]]
    policy = DiffusionPolicy(
        plain_normalizer(), FirstNoise(), 1.0, "escape", Table(cost), Table(reward), limit=1.0
    )
    noise = torch.zeros(1, 2, 1, 1)
    noise[0, 1] = 0.1
    assert policy(torch.zeros(1, 2), noise)[2].tolist() == [0]
    policy.choice = "argmax_reward"
    assert policy(torch.zeros(1, 2), noise)[2].tolist() == [1]


def test_one_observation_number_is_enough():
    policy = DiffusionPolicy(plain_normalizer(1), FirstNoise())
    action, value, candidate = policy(torch.tensor([[3.0]]), torch.tensor([[[[0.3]]]]))
    close(action, torch.tensor([[0.3]]))
    assert value.tolist() == [0.0] and candidate.tolist() == [0]
    gaussian = GaussianPolicy([1, 1], torch.zeros(1), 1.0)
    gaussian.mlp[0].weight.data.fill_(0.5)
    gaussian.mlp[0].bias.data.fill_(0.25)
    action, value, candidate = gaussian(torch.tensor([[0.5]]), torch.zeros(1, 1, 1, 1))
    assert action.tolist() == [[0.5]] and value.tolist() == [0.0] and candidate.tolist() == [0]


def test_actions_of_several_dimensions_are_returned_whole():
    noise = torch.tensor([[[[0.0, 0.5, -0.1]], [[0.1, -0.2, 0.3]]]])
    policy = DiffusionPolicy(
        plain_normalizer(), FirstNoise(), 1.0, "argmin_cost", Table([[[2.0, 1.0]]])
    )
    close(policy(torch.zeros(1, 2), noise)[0], torch.tensor([[0.1, -0.2, 0.3]]))
    wide = DiffusionPolicy(
        plain_normalizer(), FirstNoise(), 1.0, "escape", Table([[[2.0, 1.0]]]), limit=1.0
    )
    close(wide(torch.zeros(1, 2), noise.clamp(min=0.0))[0], torch.tensor([[0.1, 0.0, 0.3]]))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_sampler_gets_the_temperature_flat_noise_and_each_states_own_context(temperature):
    normalizer = Normalizer(torch.tensor([1.0, -1.0]), torch.tensor([2.0, 0.5]))
    diffusion = FirstNoise()
    # All candidates cost the same: all are drawn, the first is taken.
    policy = DiffusionPolicy(
        normalizer, diffusion, temperature, "argmin_cost", lambda obs, act: act[None, :, 0] * 0.0
    )
    noise = torch.arange(24.0).reshape(2, 3, 2, 2) / 100.0
    action = policy(torch.tensor([[5.0, 0.0], [0.0, -1.5]]), noise)[0]
    # (5 - 1) / 2 = 2, (0 + 1) / 0.5 = 2; (0 - 1) / 2 = -0.5, (-1.5 + 1) / 0.5 = -1
    close(diffusion.given["obs"], torch.tensor([[2.0, 2.0], [-0.5, -1.0]]))
    close(diffusion.given["noise"], torch.arange(24.0).reshape(6, 2, 2) / 100.0)
    assert diffusion.given["temperature"] == temperature
    first, second = [20.0, 20.0], [-5.0, -10.0]
    close(diffusion.given["context"], torch.tensor([first] * 3 + [second] * 3))
    close(action, temperature * torch.tensor([[0.0, 0.01], [0.12, 0.13]]))


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_noise_temperature_scales_every_noise_of_the_real_sampler(temperature):
    """A denoiser that predicts no noise: x <- clip(x / sqrt(alpha)) with noise sqrt(beta) between
    the two steps.
    """
    denoiser = Denoiser(2, 1, "mlp", 4, 1, 0.0)
    nn.init.zeros_(denoiser.out.weight)
    nn.init.zeros_(denoiser.out.bias)
    policy = DiffusionPolicy(plain_normalizer(), Diffusion(denoiser, 2, "noise"), temperature)
    # beta_t = 1 - exp(-0.1 / T - 9.9 (2 t - 1) / (2 T^2)), T = 2
    alpha = [math.exp(-0.05 - 0.5 * 9.9 * k / 4.0) for k in (1, 3)]
    z = 0.02, -0.03
    x = temperature * z[0] / math.sqrt(alpha[1]) + math.sqrt(1.0 - alpha[1]) * temperature * z[1]
    expected = x / math.sqrt(alpha[0])
    assert abs(expected) < 1.0
    action = policy(torch.zeros(1, 2), torch.tensor(z).reshape(1, 1, 2, 1))[0]
    assert action.item() == pytest.approx(expected, rel=1e-4)


def test_critics_and_cost_value_see_normalised_observations():
    class Sum(nn.Module):
        def forward(self, obs):
            return obs[:, 0] + 2.0 * obs[:, 1]

    class Rule(nn.Module):
        """Prefers the action equal to the observation's first number."""

        def forward(self, obs, action):
            return (obs[:, :1] - action).abs().T

    normalizer = Normalizer(torch.tensor([1.0, 0.0]), torch.tensor([10.0, 0.5]))
    policy = DiffusionPolicy(normalizer, FirstNoise(), 1.0, "argmin_cost", Rule(), None, Sum())
    # 0.2 and 2; 0.3 and 1400, which is clipped to 10
    obs = torch.tensor([[3.0, 1.0], [4.0, 700.0]])
    _, value, candidate = policy(obs, numbered(2, 6))
    assert candidate.tolist() == [2, 3]
    close(value, torch.tensor([4.2, 20.3]))
    first = DiffusionPolicy(normalizer, FirstNoise(), cost_value=Sum())
    close(first(obs, numbered(2, 1))[1], torch.tensor([4.2, 20.3]))


def test_choices_without_their_critics_are_refused():
    parts = plain_normalizer(), FirstNoise(), 1.0
    with pytest.raises(
        ValueError,
        match="unknown candidate choice 'best', expected one of first, first_safe, escape, "
        "argmin_cost, argmax_reward",
    ):
        DiffusionPolicy(*parts, "best")
    for choice in ("first_safe", "escape", "argmin_cost", "argmax_reward"):
        with pytest.raises(ValueError, match=f"choice '{choice}' needs critics, found none"):
            DiffusionPolicy(*parts, choice)
    with pytest.raises(ValueError, match="choice 'argmax_reward' needs critics, found none"):
        DiffusionPolicy(*parts, "argmax_reward", Table(COST))
    assert DiffusionPolicy(*parts, "argmin_cost", Table(COST)).reward_critic is None


def test_defaults_of_a_diffusion_policy():
    policy = DiffusionPolicy(plain_normalizer(), FirstNoise())
    assert (policy.temperature, policy.choice, policy.limit) == (1.0, "first", 0.0)
    assert policy.cost_critic is policy.reward_critic is policy.cost_value is None


def small_diffusion(choice="first_safe", prediction="clean", reward=True, lidar=None, kind="mlp"):
    """Three raw observation numbers, two actions; all sizes different."""
    size = 3 if lidar is None else 2 * 3 - lidar[0]
    denoiser = Denoiser(size, 2, kind, 6, 4, 0.0)
    critics = (
        Critic(size, 2, (5, 7)),
        Critic(size, 2, (5, 7)) if reward else None,
        Value(size, (5, 7)),
    )
    normalizer = Normalizer(torch.linspace(-1.0, 1.0, size), torch.linspace(0.5, 2.0, size), lidar)
    return DiffusionPolicy(
        normalizer, Diffusion(denoiser, 3, prediction), 0.75, choice, *critics, limit=0.125
    ).eval()


def test_shape_and_sampler_of_a_diffusion_policy_are_plain_data():
    assert small_diffusion().describe() == {
        "type": "diffusion",
        "observation_size": 3,
        "lidar": None,
        "action_size": 2,
        "actor": "mlp",
        "width": 6,
        "depth": 4,
        "diffusion_steps": 3,
        "prediction": "clean",
        "temperature": 0.75,
        "choice": "first_safe",
        "limit": 0.125,
        "critic_hidden": [5, 7],
        "reward_critic": True,
        "acting_noise": 0.0,
        "lost_noise": False,
    }
    assert small_diffusion().sampler == {
        "kind": "diffusion",
        "steps": 3,
        "prediction": "clean",
        "temperature": 0.75,
        "choice": "first_safe",
        "limit": 0.125,
        "noise_scale": 1.0,
    }
    for choice in ("escape", "argmax_reward"):
        assert small_diffusion(choice).sampler["limit"] == 0.125
    for choice in ("first", "argmin_cost"):
        assert "limit" not in small_diffusion(choice).sampler
    alone = DiffusionPolicy(plain_normalizer(3), small_diffusion().diffusion)
    assert alone.describe()["critic_hidden"] is None
    assert alone.describe()["reward_critic"] is False
    with_lidar = small_diffusion(lidar=(1, 0.5)).describe()
    assert with_lidar["lidar"] == (1, 0.5) and with_lidar["observation_size"] == 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"choice": "argmax_reward", "prediction": "noise", "kind": "resnet"},
        {"choice": "escape", "reward": False, "lidar": (1, 0.5)},
        {"lidar": (2, 0.25)},
    ],
)
def test_a_policy_file_gives_back_the_same_policy(tmp_path, changes):
    policy = small_diffusion(**changes)
    logged = torch.tensor([[0.5, 0.25, 0.75], [1.0, 0.0, 0.5]])
    save_policy(tmp_path / "p.safetensors", policy, logged, {"algorithm": "sevpo", "n": 4})
    again, observations, info = load_policy(tmp_path / "p.safetensors")
    assert info == {"algorithm": "sevpo", "n": 4} and torch.equal(observations, logged)
    assert not again.training
    expected, found = policy.describe(), again.describe()
    for shape in (expected, found):
        shape["lidar"] = None if shape["lidar"] is None else list(shape["lidar"])
    assert found == expected and again.sampler == policy.sampler
    noise = torch.randn(2, 4, 3, 2)
    with torch.no_grad():
        for a, b in zip(policy(logged, noise), again(logged, noise)):
            assert torch.equal(a, b)


def test_a_policy_without_critics_comes_back_without_them(tmp_path):
    whole = small_diffusion()
    alone = DiffusionPolicy(whole.normalizer, whole.diffusion, 0.5).eval()
    save_policy(tmp_path / "p.safetensors", alone, torch.zeros(1, 3), {})
    again = load_policy(tmp_path / "p.safetensors")[0]
    assert again.cost_critic is None and again.reward_critic is None and again.cost_value is None
    assert (again.temperature, again.choice, again.limit) == (0.5, "first", 0.0)


def test_choice_and_temperature_can_be_replaced_when_a_file_is_read(tmp_path):
    save_policy(tmp_path / "p.safetensors", small_diffusion(), torch.zeros(1, 3), {})
    own = load_policy(tmp_path / "p.safetensors")[0]
    assert (own.choice, own.temperature, own.limit) == ("first_safe", 0.75, 0.125)
    other = load_policy(tmp_path / "p.safetensors", "argmax_reward", 2.0)[0]
    assert (other.choice, other.temperature, other.limit) == ("argmax_reward", 2.0, 0.125)
    assert load_policy(tmp_path / "p.safetensors", None, 0.0)[0].temperature == 0.0


@pytest.mark.skipif(
    int(torch.__version__.split(".")[0]) < 2, reason="older ones lack this device in part"
)
@pytest.mark.parametrize("choice", ["first", "argmin_cost", "argmax_reward"])
def test_policies_act_on_the_device_they_are_on(choice):
    """Torch's device without memory stands for any other; it has no rows to be picked by value, as
    the other choices do.
    """
    policy = small_diffusion(choice).to("meta")
    outputs = policy(torch.zeros(4, 3, device="meta"), torch.zeros(4, 5, 3, 2, device="meta"))
    assert [str(each.device) for each in outputs] == ["meta"] * 3
    assert [tuple(each.shape) for each in outputs] == [(4, 2), (4,), (4,)]


def test_files_without_a_word_about_reward_critics_or_lidars_are_still_read(tmp_path):
    path = tmp_path / "p.safetensors"
    save_policy(path, small_diffusion("argmax_reward"), torch.zeros(1, 3), {})
    state = load_checkpoint(path, "policy")
    del state["shape"]["reward_critic"], state["shape"]["lidar"]
    save_checkpoint(path, "policy", state)
    assert load_policy(path)[0].reward_critic is not None
    gaussian = GaussianPolicy([2, 3, 1], torch.tensor([0.5]), 0.25)
    save_policy(path, gaussian, torch.zeros(1, 2), {})
    state = load_checkpoint(path, "policy")
    state["shape"] = {"type": "gaussian", "sizes": [2, 3, 1], "unit": 0.25}
    save_checkpoint(path, "policy", state)
    again = load_policy(path)[0]
    assert (again.activation, again.squash, again.normalizer) == ("elu", False, None)


def test_weights_that_do_not_fit_the_stated_shape_are_refused(tmp_path):
    path = tmp_path / "p.safetensors"
    save_policy(path, small_diffusion(), torch.zeros(1, 3), {})
    state = load_checkpoint(path, "policy")
    state["shape"]["width"] = 9
    save_checkpoint(path, "policy", state)
    expected = "do not fit the policy's shape: .*size mismatch"
    with pytest.raises(CheckpointError, match=expected) as error:
        load_policy(path)
    lines = str(error.value.__cause__).splitlines()
    assert len(lines) > 3, "a headline and several faults, of which the last is told"
    assert str(error.value).endswith(f"shape: {lines[-1].strip()}")
    save_checkpoint(path, "offline", state)
    with pytest.raises(CheckpointError, match="is a 'offline' checkpoint, expected 'policy'"):
        load_policy(path)


# Gaussian actors: hidden layer (3), output (2), set by hand.
HIDDEN = np.array([[1.0, -2.0], [0.5, 0.25], [-1.0, 3.0]]), np.array([0.1, -0.2, 0.3])
OUT = np.array([[0.5, -1.0, 0.25], [2.0, 0.75, -0.5]]), np.array([0.05, -0.4])
OBS = np.array([[0.3, -0.6], [-0.8, 0.7]])
STD = np.array([0.2, 0.7])


def fill(policy, hidden=HIDDEN, out=OUT):
    linear = [m for m in policy.mlp if isinstance(m, nn.Linear)]
    for module, (weight, bias) in zip(linear, (hidden, out)):
        module.weight.data = torch.tensor(weight, dtype=torch.float32)
        module.bias.data = torch.tensor(bias, dtype=torch.float32)
    assert len(linear) == 2
    return policy


def mean_of(obs, activation, hidden=HIDDEN, out=OUT):
    x = obs @ hidden[0].T + hidden[1]
    x = np.maximum(x, 0.0) if activation == "relu" else np.where(x > 0, x, np.exp(x) - 1.0)
    return x @ out[0].T + out[1]


@pytest.mark.parametrize("activation", ["elu", "relu"])
@pytest.mark.parametrize("squash", [False, True])
def test_gaussian_action_is_the_scaled_noisy_mean_within_its_bounds(activation, squash):
    policy = fill(
        GaussianPolicy([2, 3, 2], torch.tensor(STD, dtype=torch.float32), 0.125, activation, squash)
    )
    noise = np.arange(16.0).reshape(2, 2, 2, 2) / 10.0 - 0.9
    mean = mean_of(OBS, activation)
    mean = np.tanh(mean) if squash else mean
    expected = 0.125 * (mean + STD * noise[:, 0, 0])
    assert np.abs(expected).max() < 1.0
    as_tensor = torch.tensor(OBS, dtype=torch.float32), torch.tensor(noise, dtype=torch.float32)
    action, value, candidate = policy(*as_tensor)
    close(action, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-6)
    assert torch.equal(value, torch.zeros(2))
    assert torch.equal(candidate, torch.zeros(2, dtype=torch.int64))
    policy.unit = 20.0  # beyond the bounds on both sides
    clipped = np.clip(20.0 * expected / 0.125, -1.0, 1.0)
    assert clipped.min() == -1.0 and clipped.max() == 1.0
    close(policy(*as_tensor)[0], torch.tensor(clipped, dtype=torch.float32), rtol=1e-5, atol=1e-6)


def test_gaussian_actor_with_a_normaliser_sees_normalised_observations():
    mean, std = np.array([0.5, -0.25]), np.array([2.0, 0.1])
    normalizer = Normalizer(
        torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
    )
    policy = fill(GaussianPolicy([2, 3, 2], torch.zeros(2), 0.125, normalizer=normalizer))
    obs = np.array([[0.3, -0.6], [0.8, 1.75]])  # the last is 20 deviations away
    seen = np.clip((obs - mean) / std, -10.0, 10.0)
    assert seen[1, 1] == 10.0
    expected = np.clip(0.125 * mean_of(seen, "elu"), -1.0, 1.0)
    action = policy(torch.tensor(obs, dtype=torch.float32), torch.ones(2, 1, 1, 2))[0]
    close(action, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-6)


def test_shape_and_sampler_of_gaussian_policies():
    plain = GaussianPolicy((4, 3, 2), torch.tensor(STD), 0.5)
    assert plain.describe() == {
        "type": "gaussian",
        "sizes": [4, 3, 2],
        "unit": 0.5,
        "activation": "elu",
        "squash": False,
        "normalizer": False,
    }
    assert plain.sampler == {
        "kind": "gaussian",
        "steps": 1,
        "temperature": 1.0,
        "choice": "first",
        "noise_scale": 0.0,
    }
    seeing = GaussianPolicy([4, 2], torch.ones(2), 0.5, "relu", True, plain_normalizer(4))
    assert seeing.describe() == {
        "type": "gaussian",
        "sizes": [4, 2],
        "unit": 0.5,
        "activation": "relu",
        "squash": True,
        "lidar": None,
        "normalizer": True,
    }
    given = torch.tensor([1.0, 2.0])
    policy = GaussianPolicy([3, 2], given, 1.0)
    given[0] = 9.0
    assert policy.std.tolist() == [1.0, 2.0]  # a copy of its own
    with pytest.raises(ValueError, match="unknown activation 'tanh', expected elu or relu"):
        GaussianPolicy([3, 2], given, 1.0, "tanh")


def test_several_hidden_layers_each_have_their_activation():
    policy = GaussianPolicy([2, 3, 4, 5, 1], torch.ones(1), 1.0, "relu", True)
    kinds = [type(m).__name__ for m in policy.mlp]
    assert kinds == ["Linear", "ReLU"] * 3 + ["Linear", "Tanh"]
    sizes = [(m.in_features, m.out_features) for m in policy.mlp if isinstance(m, nn.Linear)]
    assert sizes == [(2, 3), (3, 4), (4, 5), (5, 1)]


@pytest.mark.parametrize("normalised", [False, True])
def test_gaussian_file_gives_back_the_same_policy(tmp_path, normalised):
    normalizer = Normalizer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 4.0, 2.0]), (1, 0.25))
    normalizer = normalizer if normalised else None
    sizes = [3, 4, 2] if normalised else [2, 4, 2]
    policy = GaussianPolicy(sizes, torch.tensor([0.3, 0.6]), 0.75, "relu", True, normalizer)
    save_policy(tmp_path / "p.safetensors", policy, torch.zeros(1, 2), {})
    again = load_policy(tmp_path / "p.safetensors")[0]
    assert type(again) is GaussianPolicy
    assert (again.sizes, again.unit, again.activation, again.squash) == (sizes, 0.75, "relu", True)
    assert (again.normalizer is not None) == normalised
    if normalised:
        assert again.normalizer.lidar == (1, 0.25)
    obs, noise = torch.tensor([[0.5, 0.9], [2.0, 0.0]]), torch.randn(2, 1, 1, 2)
    with torch.no_grad():
        assert torch.equal(policy(obs, noise)[0], again(obs, noise)[0])


def test_budget_feature_is_the_budgets_share():
    found = budget_feature(torch.tensor([0.0, 5.0, 10.0, 90.0]), 10.0)
    close(found, torch.tensor([[0.0], [1.0 / 3.0], [0.5], [0.9]]))
    close(budget_feature(torch.tensor([5.0]), 20.0), torch.tensor([[0.2]]))


def test_budget_policy_sees_what_is_left_and_never_less_than_nothing():
    mean, std = np.array([0.5]), np.array([2.0])
    normalizer = Normalizer(torch.tensor([0.5]), torch.tensor([2.0]))
    policy = fill(BudgetPolicy([2, 3, 2], normalizer, 8.0, 4.0))
    obs = np.array([[0.3], [0.3], [0.3], [-1.7]])
    spent = np.array([0.0, 6.0, 50.0, 8.0])
    left = np.array([8.0, 2.0, 0.0, 0.0])
    seen = np.concatenate([(obs - mean) / std, (left / (left + 4.0))[:, None]], axis=1)
    expected = np.tanh(mean_of(seen, "relu"))
    noise = torch.full((4, 2, 1, 2), 0.5)
    noise[:, 0, 0] = torch.tensor([0.3, -0.4])
    as_tensor = torch.tensor(obs, dtype=torch.float32), noise, torch.tensor(spent).float()
    action, value, candidate = policy(*as_tensor)
    close(action, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-6)
    assert torch.equal(value, torch.tensor(left, dtype=torch.float32))
    assert torch.equal(candidate, torch.zeros(4, dtype=torch.int64))
    assert policy.std.tolist() == [0.0, 0.0]  # it plays its mean
    policy.std.copy_(torch.tensor([0.5, -9.0]))
    noisy = np.clip(expected + np.array([0.15, 3.6]), -1.0, 1.0)
    assert (noisy[:, 1] == 1.0).all() and (noisy[:, 0] < 1.0).any()
    close(policy(*as_tensor)[0], torch.tensor(noisy, dtype=torch.float32), rtol=1e-5, atol=1e-6)
    policy.std.copy_(torch.tensor([0.0, 9.0]))
    assert (policy(*as_tensor)[0][:, 1] == -1.0).all()


def test_budget_policy_says_what_it_is_and_comes_back_from_its_file(tmp_path):
    policy = BudgetPolicy([3, 4, 2], Normalizer(torch.tensor([1.0, 2.0]), torch.ones(2)), 8.0, 4.0)
    assert policy.describe() == {
        "type": "budget",
        "sizes": [3, 4, 2],
        "unit": 1.0,
        "activation": "relu",
        "squash": True,
        "lidar": None,
        "normalizer": True,
        "budget": 8.0,
        "scale": 4.0,
    }
    assert policy.sampler == {
        "kind": "gaussian",
        "steps": 1,
        "temperature": 1.0,
        "choice": "first",
        "noise_scale": 0.0,
        "cost_budget": 8.0,
    }
    save_policy(tmp_path / "p.safetensors", policy, torch.zeros(1, 2), {})
    again = load_policy(tmp_path / "p.safetensors")[0]
    assert type(again) is BudgetPolicy and (again.budget, again.scale) == (8.0, 4.0)
    obs, noise, spent = torch.tensor([[0.5, 0.9]]), torch.zeros(1, 1, 1, 2), torch.tensor([3.0])
    with torch.no_grad():
        assert torch.equal(policy(obs, noise, spent)[0], again(obs, noise, spent)[0])
    assert again.normalizer.mean.tolist() == [1.0, 2.0]


def test_act_gives_the_spent_cost_only_to_policies_that_need_it():
    def plain(*given):
        return given

    def needing(*given):
        return given

    plain.needs_cost, needing.needs_cost = False, True
    assert act(plain, "observation", "noise", "spent") == ("observation", "noise")
    assert act(needing, "observation", "noise", "spent") == ("observation", "noise", "spent")


def wild_episodes():
    """Four columns: ordinary; one reading far away on each side; nearly constant; constant but for
    two jumps.
    """
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(2001, 4)).astype(np.float32)
    frames[:, 1] *= 3.0
    frames[100, 1], frames[200, 1] = 120.0, -150.0
    frames[:, 2] = 2.0 + 0.001 * frames[:, 2]
    frames[:, 3] = 0.5
    frames[300, 3], frames[301, 3] = 1.3, -0.4
    n = 2000
    end = np.zeros(n, np.float32)
    end[-1] = 1.0
    zero = np.zeros(n, np.float32)
    columns = {
        "observations": frames[:-1],
        "next_observations": frames[1:],
        "actions": np.zeros((n, 1), np.float32),
        "rewards": zero,
        "costs": zero,
        "terminals": zero,
        "timeouts": end,
    }
    table = {"length": [n], "return": [0.0], "cost": [0.0], "success": [0], "fall": [0]}
    return Episodes(columns, {k: np.array(v) for k, v in table.items()}), frames


def test_training_and_policy_normalise_alike_even_far_away_and_where_nothing_moves():
    """(x - mean) / max(std, 0.05), within +-10: what the learner saw is what the policy sees."""
    episodes, frames = wild_episodes()
    data = OfflineDataset([episodes])
    wide = frames.astype(np.float64)
    mean, std = wide.mean(0), wide.std(0, ddof=1)
    assert std[2] < 0.05 and std[3] < 0.05
    scaled = (wide - mean) / np.maximum(std, 0.05)
    expected = np.clip(scaled, -10.0, 10.0)
    assert (scaled[:, [1, 3]].max(0) > 15.0).all() and (scaled[:, [1, 3]].min(0) < -15.0).all()
    expected = torch.tensor(expected, dtype=torch.float32)
    close(data.frames, expected, rtol=1e-3, atol=1e-4)
    batch = data.rows(torch.arange(2000))
    close(batch.obs, expected[:-1], rtol=1e-3, atol=1e-4)
    close(batch.next_obs, expected[1:], rtol=1e-3, atol=1e-4)
    normalizer = Normalizer(data.mean, data.std, data.lidar)
    close(normalizer(torch.tensor(frames)), data.frames, rtol=1e-5, atol=1e-5)
    assert data.std.tolist() == pytest.approx([std[0], std[1], 0.05, 0.05], rel=1e-4)
    diffusion = FirstNoise()
    DiffusionPolicy(normalizer, diffusion)(torch.tensor(frames), torch.zeros(2001, 1, 1, 1))
    close(diffusion.given["obs"], data.frames, rtol=1e-5, atol=1e-5)
