"""The unsafe objective (Eqs. 12, 14) and the trust region (Eq. 15), for an actor and critics with
known answers.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import unsafe
from go2_sevpo.algorithms.sevpo import SevpoConfig
from go2_sevpo.algorithms.unsafe import UnsafeObjective, soft_exp

THETA, PHI, BEFORE = 0.5, 0.75, 0.25


class Actor:
    """Own actions are theta (x, y); predictions phi noisy; noising doubles an action."""

    steps = 3

    def __init__(self, phi):
        self.theta, self.phi = (
            torch.tensor(THETA, requires_grad=True),
            torch.tensor(phi, requires_grad=True),
        )
        self.asked, self.training = {}, True

    def train(self, mode=True):
        self.training = mode

    def eval(self):
        self.training = False

    def sample(self, obs, noise, inward=False):
        assert inward and not self.training
        self.asked["sample"] = obs, noise
        return self.theta * obs[..., :2]

    def corrupt(self, act, noise, t):
        self.asked["corrupt"] = act, noise, t
        return 2.0 * act

    def predict(self, obs, noisy, t):
        if torch.is_grad_enabled():  # the copy never trains
            assert not self.training
        self.asked["predict"] = obs, noisy, t, torch.is_grad_enabled()
        return self.phi * noisy

    def loss(self, obs, act, noise, t):
        self.asked["loss"] = obs, act, noise, t
        return self.phi * act.square().sum(-1) + obs[..., 2]


def heads_of(obs, act):
    """Q_c: the first head is the larger where the first action is positive."""
    total = act.sum(-1)
    return torch.stack([total + obs[..., 2], -2.0 * total + obs[..., 2]])


class Learner(UnsafeObjective):
    """The objective without the learners around it."""

    def __init__(self, members=None, scale=1.0, **settings):
        self.config = SevpoConfig(**settings)
        self.members, self.device, self.n_act = members, torch.device("cpu"), 2
        self.scale_c = torch.full(() if members is None else (members,), scale)
        self.fixed_shapes = False
        self.actor, self.previous = Actor(PHI), Actor(BEFORE)
        self.q_c, self.q_c_target = heads_of, lambda obs, act: 10.0 + heads_of(obs, act)


OBS = [[1.0, 0.5, 0.25], [9.0, 9.0, 9.0], [-1.0, 0.5, 0.5], [9.0, -9.0, 9.0], [0.5, -0.25, 1.0]]
UNSAFE = [0, 0, 1, 0, 1]
V_C = [0.1, 0.2, 0.3, 0.4, 0.25]
# own actions at rows 2 and 4 sum to theta (-0.5) = -0.25 and theta 0.25 = 0.125; the larger heads
# are 0.5 + 0.5 and 1 + 0.125, and A_c is that minus V_c
A_C = [1.0 - 0.3, 1.125 - 0.25]
SLOPE = [-2.0 * -0.5, 1.0 * 0.25]
"""Derivative of A_c by theta."""
SIZE = [0.25 * 1.25, 0.25 * 0.3125]
"""Squared norm of the own actions."""


def batch_of(obs=OBS, act=None):
    obs = torch.tensor(obs)
    act = (
        0.1 * torch.arange(obs[..., :2].numel()).reshape(obs[..., :2].shape) if act is None else act
    )
    return SimpleNamespace(obs=obs, act=act)


def sampled(learner, progress=0.0, mask=UNSAFE, obs=OBS, v_c=V_C):
    mask = torch.tensor(mask, dtype=torch.bool)
    return learner.unsafe_sampled(
        batch_of(obs), torch.tensor(v_c), mask, progress, torch.Generator().manual_seed(7)
    )


PLAIN = {"mu2": 0.5, "normalize_advantage": False}


# exp continued linearly


def test_the_exponential_and_its_linear_continuation():
    x = torch.tensor([-3.0, 0.5, 0.9999, 1.0, 1.0001, 3.0, 200.0], requires_grad=True)
    y = soft_exp(x, 1.0)
    y.sum().backward()
    e = math.e
    expected = [math.exp(-3.0), math.exp(0.5), math.exp(0.9999), e, e * 1.0001, e * 3.0, e * 200.0]
    assert y.tolist() == pytest.approx(expected, rel=1e-6)
    slope = [math.exp(-3.0), math.exp(0.5), math.exp(0.9999), e, e, e, e]
    assert x.grad.tolist() == pytest.approx(slope, rel=1e-6)
    # beyond 2: e^2 (1 + 5 - 2)
    assert soft_exp(torch.tensor(5.0), 2.0).item() == pytest.approx(4.0 * math.exp(2.0), rel=1e-6)


# Eq. 14


def test_gradient_raises_exp_of_plus_the_cost_advantage():
    learner = Learner(unsafe_objective="gradient", **PLAIN)
    loss = sampled(learner)
    # two of five states are unsafe; the mean over them times their share
    value = [math.exp(0.5 * a) for a in A_C]
    assert loss.item() == pytest.approx(0.4 * sum(value) / 2.0, rel=1e-5)
    loss.backward()
    slope = 0.4 * sum(v * 0.5 * s for v, s in zip(value, SLOPE)) / 2.0
    assert learner.actor.theta.grad.item() == pytest.approx(slope, rel=1e-5)
    obs, noise = learner.actor.asked["sample"]
    assert obs.tolist() == [OBS[2], OBS[4]]
    assert torch.equal(noise, torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(7)))
    assert learner.scale_c.item() == 1.0


def test_printed_has_the_letters_sign():
    learner = Learner(unsafe_objective="printed", trust_region="off", **PLAIN)
    loss = sampled(learner, progress=0.9)
    value = [math.exp(-0.5 * a) for a in A_C]
    assert loss.item() == pytest.approx(0.4 * sum(value) / 2.0, rel=1e-5)
    loss.backward()
    slope = 0.4 * sum(v * -0.5 * s for v, s in zip(value, SLOPE)) / 2.0
    assert learner.actor.theta.grad.item() == pytest.approx(slope, rel=1e-5)


def test_the_exponent_is_clipped_where_the_configuration_says():
    learner = Learner(
        unsafe_objective="gradient", mu2=2.0, normalize_advantage=False, exponent_clip=1.5
    )
    loss = sampled(learner)
    # exponents 1.4, below the clip, and 1.75, beyond it
    top = math.exp(1.5)
    assert loss.item() == pytest.approx(0.2 * (math.exp(1.4) + top * 1.25), rel=1e-5)


def test_the_cost_advantage_is_in_units_of_its_running_size():
    learner = Learner(unsafe_objective="gradient", mu2=0.5, scale=2.0)
    loss = sampled(learner)
    size = math.sqrt(sum(a * a for a in A_C) / 2.0)
    scale = 2.0 + 0.01 * (size - 2.0)
    assert learner.scale_c.item() == pytest.approx(scale, rel=1e-6)
    expected = 0.2 * sum(math.exp(0.5 * a / scale) for a in A_C)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()  # the size has no gradient
    slope = 0.2 * sum(math.exp(0.5 * a / scale) * 0.5 / scale * s for a, s in zip(A_C, SLOPE))
    assert learner.actor.theta.grad.item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(("samples", "asked"), [(1, 1), (2, 2), (4, 2), (256, 2)])
def test_at_most_so_many_states_are_sampled(samples, asked):
    learner = Learner(unsafe_objective="gradient", unsafe_samples=samples, **PLAIN)
    loss = sampled(learner)
    value = [math.exp(0.5 * a) for a in A_C][:asked]
    # the share of unsafe states stays 2 of 5 whatever is sampled
    assert loss.item() == pytest.approx(0.4 * sum(value) / asked, rel=1e-5)
    assert learner.actor.asked["sample"][0].shape == (asked, 3)


@pytest.mark.parametrize(("samples", "asked"), [(4, 4), (3, 3), (256, 5), (1, 1)])
def test_fixed_shapes_fill_up_with_states_that_count_for_nothing(samples, asked):
    learner = Learner(unsafe_objective="gradient", unsafe_samples=samples, mu2=0.5)
    learner.fixed_shapes = True
    loss = sampled(learner)
    used = A_C[:asked]
    scale = 1.0 + 0.01 * (math.sqrt(sum(a * a for a in used) / len(used)) - 1.0)
    assert learner.scale_c.item() == pytest.approx(scale, rel=1e-6)
    expected = 0.4 * sum(math.exp(0.5 * a / scale) for a in used) / len(used)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    obs = learner.actor.asked["sample"][0]
    assert obs.tolist() == [OBS[2], OBS[4], OBS[0], OBS[1], OBS[3]][:asked]


def test_of_many_states_the_first_unsafe_ones_are_sampled_in_their_order():
    """Beyond 16 entries torch's sort keeps the order of equal ones only if it is told to."""
    mask = [int(k % 3 == 1 or k % 7 == 2) for k in range(200)]
    learner = Learner(unsafe_objective="gradient", unsafe_samples=40, **PLAIN)
    obs = [[float(k), 0.0, 0.0] for k in range(200)]
    sampled(learner, mask=mask, obs=obs, v_c=[0.0] * 200)
    expected = [float(k) for k in range(200) if mask[k]][:40]
    assert learner.actor.asked["sample"][0][:, 0].tolist() == expected


