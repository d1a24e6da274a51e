"""The export by numbers: what is compared with what tolerance, what the file computes, which
contract it gets.
"""

import hashlib
import json
import sys
import types

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper

from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.data.shards import Episodes
from go2_sevpo.deploy.export import cli as export
from go2_sevpo.deploy.export.cli import Args, export_run, parity, write_onnx
from go2_sevpo.networks.diffusion import Diffusion
from go2_sevpo.networks.layers import Critic, Denoiser, Normalizer, Value
from go2_sevpo.policies.contract import CONTRACT_KEY, ContractError
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.policies.torch_policy import (
    BudgetPolicy,
    DiffusionPolicy,
    GaussianPolicy,
    save_policy,
)
from go2_sevpo.runs.checkpoint import CheckpointError

CONTRACT = {
    "contract_version": 1,
    "robot": "toy",
    "control_dt": 0.1,
    "action_clip": 1.0,
    "observation": {"size": 4},
    "sampler": {"candidates": 3, "steps": 1},
}


def test_tolerance_and_versions():
    assert export.TOLERANCE == 1e-5  # as docs and write_onnx's docstring say
    assert export.OPSET == 17 and export.OLD_OPSET == 16


@pytest.mark.parametrize(
    "version, new",
    [
        ("1.9.0", False),
        ("1.12.1+cu113", False),
        ("1.12+cu113", False),
        ("2.3+cpu", True),
        ("1.13.0", True),
        ("1.13.1+cpu", True),
        ("2.0.1", True),
        ("2.12.0a0+git1", True),
        ("0.14.0", False),
    ],
)
def test_layer_normalisation_needs_torch_1_13(monkeypatch, version, new):
    monkeypatch.setattr(export.torch, "__version__", version)
    assert export._new_torch() is new


class Echo:
    """A torch policy: action = observation, cost value = 2 * spent cost - 10, candidate = the row's
    number modulo 7.
    """

    needs_cost = True

    def __call__(self, observation, noise, spent):
        self.observation, self.noise, self.spent = observation, noise, spent
        return observation.clone(), 2.0 * spent - 10.0, torch.arange(len(observation)) % 7


class Session:
    """The same by numpy, but for what ``change`` does to action, cost value and candidate."""

    def __init__(self, change=lambda action, value, candidate: None):
        self.change = change

    def noise_shape(self, batch):
        return (batch, 3, 2, 4)

    def act(self, observation, noise, spent):
        self.given = observation, noise, spent
        found = observation.copy(), 2.0 * spent - 10.0, np.arange(len(observation)) % 7
        self.change(*found)
        return found


def logged(rows):
    """Column k: ordinary numbers with mean 100 k and deviation k."""
    generator = torch.Generator().manual_seed(3)
    scale = torch.arange(4.0)
    return 100.0 * scale + scale * torch.randn(rows, 4, generator=generator)


def test_parity_asks_both_about_logged_and_random_observations():
    policy, session, seen = Echo(), Session(), logged(1000)
    found = parity(policy, session, seen.double())
    assert found == {"action": 0.0, "cost_value": 0.0, "candidates_differ": 0.0}
    assert policy.observation.shape == (512, 4) and policy.observation.dtype == torch.float32
    assert torch.equal(policy.observation[:256], seen[:256])
    random = policy.observation[256:]
    # The logged mean and the deviation plus 0.1.
    expected = seen[:256].std(0) + 0.1
    assert ((random.mean(0) - seen[:256].mean(0)).abs() < 4.0 * expected / 16.0).all()
    assert ((random.std(0) / expected - 1.0).abs() < 0.2).all()
    assert policy.noise.shape == (512, 3, 2, 4) and abs(float(policy.noise.std()) - 1.0) < 0.05
    spent = np.arange(512) * 20.0 / 511.0
    assert policy.spent.numpy() == pytest.approx(spent, abs=1e-5)
    for given, asked in zip(session.given, (policy.observation, policy.noise, policy.spent)):
        assert np.array_equal(given, asked.numpy())


