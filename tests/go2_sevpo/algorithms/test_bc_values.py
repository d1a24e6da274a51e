"""Cloning and cloning with a choice: the steps by hand, and what reaches the policy."""

import math
from types import SimpleNamespace

import pytest
import torch

from go2_sevpo.algorithms import bc
from go2_sevpo.algorithms.bc import BcChoice, BcChoiceConfig, BcConfig, BehaviorCloning
from go2_sevpo.algorithms.conservative import ConservativeConfig
from go2_sevpo.data.dataset import OfflineDataset
from tests.conftest import make_episodes

TINY = {"width": 4, "depth": 1}
SETTINGS = {
    "actor": "resnet",
    "width": 6,
    "depth": 2,
    "dropout": 0.25,
    "diffusion_steps": 4,
    "prediction": "noise",
    "rate": 0.0125,
    "temperature": 0.75,
}
RATE = 0.5


@pytest.fixture
def data():
    return OfflineDataset([make_episodes((3, 4, 2), n_obs=2, n_act=1)])


def cloner(data, members=None, **settings):
    return BehaviorCloning(BcConfig(**{**TINY, **settings}), data, members)


def chooser(data, members=None, **settings):
    return BcChoice(BcChoiceConfig(**{**TINY, "critic_hidden": (4,), **settings}), data, members)


class Actor(torch.nn.Module):
    """The diffusion loss is phi act^2."""

    steps = 3

    def __init__(self, phi):
        super().__init__()
        self.phi = torch.nn.Parameter(torch.tensor(phi))

    def loss(self, obs, act, noise, t):
        assert self.training and torch.equal(obs[..., 0], 10.0 * act[..., 0])
        assert torch.equal(
            noise, torch.randn(act.shape, generator=torch.Generator().manual_seed(7))
        )
        return self.phi[..., None] * act[..., 0].square()


class Sampled:
    """Stands in for a dataset: remembers what it is asked for, and draws actions 1, 2 and 4."""

    def __init__(self):
        self.asked = []

    def sample(self, shape, draws, rows=None):
        self.asked.append((shape, draws, rows))
        act = torch.tensor([[1.0], [2.0], [4.0]]).expand(*shape, 1)
        return SimpleNamespace(obs=10.0 * act, act=act)


def with_actor(algorithm, phi=0.75, average=0.25):
    algorithm.actor, algorithm.average = Actor(phi), Actor(average)
    algorithm.actor.eval()
    algorithm.optimizer = torch.optim.SGD(algorithm.actor.parameters(), lr=99.0)
    return algorithm


@pytest.mark.parametrize(
    ("step", "ema", "pace"),
    [
        (0, 0.25, 0.5),
        (1, 0.25, 1.0 / 3.0),
        (2, 0.25, 0.25),
        (3, 0.25, 0.25),
        (3, 0.1, 0.2),
        (3, 0.9, 0.9),
    ],
)
def test_a_step_of_cloning_is_unweighted_and_averaged_ever_more_slowly(data, step, ema, pace):
    algorithm = with_actor(cloner(data, rate=RATE, steps=4, batch=3, ema=ema))
    draws, source = torch.Generator().manual_seed(7), Sampled()
    found = algorithm.update("policy", step, source, draws)
    # the gradient is the mean of 1, 4 and 16; the rate's cosine is over 4 steps
    rate = RATE * (1.0 + math.cos(math.pi * step / 4.0)) / 2.0
    phi = 0.75 - rate * 7.0
    assert algorithm.actor.phi.item() == pytest.approx(phi, rel=1e-5)
    assert algorithm.average.phi.item() == pytest.approx(0.25 + pace * (phi - 0.25), rel=1e-5)
    assert list(found) == ["actor_loss"] and found["actor_loss"].item() == pytest.approx(0.75 * 7.0)
    assert source.asked == [((3,), draws, None)]


def test_members_clone_each_for_itself(data):
    algorithm = with_actor(cloner(data, 2, rate=RATE, batch=3), [0.75, 1.5], [0.25, 0.5])
    source, draws = Sampled(), torch.Generator().manual_seed(7)
    algorithm.update("policy", 0, source, draws)
    assert algorithm.actor.phi.tolist() == pytest.approx([0.75 - 3.5, 1.5 - 3.5], rel=1e-5)
    assert source.asked[0][0] == (2, 3)


def test_cloning_of_safe_episodes_draws_from_nothing_else(data):
    # episodes of 3, 4 and 2 rows, of which the first and the last end in a fall
    data.episodes["cost"][:] = [0.0, 2.0, 0.0]
    for limit, rows in ((2.0, [3, 4, 5, 6]), (5.0, [3, 4, 5, 6])):
        algorithm = with_actor(cloner(data, safe_only=True, cost_limit=limit, batch=3))
        assert algorithm.rows.tolist() == rows
        source = Sampled()
        algorithm.update("policy", 0, source, torch.Generator().manual_seed(7))
        assert source.asked[0][2] is algorithm.rows
    expected = "no episode without a fall has a cost of at most 1.5; expected at least one"
    with pytest.raises(ValueError, match=expected):
        cloner(data, safe_only=True, cost_limit=1.5)
    assert cloner(data, cost_limit=1.5).rows is None