@pytest.mark.parametrize("objective", ["gradient", "search", "printed"])
def test_without_unsafe_states_nothing_is_sampled(objective):
    learner = Learner(unsafe_objective=objective, **PLAIN)
    loss = sampled(learner, 0.9, mask=[0] * 5)
    assert loss.shape == () and loss.item() == 0.0 and not learner.actor.asked
    members = Learner(members=2, unsafe_objective=objective, **PLAIN)
    nothing = sampled(members, 0.9, [[0] * 5] * 2, [OBS] * 2, [V_C] * 2)
    assert nothing.tolist() == [0.0, 0.0] and not members.actor.asked
    members.device = torch.device("meta")
    assert sampled(members, 0.9, [[0] * 5] * 2, [OBS] * 2, [V_C] * 2).device == members.device


def test_members_have_shares_and_sizes_of_their_own():
    learner = Learner(members=3, unsafe_objective="gradient", mu2=0.5)
    learner.scale_c = torch.tensor([1.0, 2.0, 3.0])
    masks = [UNSAFE, [0, 0, 0, 0, 1], [0] * 5]
    loss = sampled(learner, 0.0, masks, [OBS] * 3, [V_C] * 3)
    size = math.sqrt(sum(a * a for a in A_C) / 2.0)
    scales = [1.0 + 0.01 * (size - 1.0), 2.0 + 0.01 * (A_C[1] - 2.0), 3.0]
    assert learner.scale_c.tolist() == pytest.approx(scales, rel=1e-6)
    expected = [
        0.4 * sum(math.exp(0.5 * a / scales[0]) for a in A_C) / 2.0,
        0.2 * math.exp(0.5 * A_C[1] / scales[1]),
        0.0,
    ]
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)
    assert learner.actor.asked["sample"][0].shape == (3, 2, 3)