def test_parity_draws_follow_from_its_seed():
    draws = []
    for seed in ({}, {"seed": 0}, {"seed": 1}):
        policy = Echo()
        parity(policy, Session(), logged(10), **seed)
        draws.append((policy.observation, policy.noise))
        assert len(policy.observation) == 10 + 256
    assert all(torch.equal(a, b) for a, b in zip(draws[0], draws[1]))
    assert not torch.equal(draws[0][1], draws[2][1])
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(256, 4, generator=generator)
    expected = logged(10).mean(0) + (logged(10).std(0) + 0.1) * random
    torch.testing.assert_close(draws[0][0][10:], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(draws[0][1], torch.randn(266, 3, 2, 4, generator=generator))


def test_parity_is_the_largest_difference_of_actions():
    def change(action, value, candidate):
        action[:] = 0.0
        action[3, 2], action[400, 0] = 0.25, -0.5

    class Zero(Echo):
        def __call__(self, observation, noise, spent):
            return observation * 0.0, spent, torch.zeros(len(observation)).long()

    class Same(Session):
        def act(self, observation, noise, spent):
            found = observation.copy(), spent.copy(), np.zeros(len(observation), np.int64)
            change(*found)
            return found

    assert parity(Zero(), Same(), logged(256)) == {
        "action": 0.5,
        "cost_value": 0.0,
        "candidates_differ": 0.0,
    }


@pytest.mark.parametrize(
    "row, change, expected",
    [
        (0, 0.5, 0.5 / 10.0),  # the cost value is -10: relative to 10
        (0, -0.5, 0.5 / 10.0),
        (511, 3.0, 3.0 / 30.0),  # 30
        (128, 0.001, 0.001 / 1.0),  # 0.0196: relative to 1
    ],
)
def test_parity_of_cost_values_is_relative_above_1(row, change, expected):
    def shift(action, value, candidate):
        value[row] += change

    found = parity(Echo(), Session(shift), logged(256))
    assert found["cost_value"] == pytest.approx(expected, rel=1e-2)
    assert found["action"] == 0.0


def test_rows_with_another_candidate_are_counted_and_their_actions_left_out():
    def tip(rows):
        def change(action, value, candidate):
            candidate[:rows] += 1
            action[:rows] += 50.0
            action[rows] += 16.0

        return Session(change)

    class Coarse(Echo):
        def __call__(self, observation, noise, spent):
            return observation * 0.0, spent * 0.0 - 0.0, torch.arange(len(observation)) % 7

    def compare(rows):
        session = tip(rows)
        act = session.act

        def coarse(observation, noise, spent):
            action, _, candidate = act(observation * 0.0, noise, spent)
            return action, spent * 0.0, candidate

        session.act = coarse
        return parity(Coarse(), session, logged(256))

    found = compare(5)
    assert found["candidates_differ"] == 5 / 512 and found["action"] == 16.0
    with pytest.raises(
        ContractError,
        match=r"choose different candidates in 1.2% of the rows, expected at most 1%",
    ):
        compare(6)  # 6 / 512


def test_exactly_one_percent_of_other_candidates_is_allowed():
    def change(action, value, candidate):
        candidate[:3] += 1

    # 44 logged and 256 random rows: 3 of 300.
    assert parity(Echo(), Session(change), logged(44))["candidates_differ"] == pytest.approx(0.01)


def draw_graph(policy, observations, candidates, out):
    """A graph of the interface instead of the traced policy."""
    inputs = [("observation", ["b", 4]), ("noise", ["b", "n", 1, 2])]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["noise", "zero"], ["one"], axis=1),
            helper.make_node("Gather", ["one", "zero"], ["action"], axis=1),
            helper.make_node("Gather", ["observation", "zero"], ["cost_value"], axis=1),
            helper.make_node("Cast", ["cost_value"], ["candidate"], to=TensorProto.INT64),
        ],
        "policy",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
        [
            helper.make_tensor_value_info("action", TensorProto.FLOAT, ["b", 2]),
            helper.make_tensor_value_info("cost_value", TensorProto.FLOAT, ["b"]),
            helper.make_tensor_value_info("candidate", TensorProto.INT64, ["b"]),
        ],
        [helper.make_tensor("zero", TensorProto.INT64, [], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, str(out))


@pytest.fixture
def drawn(monkeypatch):
    """Exports without tracing; parity says what the test wants."""
    calls, says = [], {"action": 0.0, "cost_value": 0.0, "candidates_differ": 0.0}

    def trace(policy, observations, candidates, out):
        calls.append((policy, observations, candidates, out))
        draw_graph(policy, observations, candidates, out)

    def compare(policy, session, observations):
        calls.append((policy, session, observations))
        return dict(says)

    monkeypatch.setattr(export, "_trace", trace)
    monkeypatch.setattr(export, "parity", compare)
    return types.SimpleNamespace(calls=calls, says=says)


@pytest.mark.parametrize(
    "action, value, fits",
    [
        (0.0, 0.0, True),
        (1e-5, 0.0, True),
        (0.0, 1e-5, True),
        (1.01e-5, 0.0, False),
        (0.0, 1.01e-5, False),
        (1e-4, 1e-7, False),
        (float("nan"), 0.0, False),
        (0.0, float("nan"), False),
    ],
)
def test_a_file_gets_its_name_only_if_it_agrees_to_1e_5(tmp_path, drawn, action, value, fits):
    drawn.says.update({"action": action, "cost_value": value})
    out = tmp_path / "new" / "folder" / "p.onnx"
    if fits:
        assert write_onnx("policy", CONTRACT, "seen", out) == drawn.says
        assert [p.name for p in out.parent.iterdir()] == ["p.onnx"]
    else:
        worst = float(np.max([action, value]))
        with pytest.raises(ContractError) as error:
            write_onnx("policy", CONTRACT, "seen", out)
        assert str(error.value) == (
            f"torch and onnxruntime differ by {worst:.2e}, expected at most 1e-05; "
            "nothing was written"
        )
        assert not list(out.parent.iterdir())


def test_a_cost_value_that_is_no_number_is_refused(tmp_path, drawn):
    drawn.says["cost_value"] = float("nan")
    with pytest.raises(ContractError, match="differ by nan, expected at most 1e-05"):
        write_onnx("policy", CONTRACT, "seen", tmp_path / "p.onnx")


def test_the_contract_is_in_the_file_and_parity_is_asked_of_that_file(tmp_path, drawn):
    out = tmp_path / "p.onnx"
    third = {**CONTRACT, "control_dt": 1.0 / 3.0}
    write_onnx("policy", third, "seen", out)
    (policy, observations, candidates, traced), (asked, session, seen) = drawn.calls
    assert (policy, observations, candidates) == ("policy", "seen", 3)
    assert traced.parent == tmp_path and traced.name.startswith("p.onnx.") and traced != out
    assert (asked, seen) == ("policy", "seen") and session.contract == third
    assert session.path == traced
    found = {p.key: p.value for p in onnx.load(str(out)).metadata_props}
    assert found.pop(CONTRACT_KEY) == json.dumps(third)
    (digest,) = found.values()
    assert len(digest) == 64


def test_an_incomplete_contract_is_refused_before_anything_is_written(tmp_path, drawn):
    with pytest.raises(ContractError, match="contract field 'robot' is missing"):
        write_onnx(
            "policy", {k: v for k, v in CONTRACT.items() if k != "robot"}, "seen", tmp_path / "p"
        )
    assert not drawn.calls and not list(tmp_path.iterdir())


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("new, opset", [(True, 17), (False, 16)])
def test_batch_and_candidates_are_free_in_the_traced_graph(monkeypatch, dynamo, new, opset):
    given = {}

    def newer(model, args, f, input_names, output_names, dynamic_axes, opset_version, dynamo=True):
        given.update(locals())

    def older(model, args, f, input_names, output_names, dynamic_axes, opset_version):
        given.update(locals())

    monkeypatch.setattr(export.torch.onnx, "export", newer if dynamo else older)
    monkeypatch.setattr(export, "_new_torch", lambda: new)
    policy = GaussianPolicy([4, 5, 3], torch.zeros(3), 1.0)
    seen = torch.arange(20.0).reshape(4, 5).T
    export._trace(policy, seen, 7, "out.onnx")
    assert given["model"] is policy and given["f"] == "out.onnx" and given["opset_version"] == opset
    assert torch.equal(given["args"][0], seen[:2]) and given["args"][0].is_contiguous()
    assert torch.equal(given["args"][1], torch.zeros(2, 7, 1, 3)) and len(given["args"]) == 2
    assert given["input_names"] == ["observation", "noise"]
    assert given["output_names"] == ["action", "cost_value", "candidate"]
    axes = {
        "observation": {0: "batch"},
        "noise": {0: "batch", 1: "candidates"},
        "action": {0: "batch"},
        "cost_value": {0: "batch"},
        "candidate": {0: "batch"},
    }
    assert given["dynamic_axes"] == axes
    assert given.get("dynamo", False) is False
    budget = BudgetPolicy([5, 3], Normalizer(torch.zeros(4), torch.ones(4)), 1.0, 1.0)
    export._trace(budget, seen, 1, "out.onnx")
    assert given["input_names"] == ["observation", "noise", "spent_cost"]
    assert given["dynamic_axes"] == {**axes, "spent_cost": {0: "batch"}}
    assert torch.equal(given["args"][2], torch.zeros(2))


def wild_data():
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
    zero, end = np.zeros(2000, np.float32), np.zeros(2000, np.float32)
    end[-1] = 1.0
    columns = {
        "observations": frames[:-1],
        "next_observations": frames[1:],
        "actions": np.zeros((2000, 1), np.float32),
        "rewards": zero,
        "costs": zero,
        "terminals": zero,
        "timeouts": end,
    }
    table = {"length": [2000], "return": [0.0], "cost": [0.0], "success": [0], "fall": [0]}
    return OfflineDataset([Episodes(columns, {k: np.array(v) for k, v in table.items()})]), frames


WEIGHTS = np.array([0.5, -1.0, 2.0, 0.25])


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """An exported ``escape`` policy all of whose parts are known.

    Action: the first noise times 0.5 / sqrt(alpha), alpha = exp(-0.1 - 9.9 / 2) (one step, no noise
    predicted, temperature 0.5). Cost: the heads |a - n0 / 20| and 0.1 less, with n the normalised
    observation; limit 0.125. Cost value: WEIGHTS n.
    """
    data, frames = wild_data()
    with torch.no_grad():
        denoiser = Denoiser(4, 1, "mlp", 3, 1, 0.0)
        denoiser.out.weight.zero_()
        denoiser.out.bias.zero_()
        critic = Critic(4, 1, (2,))
        side = torch.tensor([[-0.05, 0.0, 0.0, 0.0, 1.0]]).T  # a - n0 / 20
        critic.layers[0].weight.copy_(torch.cat([side, -side], 1).expand(2, -1, -1))
        critic.layers[0].bias.zero_()
        critic.layers[1].weight.fill_(1.0)
        critic.layers[1].bias.copy_(torch.tensor([0.0, -0.1]).reshape(2, 1, 1))
        value = Value(4, (8,))
        value.net[0].weight.copy_(torch.cat([torch.eye(4), -torch.eye(4)]))
        value.net[0].bias.zero_()
        weights = torch.tensor(WEIGHTS, dtype=torch.float32)
        value.net[2].weight.copy_(torch.cat([weights, -weights])[None])
        value.net[2].bias.zero_()
    policy = DiffusionPolicy(
        Normalizer(data.mean, data.std),
        Diffusion(denoiser, 1, "noise"),
        0.5,
        "escape",
        critic,
        None,
        value,
        0.125,
    ).eval()
    path = tmp_path_factory.mktemp("known") / "known.onnx"
    found = write_onnx(policy, CONTRACT, torch.tensor(frames), path)
    assert max(found["action"], found["cost_value"]) <= 1e-5
    return OnnxPolicy(path), data, frames


def test_exported_file_normalises_as_the_dataset_did(known):
    """(x - mean) / max(std, 0.05) within +-10, beyond 10 deviations and where nothing moves."""
    session, data, frames = known
    wide = frames.astype(np.float64)
    scaled = (wide - wide.mean(0)) / np.maximum(wide.std(0, ddof=1), 0.05)
    assert (scaled.max(0)[[1, 3]] > 15.0).all() and (scaled.min(0)[[1, 3]] < -15.0).all()
    noise = np.zeros((len(frames), 1, 1, 1), np.float32)
    value = session.act(frames, noise)[1]
    assert value == pytest.approx(np.clip(scaled, -10.0, 10.0) @ WEIGHTS, rel=1e-3, abs=2e-3)
    assert value == pytest.approx(data.frames.numpy() @ WEIGHTS, rel=1e-5, abs=1e-4)
    # Far away alone: WEIGHTS[1] 10 beside the mean of the others.
    far = data.mean.numpy()[None] + np.array([[0.0, 1e4, 0.0, 0.0], [0.0, -1e4, 0.0, 0.0]])
    value = session.act(far.astype(np.float32), noise[:2])[1]
    assert value == pytest.approx([-10.0, 10.0], abs=1e-3)


def test_exported_file_chooses_as_written_on_paper(known):
    session, data, _ = known
    factor = 0.5 / np.sqrt(np.exp(-0.1 - 0.5 * 9.9))
    # Four states: goals n0 / 20 of 0, 0.4, -0.4 and 0.5 (clipped: n0 is 10).
    n0 = np.array([0.0, 8.0, -8.0, 300.0])
    obs = np.tile(data.mean.numpy(), (4, 1))
    obs[:, 0] += n0 * data.std.numpy()[0]
    own = np.array([[0.2, -0.12, 0.01], [0.2, 0.26, 0.28], [0.9, 0.8, 0.7], [0.3, 0.6, 0.45]])
    noise = (own / factor).astype(np.float32)[:, :, None, None]
    # Uniform actions by the error function of the same noise: all near 0 here.
    uniform = np.array([torch.erf(torch.tensor(z / np.sqrt(2.0))).numpy() for z in own / factor])
    goal = np.clip(n0, -10.0, 10.0) / 20.0
    # State 0: |a| <= 0.125 first at number 1. State 1: at number 2 (0.12). State 2: none, so the
    # least of all, which is the uniform one nearest to -0.4. State 3: number 1 (0.1).
    nearest = 3 + int(np.abs(uniform[2] - goal[2]).argmin())
    assert np.abs(uniform[2] - goal[2]).min() < 1.0
    action, _, candidate = session.act(obs.astype(np.float32), noise)
    assert candidate.tolist() == [1, 2, nearest, 1]
    expected = [own[0, 1], own[1, 2], uniform[2, nearest - 3], own[3, 1]]
    assert action[:, 0] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_exported_file_has_free_batch_and_candidates(known):
    session, _, frames = known
    assert session.candidates == 3 and session.noise_shape(2) == (2, 3, 1, 1)
    for batch, candidates in ((1, 1), (5, 4)):
        action, value, candidate = session.act(
            frames[:batch], np.zeros((batch, candidates, 1, 1), np.float32)
        )
        assert action.shape == (batch, 1) and value.shape == candidate.shape == (batch,)
        assert candidate.dtype == np.int64


def test_exported_budget_policy_takes_what_was_spent(tmp_path):
    policy = BudgetPolicy(
        [2, 1], Normalizer(torch.tensor([1.0]), torch.tensor([2.0])), 8.0, 4.0
    ).eval()
    with torch.no_grad():
        policy.mlp[0].weight.copy_(torch.tensor([[0.5, -1.0]]))
        policy.mlp[0].bias.fill_(0.25)
    out = tmp_path / "p.onnx"
    sampler = {**policy.sampler, "candidates": 1}
    write_onnx(
        policy, {**CONTRACT, "sampler": sampler}, torch.linspace(-1.0, 1.0, 20)[:, None], out
    )
    session = OnnxPolicy(out)
    assert session.needs_cost and session.noise_shape(3) == (3, 1, 1, 1)
    obs = np.array([[3.0], [3.0], [-2.0]], np.float32)
    spent = np.array([0.0, 6.0, 99.0], np.float32)
    action, value, candidate = session.act(obs, np.zeros((3, 1, 1, 1), np.float32), spent)
    left = np.array([8.0, 2.0, 0.0])
    expected = np.tanh(0.5 * (obs[:, 0] - 1.0) / 2.0 - left / (left + 4.0) + 0.25)
    assert action[:, 0] == pytest.approx(expected, rel=1e-5)
    assert value.tolist() == left.tolist() and candidate.tolist() == [0, 0, 0]


@pytest.fixture
def written(monkeypatch):
    """What an export would write."""
    calls = []

    def write(policy, contract, observations, out, extra=None):
        calls.append(
            types.SimpleNamespace(
                policy=policy,
                contract=contract,
                observations=observations,
                out=out,
                yaml=None,
            )
        )
        return {"action": 1e-7, "cost_value": 2e-7}

    monkeypatch.setattr(export, "write_onnx", write)

    def write_yaml(contract, out):
        calls[-1].yaml = contract, out

    monkeypatch.setattr(export, "write_deploy_yaml", write_yaml)
    return calls


SWIMMER = "go2_sevpo/SafetySwimmerVelocity-v1"


def diffusion(choice="first_safe"):
    critics = Critic(8, 2, (3,)), Critic(8, 2, (3,)), Value(8, (3,))
    return DiffusionPolicy(
        Normalizer(torch.zeros(8), torch.ones(8)),
        Diffusion(Denoiser(8, 2, "mlp", 3, 1, 0.0), 4, "clean"),
        0.75,
        choice,
        *critics,
        limit=0.5,
    )


def run_folder(path, policy=None, name="policy_last", **info):
    info = {"algorithm": "sevpo", "environment": SWIMMER, "candidates": 6, **info}
    save_policy(path / f"{name}.safetensors", policy or diffusion(), torch.full((3, 8), 0.5), info)
    return path


def test_a_run_is_exported_with_its_own_settings_unless_others_are_given(tmp_path, written):
    out = tmp_path / "p.onnx"
    assert Args(tmp_path).out.name == "policy.onnx"
    defaults = Args(tmp_path)
    assert not defaults.best
    for name in ("candidates", "choice", "limit", "temperature", "layout", "budget"):
        assert getattr(defaults, name) is None
    run_folder(tmp_path)
    assert export_run(Args(tmp_path, out)) == {"action": 1e-7, "cost_value": 2e-7}
    first = written[-1]
    assert first.out == out and first.observations.tolist() == [[0.5] * 8] * 3
    assert first.contract == {
        "contract_version": 1,
        "robot": "Swimmer",
        "environment": SWIMMER,
        "control_dt": 0.04,
        "action_clip": 1.0,
        "observation": {"name": "SafetySwimmerVelocity-v1", "size": 8},
        "kind": "sevpo",
        "sampler": {
            "kind": "diffusion",
            "steps": 4,
            "prediction": "clean",
            "temperature": 0.75,
            "choice": "first_safe",
            "limit": 0.5,
            "noise_scale": 1.0,
            "candidates": 6,
        },
        "provenance": {"algorithm": "sevpo", "environment": SWIMMER, "candidates": 6},
    }
    assert first.yaml is None  # no Go2
    export_run(Args(tmp_path / "policy_last.safetensors", out, 9, "argmax_reward", 0.25, 0.125))
    other = written[-1]
    assert (other.policy.choice, other.policy.limit, other.policy.temperature) == (
        "argmax_reward",
        0.25,
        0.125,
    )
    sampler = other.contract["sampler"]
    assert (sampler["choice"], sampler["limit"], sampler["temperature"], sampler["candidates"]) == (
        "argmax_reward",
        0.25,
        0.125,
        9,
    )
    export_run(Args(tmp_path, out, limit=0.0, temperature=0.0))
    assert written[-1].policy.limit == 0.0 and written[-1].policy.temperature == 0.0


def test_candidates_are_the_given_the_runs_or_1(tmp_path, written):
    run_folder(tmp_path, diffusion("first"))
    export_run(Args(tmp_path))
    assert written[-1].contract["sampler"]["candidates"] == 1  # the actor alone needs one
    export_run(Args(tmp_path, candidates=5))
    assert written[-1].contract["sampler"]["candidates"] == 5
    export_run(Args(tmp_path, choice="argmin_cost"))
    assert written[-1].contract["sampler"]["candidates"] == 6
    save_policy(
        tmp_path / "x.safetensors", diffusion(), torch.zeros(1, 8), {"environment": SWIMMER}
    )
    export_run(Args(tmp_path / "x.safetensors"))
    assert written[-1].contract["sampler"]["candidates"] == 1
    assert written[-1].contract["kind"] == "?"


def test_the_best_policy_is_exported_if_asked_for(tmp_path, written):
    run_folder(tmp_path)
    run_folder(tmp_path, name="policy_best", step=7)
    export_run(Args(tmp_path, best=True))
    assert written[-1].contract["provenance"]["step"] == 7
    export_run(Args(tmp_path))
    assert "step" not in written[-1].contract["provenance"]
    with pytest.raises(CheckpointError, match="no checkpoint at .*policy_best.safetensors"):
        export_run(Args(tmp_path / "nowhere", best=True))


def test_the_environment_is_the_policys_or_its_datasets_or_else_the_go2s(tmp_path, written):
    path = tmp_path / "p.safetensors"
    cases = [
        ({"dataset": {"environment": SWIMMER}}, "Swimmer"),
        (
            {"environment": SWIMMER, "dataset": {"environment": "go2_sevpo/SafetyCarGoal1-v0"}},
            "Swimmer",
        ),
        ({"environment": None, "dataset": None}, "unitree_go2"),
        ({"dataset": {}}, "unitree_go2"),
    ]
    for info, robot in cases:
        save_policy(path, diffusion("first"), torch.zeros(1, 8), info)
        export_run(Args(path, tmp_path / "out.onnx"))
        assert written[-1].contract["robot"] == robot
        expected = (written[-1].contract, tmp_path / "out.onnx") if robot == "unitree_go2" else None
        assert written[-1].yaml == expected
    save_policy(path, diffusion("first"), torch.zeros(1, 8), {"environment": "moon"})
    with pytest.raises(
        ContractError, match="no contract for environment 'moon', expected one of go2_"
    ):
        export_run(Args(path))


def test_limits_are_for_choices_that_ask_for_one(tmp_path, written):
    expected = "expected one of first_safe, escape, argmax_reward$"
    for choice in ("first", "argmin_cost"):
        run_folder(tmp_path, diffusion(choice))
        with pytest.raises(ContractError, match=f"^limit 0.25 for choice {choice}, {expected}"):
            export_run(Args(tmp_path, limit=0.25))
    run_folder(tmp_path, GaussianPolicy([8, 2], torch.zeros(2), 1.0))
    with pytest.raises(ContractError, match=f"^limit 0.25 for choice first, {expected}"):
        export_run(Args(tmp_path, limit=0.25))
    with pytest.raises(
        ContractError,
        match="choice is 'best', expected one of first, first_safe, escape, argmin_cost, "
        "argmax_reward",
    ):
        export_run(Args(tmp_path, choice="best"))
    assert not written


def test_budgets_are_for_policies_that_keep_one(tmp_path, written):
    budget = BudgetPolicy([9, 2], Normalizer(torch.zeros(8), torch.ones(8)), 5.0, 4.0)
    run_folder(tmp_path, budget, algorithm="ccac")
    export_run(Args(tmp_path))
    assert written[-1].contract["sampler"]["cost_budget"] == 5.0
    for given in (0.0, 7.5):
        export_run(Args(tmp_path, budget=given))
        assert written[-1].policy.budget == given
        assert written[-1].contract["sampler"]["cost_budget"] == given
    with pytest.raises(
        ContractError, match="^budget -1 for a ccac policy, expected 0 or more for a ccac one$"
    ):
        export_run(Args(tmp_path, budget=-1.0))
    run_folder(tmp_path)
    with pytest.raises(
        ContractError, match="^budget 3 for a sevpo policy, expected 0 or more for a ccac"
    ):
        export_run(Args(tmp_path, budget=3.0))
    save_policy(tmp_path / "x.safetensors", diffusion(), torch.zeros(1, 8), {})
    with pytest.raises(ContractError, match=r"^budget 3 for a \? policy, expected 0 or more"):
        export_run(Args(tmp_path / "x.safetensors", budget=3.0))


def actor_file(path, size, actions):
    weight = torch.linspace(-1.0, 1.0, size * actions).reshape(actions, size)
    state = {
        "actor.0.weight": weight,
        "actor.0.bias": torch.zeros(actions),
        "std": torch.full((actions,), 0.5),
    }
    torch.save({"model_state_dict": state}, str(path))
    return weight


@pytest.mark.skipif(
    "weights_only" not in torch.load.__code__.co_varnames,
    reason="safe reading of .pt needs torch 1.13",
)
def test_actors_trained_elsewhere_get_the_contract_of_their_layout(tmp_path, written):
    path, layout = tmp_path / "model_7.pt", tmp_path / "layout.yaml"
    weight = actor_file(path, 5, 2)
    with pytest.raises(
        ContractError,
        match="model_7.pt takes 5 numbers, the environment's observation has 265; "
        "give the observation it was trained on in the layout's contract",
    ):
        export_run(Args(path))
    own = {"observation": {"size": 5}, "control_dt": 0.01}
    layout.write_text(yaml.safe_dump({"contract": own, "action_unit": 0.5}))
    found = export_run(Args(path, tmp_path / "out.onnx", layout=layout))
    assert found == {"action": 1e-7, "cost_value": 2e-7}
    last = written[-1]
    assert last.out == tmp_path / "out.onnx" and last.yaml is None
    assert last.contract["observation"] == {"size": 5} and last.contract["control_dt"] == 0.01
    assert last.contract["robot"] == "unitree_go2" and last.contract["kind"] == "ppo"
    assert last.contract["sampler"] == {
        "kind": "gaussian",
        "steps": 1,
        "temperature": 1.0,
        "choice": "first",
        "noise_scale": 0.0,
        "candidates": 1,
    }
    provenance = last.contract["provenance"]
    assert provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert provenance["algorithm"] == "ppo" and provenance["source"] == "model_7.pt"
    assert provenance["layout"]["contract"] == own and provenance["layout"]["action_unit"] == 0.5
    assert torch.equal(last.policy.mlp[0].weight, weight) and last.policy.unit == 0.5
    expected = torch.randn(256, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(last.observations, expected)
    layout.write_text(yaml.safe_dump({"contract": {**own, "robot": "other"}}))
    export_run(Args(path, layout=layout))
    assert written[-1].yaml is None
    actor_file(path, 265, 12)
    export_run(Args(path, tmp_path / "out.onnx"))
    assert written[-1].yaml == (written[-1].contract, tmp_path / "out.onnx")


def test_command_prints_what_was_proven_or_why_not(tmp_path, written, monkeypatch, capsys):
    run_folder(tmp_path)
    out = tmp_path / "p.onnx"
    monkeypatch.setattr(sys, "argv", ["go2-export", str(tmp_path), "--out", str(out)])
    export.main()
    assert capsys.readouterr().out == (
        f"{out}: torch and onnxruntime agree, largest action difference 1.0e-07, cost value "
        f"2.0e-07\n"
    )
    monkeypatch.setattr(
        sys, "argv", ["go2-export", str(tmp_path), "--limit", "1", "--choice", "first"]
    )
    with pytest.raises(SystemExit) as error:
        export.main()
    assert str(error.value) == (
        "go2-export: limit 1 for choice first, expected one of first_safe, escape, argmax_reward"
    )