def check_networks(algorithm, data):
    actor = algorithm.actor
    assert (actor.steps, actor.prediction, actor.denoiser.kind, actor.denoiser.depth) == (
        4,
        "noise",
        "resnet",
        2,
    )
    assert actor.denoiser.blocks[0].drop.p == 0.25 and actor.denoiser.from_obs.weight.shape == (
        6,
        2,
    )
    for a, b in zip(algorithm.average.parameters(), actor.parameters()):
        assert torch.equal(a, b) and a is not b and not a.requires_grad
    group = algorithm.optimizer.param_groups[0]
    assert group["lr"] == 0.0125 and [id(p) for p in group["params"]] == [
        id(p) for p in actor.parameters()
    ]
    torch.testing.assert_close(algorithm.normalizer.mean, data.mean)


def test_the_networks_have_the_configured_sizes(data):
    check_networks(cloner(data, **SETTINGS), data)
    check_networks(chooser(data, **SETTINGS), data)
    for build in (cloner, chooser):
        assert build(data, 3).actor.denoiser.from_obs.weight.shape == (3, 2, 4)
        assert build(data, 3).members == 3 and build(data).members is None


def test_cloning_has_one_stage_and_a_policy_without_critics(data):
    algorithm = cloner(data, steps=7, temperature=0.75)
    assert BehaviorCloning.stages == ("policy",) and algorithm.steps("policy") == 7
    policy = algorithm.policy("argmin_cost")
    assert (policy.choice, policy.temperature) == ("first", 0.75)
    assert policy.diffusion is algorithm.average and policy.normalizer is algorithm.normalizer
    assert policy.cost_critic is None and policy.reward_critic is None and policy.cost_value is None
    assert list(algorithm.state_dict()) == ["actor", "average", "optimizer"]
    members = cloner(data, 2)
    weight = members.average.denoiser.from_obs.weight
    torch.testing.assert_close(members.policy().diffusion.denoiser.from_obs.weight, weight[0].T)
    torch.testing.assert_close(
        members.policy(member=1).diffusion.denoiser.from_obs.weight, weight[1].T
    )


def test_choosing_trains_stage_one_first(data):
    algorithm = with_actor(
        chooser(data, critic_steps=2, steps=5, critic_batch=6, batch=3, rate=RATE)
    )
    assert BcChoice.stages == ("critics", "policy")
    assert (algorithm.steps("critics"), algorithm.steps("policy")) == (2, 5)
    source, draws = Sampled(), torch.Generator().manual_seed(7)
    with pytest.raises(RuntimeError, match="found 0 steps of the critics stage, expected 2"):
        algorithm.update("policy", 0, source, draws)
    given = []

    def descend(batch):
        given.append(batch)
        return {"v_loss": 1.0}

    algorithm.descend_conservative = descend
    whole = SimpleNamespace(sample=lambda *asked: asked)
    for step in (0, 1):
        assert algorithm.update("critics", step, whole, "draws") == {"v_loss": 1.0}
    assert given == [((6,), "draws")] * 2 and algorithm.critics_trained == 2
    algorithm.update("policy", 0, source, draws)
    assert source.asked == [((3,), draws, None)]
    assert algorithm.actor.phi.item() == pytest.approx(0.75 - 3.5)


def test_the_chosen_candidate_has_the_least_cost_of_stage_one(data):
    algorithm = chooser(data, limit=0.375, temperature=0.75)
    policy = algorithm.policy()
    assert (policy.choice, policy.temperature, policy.limit) == ("argmin_cost", 0.75, 0.375)
    assert policy.normalizer is algorithm.normalizer and policy.diffusion is algorithm.average
    assert policy.cost_critic is algorithm.q_c_target and policy.cost_value is algorithm.v_c
    assert policy.reward_critic is None
    assert algorithm.policy("first_safe").choice == "first_safe"
    with pytest.raises(
        ValueError, match="candidate choice 'argmax_reward' needs critics, found none"
    ):
        algorithm.policy("argmax_reward")
    members = chooser(data, 2)
    for policy, k in ((members.policy(), 0), (members.policy(member=1), 1)):
        torch.testing.assert_close(policy.cost_value.net[0].weight, members.v_c.net[0].weight[k].T)
        torch.testing.assert_close(
            policy.cost_critic.layers[0].weight, members.q_c_target.layers[0].weight[k::2]
        )


def test_the_state_of_choosing_holds_stage_one_too(data):
    algorithm = chooser(data)
    algorithm.critics_trained = 3
    names = {
        "v_c",
        "q_c",
        "q_c_target",
        "actor",
        "average",
        "v_optimizer",
        "q_optimizer",
        "optimizer",
    }
    state = algorithm.state_dict()
    assert set(state) == names | {"critics_trained"} and state["critics_trained"] == 3


def test_the_defaults_of_cloning():
    plain, choice = BcConfig(), BcChoiceConfig()
    assert (plain.safe_only, plain.cost_limit, plain.rate) == (False, 10.0, 3e-4)
    for config in (plain, choice):
        assert (config.steps, config.batch, config.ema) == (10000, 256, 0.005)
        assert (config.actor, config.width, config.depth, config.dropout) == ("mlp", 256, 3, 0.0)
        assert (config.diffusion_steps, config.prediction, config.temperature) == (5, "clean", 1.0)
    # stage 1 is SEVPO's
    assert isinstance(choice, ConservativeConfig) and (choice.tau, choice.alpha) == (0.9, 0.99)
    assert {"BcChoice", "BcChoiceConfig", "BcConfig", "BehaviorCloning"} < set(bc.__all__)