# Eq. 15


@pytest.mark.parametrize(
    ("progress", "start", "late"),
    [
        (0.0, 0.5, False),
        (0.4999, 0.5, False),
        (0.5, 0.5, True),
        (0.9, 0.5, True),
        (0.5, 0.75, False),
        (0.0, 0.0, True),
    ],
)
@pytest.mark.parametrize("region", ["added", "printed", "off"])
def test_the_trust_region_comes_after_its_start(progress, start, late, region):
    learner = Learner(
        unsafe_objective="gradient",
        trust_region=region,
        trust_start=start,
        trust_weight=3.0,
        **PLAIN,
    )
    loss = sampled(learner, progress)
    value = [math.exp(0.5 * a) for a in A_C]
    # ||z - z'||^2 = (phi - phi')^2 |2 a|^2, weighted by Eq. 14's exponential
    change = [(PHI - BEFORE) ** 2 * 4.0 * size for size in SIZE]
    damping = 3.0 * sum(v * c for v, c in zip(value, change)) / 2.0
    plain = sum(value) / 2.0
    with_region = late and region != "off"
    expected = (0.0 if with_region and region == "printed" else plain) + (
        damping if with_region else 0.0
    )
    assert loss.item() == pytest.approx(0.4 * expected, rel=1e-5)
    loss.backward()
    slope = 0.2 * sum(v * 0.5 * s for v, s in zip(value, SLOPE))
    if with_region and region == "printed":
        slope = 0.0
    theta, phi = learner.actor.theta.grad, learner.actor.phi.grad
    assert (0.0 if theta is None else theta.item()) == pytest.approx(slope, rel=1e-5, abs=1e-9)
    pull = 0.2 * 3.0 * sum(v * 2.0 * (PHI - BEFORE) * 4.0 * size for v, size in zip(value, SIZE))
    assert (0.0 if phi is None else phi.item()) == pytest.approx(
        pull if with_region else 0.0, rel=1e-5
    )
    assert learner.previous.phi.grad is None and learner.previous.theta.grad is None
    if with_region:
        (act, noise, t), asked = learner.actor.asked["corrupt"], learner.actor.asked["predict"]
        draws = torch.Generator().manual_seed(7)
        torch.randn(2, 3, 2, generator=draws)  # those of the own actions
        assert not act.requires_grad and torch.equal(noise, torch.randn(2, 2, generator=draws))
        assert torch.equal(t, torch.randint(3, (2,), generator=draws))
        before = learner.previous.asked["predict"]
        assert all(torch.equal(a, b) for a, b in zip(asked[:3], before[:3]))
        assert torch.equal(asked[2], t) and (asked[3], before[3]) == (True, False)
        assert asked[0].tolist() == [OBS[2], OBS[4]]


