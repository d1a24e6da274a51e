"""Policies played by onnxruntime: small graphs written by hand, so that every output is known."""

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from go2_sevpo.policies import onnx_policy
from go2_sevpo.policies.contract import CONTRACT_KEY, ContractError
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy

SAMPLER = {"candidates": 5, "steps": 3, "choice": "escape"}


def write(
    path,
    sampler=SAMPLER,
    budget=False,
    names=("action", "cost_value", "candidate"),
    kind="bc",
    **changes,
):
    """action = 1 / observation + noise[:, 0, 0]; cost_value = observation[:, 0] (+ spent_cost);
    candidate its floor.
    """
    inputs = list(changes.get("inputs", ["observation", "noise"] + ["spent_cost"] * budget))
    shapes = (["b", 2], ["b", "n", 3, 2], ["b"])
    nodes = [
        helper.make_node("Gather", [inputs[1], "zero"], ["one"], axis=1),
        helper.make_node("Gather", ["one", "zero"], ["step"], axis=1),
        helper.make_node("Reciprocal", [inputs[0]], ["mean"]),
        helper.make_node("Add", ["mean", "step"], [names[0]]),
        helper.make_node("Gather", [inputs[0], "zero"], ["left"], axis=1),
        helper.make_node("Add", ["left", inputs[2]], [names[1]])
        if len(inputs) > 2
        else helper.make_node("Identity", ["left"], [names[1]]),
        helper.make_node("Cast", ["left"], [names[2]], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(inputs, shapes)],
        [
            helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["b", 2]),
            helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["b"]),
            helper.make_tensor_value_info(names[2], TensorProto.INT64, ["b"]),
        ],
        [helper.make_tensor("zero", TensorProto.INT64, [], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    if changes.get("contract", True):
        entry = model.metadata_props.add()
        contract = {"sampler": sampler, "kind": kind}
        if kind is None:
            del contract["kind"]
        entry.key, entry.value = CONTRACT_KEY, json.dumps(contract)
    onnx.save(model, str(path))
    return path


def test_names_of_the_interface():
    assert onnx_policy.INPUTS == ("observation", "noise")
    assert onnx_policy.OUTPUTS == ("action", "cost_value", "candidate")
    assert onnx_policy.COST_INPUT == "spent_cost"
    assert onnx_policy.SHIPPED.parts[-2:] == ("assets", "policies")


def test_what_a_policy_says_of_itself(tmp_path):
    path = write(tmp_path / "mine.onnx")
    policy = OnnxPolicy(path)
    assert (policy.candidates, policy.steps, policy.num_actions) == (5, 3, 2)
    assert (policy.choice, policy.needs_cost, policy.non_finite) == ("escape", False, 0)
    assert policy.path == path and policy.contract == {"sampler": SAMPLER, "kind": "bc"}
    assert policy.noise_shape(7) == (7, 5, 3, 2)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert policy.identity == {"name": "mine", "sha256": digest, "kind": "bc"}
    options = policy.session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.log_severity_level == 3
    assert policy.session.get_providers() == ["CPUExecutionProvider"]


def test_sessions_run_on_the_processor_whatever_else_there_is(tmp_path, monkeypatch):
    path, given, session = write(tmp_path / "mine.onnx"), [], onnxruntime.InferenceSession

    def record(*arguments, **options):
        given.append((arguments[0], options))
        return session(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    OnnxPolicy(path)
    assert given == [(str(path), {"providers": ["CPUExecutionProvider"]})]


def test_threads_and_candidates_can_be_asked_for(tmp_path):
    path = write(tmp_path / "mine.onnx", {"candidates": 5, "steps": 3}, kind=None)
    policy = OnnxPolicy(str(path), threads=2, candidates=1)
    assert policy.session.get_session_options().intra_op_num_threads == 2
    assert policy.candidates == 1 and policy.noise_shape(2) == (2, 1, 3, 2)
    assert policy.choice == "first" and policy.identity["kind"] == "?"
    assert OnnxPolicy(path, candidates=9).candidates == 9
    for wrong in (0, -3):
        with pytest.raises(ContractError, match=f"candidates is {wrong}, expected at least 1"):
            OnnxPolicy(path, candidates=wrong)


def test_outputs_come_in_order_and_actions_that_are_not_finite_become_zero(tmp_path):
    policy = OnnxPolicy(write(tmp_path / "mine.onnx"))
    obs = np.array([[2.0, -4.0], [0.0, 8.0], [4.0, 1.0], [5.0, np.nan]], np.float32)
    noise = np.full((4, 5, 3, 2), 9.0, np.float32)
    noise[:, 0, 0] = 0.5, 0.125
    action, value, candidate = policy.act(obs, noise)
    assert action.tolist() == [[1.0, -0.125], [0.0, 0.0], [0.75, 1.125], [0.0, 0.0]]
    assert action.dtype == np.float32
    assert value.tolist() == [2.0, 0.0, 4.0, np.inf] and candidate.tolist()[:3] == [2, 0, 4]
    assert (policy.non_finite, policy.bad_observations) == (1, 1)
    policy.act(obs[1:2], noise[:1])
    assert policy.non_finite == 2  # counted on
    policy.act(obs[:1], noise[:1], np.array([7.0], np.float32))  # a cost that nobody asked for
    assert (policy.non_finite, policy.bad_observations) == (2, 1)


def test_a_policy_with_a_budget_needs_the_spent_cost(tmp_path):
    path = write(tmp_path / "mine.onnx", budget=True)
    policy = OnnxPolicy(path)
    assert policy.needs_cost
    obs, noise = np.ones((2, 2), np.float32), np.zeros((2, 1, 3, 2), np.float32)
    value = policy.act(obs, noise, np.array([3.0, 0.5], np.float32))[1]
    assert value.tolist() == [4.0, 1.5]
    with pytest.raises(
        ContractError,
        match="mine.onnx keeps a cost budget: it needs the episode's cost so far, found none",
    ):
        policy.act(obs, noise)


@pytest.mark.parametrize(
    "changes, found",
    [
        (
            {"names": ("action", "value", "candidate")},
            r"outputs \('action', 'value', 'candidate'\)",
        ),
        ({"inputs": ("obs", "noise")}, r"inputs \('obs', 'noise'\)"),
        (
            {"inputs": ("observation", "noise", "cost")},
            r"inputs \('observation', 'noise', 'cost'\)",
        ),
        (
            {"budget": True, "names": ("a", "cost_value", "candidate")},
            r"outputs \('a', 'cost_value'",
        ),
    ],
)
def test_graphs_with_other_inputs_or_outputs_are_refused(tmp_path, changes, found):
    expected = r".*expected \('observation', 'noise'\) and \('action', 'cost_value', 'candidate'\)"
    with pytest.raises(ContractError, match=found + expected):
        OnnxPolicy(write(tmp_path / "x.onnx", **changes))


def test_files_without_a_contract_or_that_are_no_graphs_are_refused(tmp_path):
    with pytest.raises(
        ContractError,
        match=r"carries no contract \(metadata 'go2_sevpo.contract'\); export it with go2-export",
    ):
        OnnxPolicy(write(tmp_path / "x.onnx", contract=False))
    (tmp_path / "y.onnx").write_bytes(b"no graph")
    with pytest.raises(
        ContractError, match="y.onnx is not an ONNX file onnxruntime can load: .+"
    ) as error:
        OnnxPolicy(tmp_path / "y.onnx")
    assert "\n" not in str(error.value)
    reason = str(error.value.__cause__).splitlines()[0]
    assert "y.onnx" in reason and str(error.value).endswith(f"can load: {reason}")


def test_policies_are_found_by_path_then_by_shipped_name(tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(onnx_policy, "SHIPPED", shipped)
    with pytest.raises(
        ContractError, match="no policy 'b': not a file, and the shipped policies are none"
    ):
        find_policy("b")
    for name in ("b.onnx", "a.onnx", "a.json"):
        (shipped / name).write_text("")
    assert find_policy("b") == shipped / "b.onnx"
    with pytest.raises(ContractError, match="no policy 'c': .* shipped policies are a, b$"):
        find_policy("c")
    own = tmp_path / "b.onnx"
    own.write_text("")
    assert find_policy(own) == own and find_policy(str(own)) == own
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").write_text("")
    assert str(find_policy("b")) == "b"