def test_the_printed_sign_also_weighs_the_printed_trust_region():
    learner = Learner(unsafe_objective="printed", trust_region="printed", **PLAIN)
    loss = sampled(learner, 0.5)
    damping = [math.exp(-0.5 * a) * 0.25 * 4.0 * size for a, size in zip(A_C, SIZE)]
    assert loss.item() == pytest.approx(0.2 * sum(damping), rel=1e-5)


def test_the_change_of_the_policy_is_measured_at_noised_actions_of_all_steps():
    learner = Learner()
    shape = (2, 300)
    act = torch.linspace(-1.0, 1.0, 1200).reshape(*shape, 2)
    change = learner._policy_change(torch.zeros(*shape, 3), act, torch.Generator().manual_seed(7))
    torch.testing.assert_close(change, 0.25 * 4.0 * act.square().sum(-1))
    _, noise, t = learner.actor.asked["corrupt"]
    assert noise.shape == act.shape and abs(noise.mean()) < 0.1 and abs(noise.std() - 1.0) < 0.1
    assert (
        torch.bincount(t.flatten(), minlength=3).min() > 150 and t.max() == 2 and t.shape == shape
    )
    draws = torch.Generator().manual_seed(7)
    assert torch.equal(noise, torch.randn(act.shape, generator=draws))
    assert torch.equal(t, torch.randint(3, shape, generator=draws))


def test_draws_of_the_trust_region_lie_where_the_actions_lie():
    """On torch's "meta" device, which has shapes but no numbers and mixes with no other."""
    learner = Learner()
    learner._policy_change(torch.zeros(4, 3, device="meta"), torch.zeros(4, 2, device="meta"), None)
    _, noise, t = learner.actor.asked["corrupt"]
    assert noise.device == t.device == torch.device("meta")


# search


def test_search_imitates_what_it_finds():
    learner = Learner(unsafe_objective="search", **PLAIN)
    asked = {}

    def found(obs, act, v_c, mask, generator):
        assert generator.initial_seed() == 7
        asked.update(obs=obs, act=act, v_c=v_c, mask=mask)
        return torch.tensor([[1.0, 0.5], [-0.5, 0.25]])

    learner._found_actions = found
    loss = sampled(learner)
    # the diffusion loss phi |a|^2 + obs_2 of the found actions
    clone = [PHI * 1.25 + 0.5, PHI * 0.3125 + 1.0]
    assert loss.item() == pytest.approx(0.2 * sum(clone), rel=1e-5)
    assert asked["obs"].tolist() == [OBS[2], OBS[4]] and asked["mask"].tolist() == [1.0, 1.0]
    torch.testing.assert_close(asked["act"], torch.tensor([[0.4, 0.5], [0.8, 0.9]]))
    torch.testing.assert_close(asked["v_c"], torch.tensor([0.3, 0.25]))
    assert "sample" not in learner.actor.asked
    noise = torch.randn(2, 2, generator=torch.Generator().manual_seed(7))
    assert torch.equal(learner.actor.asked["loss"][2], noise)
    # Eq. 15 is added with weight 1, not with an exponential
    late = sampled(learner, 0.5)
    change = [0.25 * 4.0 * 1.25, 0.25 * 4.0 * 0.3125]
    assert late.item() == pytest.approx(0.2 * (sum(clone) + sum(change)), rel=1e-5)


def uniform(monkeypatch, *draws):
    """Let the uniform draws be known ones, in this order."""
    left = list(draws)

    def rand(shape, **settings):
        values = torch.tensor(left.pop(0), dtype=torch.float32)
        assert values.shape == tuple(shape)
        return values

    monkeypatch.setattr(unsafe.torch, "rand", rand)
    return left


HALF = math.exp(-1.0)
"""A uniform number whose Gumbel noise -log(-log u) is 0."""


def find(learner, obs, data, v_c, mask):
    return learner._found_actions(
        torch.tensor(obs),
        torch.tensor(data),
        torch.tensor(v_c),
        torch.tensor(mask),
        torch.Generator(),
    )


def test_search_takes_the_least_cost_among_uniform_actions_and_the_datas(monkeypatch):
    learner = Learner(unsafe_candidates=2, mu2=1.0, normalize_advantage=False)
    # uniform numbers u stand for actions 2 u - 1; Q_c = max(a + b, -2 (a + b)) is least where a + b
    # = 0
    draws = [[[0.5, 0.75], [0.25, 0.75]], [[0.5, 0.6], [1.0, 0.75]], [[0.0, 0.125], [0.5, 0.4]]]
    left = uniform(monkeypatch, draws, [[HALF] * 3] * 3)
    data = [[0.9, 0.9], [0.1, -0.05], [1.0, 0.5]]
    found = find(learner, [[0.0] * 3] * 3, data, [0.0] * 3, [1.0] * 3)
    # a + b are 1.8, 0.5, 0 | 0.05, 0.2, 1.5 | 1.5, -1.75, -0.2
    torch.testing.assert_close(found, torch.tensor([[-0.5, 0.5], [0.1, -0.05], [0.0, -0.2]]))
    assert not left


@pytest.mark.parametrize(
    ("cost", "noise", "mu2", "scale", "first"),
    [
        (0.5, 0.4, 1.0, 1.0, False),
        (0.5, 0.6, 1.0, 1.0, True),
        (0.5, 0.6, 2.0, 1.0, False),  # exponent 1
        (0.5, 1.1, 2.0, 1.0, True),
        (0.5, 0.3, 2.0, 4.0, True),  # exponent a quarter
        (0.5, 0.2, 2.0, 4.0, False),
    ],
)
def test_search_draws_in_proportion_to_exp_of_minus_the_cost_advantage(
    monkeypatch, cost, noise, mu2, scale, first
):
    learner = Learner(unsafe_candidates=1, mu2=mu2, normalize_advantage=False, scale=scale)
    # the data's action costs `cost` more, but its Gumbel noise is `noise` higher
    share = math.exp(-math.exp(-noise))
    uniform(monkeypatch, [[[0.5, 0.5]]], [[share, HALF]])
    found = find(learner, [[0.0, 0.0, 7.0]], [[cost, 0.0]], [0.3], [1.0])
    assert found.tolist() == [[cost if first else 0.0, 0.0]]


@pytest.mark.parametrize(
    ("share", "cost", "first"), [(1.0, 15.0, True), (1.0, 17.0, False), (0.0, 3.2, True)]
)
def test_the_ends_of_the_unit_interval_stay_finite(monkeypatch, share, cost, first):
    learner = Learner(unsafe_candidates=1, mu2=1.0, normalize_advantage=False)
    learner.q_c_target = lambda obs, act: torch.stack([obs[..., 0] * (act[..., 0] + 1.0)] * 2)
    # share 1 is taken as 1 - 1e-7: noise 15.9; share 0 as 1e-9: noise -3.03, from the cheaper
    # action
    data = 0.0 if share == 1.0 else -1.0
    uniform(monkeypatch, [[[0.0, 0.5]]] if share == 1.0 else [[[0.5, 0.5]]], [[share, HALF]])
    found = find(learner, [[cost, 0.0, 0.0]], [[data, 0.25]], [0.0], [1.0])
    assert (found[0, 1].item() == 0.25) is first


def test_search_follows_the_size_of_all_candidates_in_s2(monkeypatch):
    learner = Learner(members=2, unsafe_candidates=2, mu2=1.0)
    learner.scale_c = torch.tensor([1.0, 2.0])
    draws = [[[0.5, 0.75], [0.25, 0.75]], [[0.5, 0.6], [1.0, 0.75]]]
    uniform(monkeypatch, [draws, draws[::-1]], [[[HALF] * 3] * 2] * 2)
    data = [[[0.9, 0.9], [0.1, -0.05]], [[0.5, 0.0], [-0.5, 0.0]]]
    obs = [[[0.0, 0.0, 1.0]] * 2] * 2
    found = find(learner, obs, data, [[0.5, 7.0], [10.0, 0.25]], [[1.0, 0.0], [1.0, 1.0]])
    # target's Q_c = 11 + a + b where that is positive, else 11 - 2 (a + b)
    first = np.array([1.8, 0.5, 0.0]) + 10.5
    second = np.array([0.5, 0.2, 1.5, 1.0 + 9.75, 0.5 + 9.75, 9.75]) + np.array(
        [1.0] * 3 + [1.0] * 3
    )
    scales = [
        1.0 + 0.01 * (math.sqrt((first**2).mean()) - 1.0),
        2.0 + 0.01 * (math.sqrt((second**2).mean()) - 2.0),
    ]
    assert learner.scale_c.tolist() == pytest.approx(scales, rel=1e-5)
    expected = [[[-0.5, 0.5], [0.1, -0.05]], [[0.0, 0.2], [-0.5, 0.5]]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert not found.requires_grad


def test_uniform_actions_fill_the_whole_box():
    learner = Learner(unsafe_candidates=500, mu2=0.0, normalize_advantage=False)
    found = learner._found_actions(
        torch.zeros(400, 3),
        torch.zeros(400, 2),
        torch.zeros(400),
        torch.ones(400),
        torch.Generator().manual_seed(7),
    )
    assert found.shape == (400, 2) and abs(found.mean()) < 0.1
    assert found.min() < -0.95 and found.max() > 0.95 and found.abs().max() <= 1.0


# awr


def awr(learner, advantage=(0.5, -1.0, 9.0, 2.0), mask=(1, 1, 0, 1), loss=(1.0, 2.0, 4.0, 8.0)):
    loss = torch.tensor(loss, requires_grad=True)
    found = learner.unsafe_awr(loss, torch.tensor(mask, dtype=torch.bool), torch.tensor(advantage))
    found.sum().backward()
    return found, loss.grad


def test_awr_weighs_the_datas_actions():
    learner = Learner(mu2=0.5, normalize_advantage=False, normalize_weights=False)
    weight = [math.exp(-0.25), math.exp(0.5), 0.0, math.exp(-1.0)]
    found, gradient = awr(learner)
    # the mean over the whole batch of four
    expected = (weight[0] * 1.0 + weight[1] * 2.0 + weight[3] * 8.0) / 4.0
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert gradient.tolist() == pytest.approx([w / 4.0 for w in weight], rel=1e-5)


def test_awr_clips_before_it_divides_by_the_mean():
    learner = Learner(mu2=2.0, normalize_advantage=False, weight_clip=3.0)
    # exponents -1, 2 (clipped at log 3) and -4
    weight = np.array([math.exp(-1.0), 3.0, 0.0, math.exp(-4.0)])
    weight = weight / (weight.sum() / 3.0)
    found, gradient = awr(learner)
    assert found.item() == pytest.approx((weight * [1.0, 2.0, 4.0, 8.0]).mean(), rel=1e-5)
    assert gradient.tolist() == pytest.approx((weight / 4.0).tolist(), rel=1e-5)
    default = Learner(mu2=2.0, normalize_advantage=False, normalize_weights=False)
    assert awr(default, (-9.0, 9.0, 9.0, 9.0))[0].item() == pytest.approx(25.0, rel=1e-5)  # 100 / 4


def test_awr_never_divides_by_less_than_a_millionth():
    learner = Learner(mu2=5.0, normalize_advantage=False)
    weight = math.exp(-20.0) / 1e-6
    found, _ = awr(learner, (4.0, 4.0, 4.0, 4.0))
    assert found.item() == pytest.approx(weight * 11.0 / 4.0, rel=1e-4)
    assert awr(learner, mask=(0, 0, 0, 0))[0].item() == 0.0


def test_awr_of_members_has_units_of_its_own():
    learner = Learner(members=2, mu2=0.5, normalize_weights=False)
    learner.scale_c = torch.tensor([1.0, 3.0])
    advantage, mask = [[0.5, -1.0, 9.0], [1.0, 2.0, -2.0]], [[1, 1, 0], [0, 1, 1]]
    found, _ = awr(learner, advantage, mask, [[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    scales = [1.0 + 0.01 * (math.sqrt(1.25 / 2.0) - 1.0), 3.0 + 0.01 * (2.0 - 3.0)]
    assert learner.scale_c.tolist() == pytest.approx(scales, rel=1e-6)
    expected = [
        (math.exp(-0.25 / scales[0]) + 2.0 * math.exp(0.5 / scales[0])) / 3.0,
        (16.0 * math.exp(-1.0 / scales[1]) + 32.0 * math.exp(1.0 / scales[1])) / 3.0,
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_awr_of_members_divides_each_by_its_own_mean():
    learner = Learner(members=2, mu2=1.0, normalize_advantage=False)
    found, _ = awr(learner, [[0.0, 1.0], [0.0, -2.0]], [[1, 1], [1, 1]], [[1.0, 3.0], [1.0, 3.0]])
    first, second = (1.0 + math.exp(-1.0)) / 2.0, (1.0 + math.exp(2.0)) / 2.0
    expected = [
        (1.0 + 3.0 * math.exp(-1.0)) / first / 2.0,
        (1.0 + 3.0 * math.exp(2.0)) / second / 2.0,
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


# the unit of mu2


@pytest.mark.parametrize(
    ("normalize", "before", "mask", "after"),
    [
        (True, 2.0, [1.0, 1.0, 0.0], 2.0 + 0.01 * (5.0 / math.sqrt(2.0) - 2.0)),
        (True, 2.0, [0.0, 0.0, 1.0], 2.0 + 0.01 * (100.0 - 2.0)),
        (True, 2.0, [0.0, 0.0, 0.0], 2.0),
        (True, 1e-5, [0.0, 0.0, 0.0], 1e-5),
        (False, 2.0, [1.0, 1.0, 1.0], 2.0),
    ],
)
def test_the_size_of_the_cost_advantage_follows_slowly(normalize, before, mask, after):
    learner = Learner(scale=before, normalize_advantage=normalize)
    held = learner.scale_c
    learner._scale_cost(torch.tensor([3.0, -4.0, 100.0]), torch.tensor(mask))
    assert learner.scale_c is held and held.item() == pytest.approx(after, rel=1e-6)


def test_the_size_never_falls_below_a_thousandth():
    learner = Learner(scale=1e-5)
    learner._scale_cost(torch.zeros(3), torch.ones(3))
    assert learner.scale_c.item() == pytest.approx(1e-3, rel=1e-6)


def test_the_forms_of_the_unsafe_objective_have_these_names():
    assert unsafe.UNSAFE_OBJECTIVES == ("gradient", "search", "awr", "none", "printed")
