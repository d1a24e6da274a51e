"""Policy files of others: nothing that runs on for ever, nothing that lies in another file."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from go2_sevpo.policies.contract import ContractError
from go2_sevpo.policies.onnx_graph import (
    DIGEST_KEY,
    add_metadata,
    check_graph,
    graph_digest,
    stated_digest,
)
from go2_sevpo.policies.onnx_policy import SHIPPED, OnnxPolicy


def save(path, nodes, weights=(), domains=("",)):
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(list(nodes), "g", [], [out], list(weights))
    opsets = [helper.make_opsetid(d, 16 if d == "" else 1) for d in domains]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def constant(name):
    value = numpy_helper.from_array(np.ones(1, np.float32))
    return helper.make_node("Constant", [], [name], value=value)


def endless():
    """A loop whose condition stays true and that has no last turn."""
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    go_on = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
    still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"])], "body", [turn, go_on], [still]
    )
    return helper.make_node("Loop", ["", "on0"], [], body=body)


def test_shipped_policies_pass():
    for path in sorted(SHIPPED.glob("*.onnx")):
        check_graph(path)
        OnnxPolicy(path)


def test_an_endless_loop_is_refused_also_inside_a_branch(tmp_path):
    with pytest.raises(ContractError, match="l.onnx has the operator Loop, which policies do not"):
        check_graph(save(tmp_path / "l.onnx", [constant("y"), endless()]))
    branch = helper.make_graph([constant("z"), endless()], "b", [], [])
    inside = helper.make_node("If", ["c"], [], then_branch=branch, else_branch=branch)
    with pytest.raises(ContractError, match="operator Loop"):
        OnnxPolicy(save(tmp_path / "i.onnx", [constant("y"), inside]))
    for name in ("Scan", "SequenceMap"):
        node = helper.make_node(name, [], ["y"])
        with pytest.raises(ContractError, match=f"operator {name}"):
            check_graph(save(tmp_path / "s.onnx", [node]))


def test_a_branch_without_loops_is_fine(tmp_path):
    branch = helper.make_graph([constant("z")], "b", [], [])
    node = helper.make_node("If", ["c"], [], then_branch=branch, else_branch=branch)
    check_graph(save(tmp_path / "b.onnx", [constant("y"), node]))


def test_operators_of_others_are_refused(tmp_path):
    node = helper.make_node("Anything", [], ["y"], domain="com.somebody")
    path = save(tmp_path / "c.onnx", [node], domains=("", "com.somebody"))
    with pytest.raises(ContractError, match="has the operator com.somebody.Anything"):
        OnnxPolicy(path)
    model = onnx.load(str(save(tmp_path / "f.onnx", [constant("y")])))
    model.functions.append(
        helper.make_function("own", "F", [], ["y"], [constant("y")], [helper.make_opsetid("", 16)])
    )
    onnx.save(model, str(tmp_path / "f.onnx"))
    with pytest.raises(ContractError, match="f.onnx defines functions, expected plain operators"):
        check_graph(tmp_path / "f.onnx")


def test_weights_in_another_file_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4))
    weight = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "secret"
    path = save(tmp_path / "e.onnx", [helper.make_node("Identity", ["w"], ["y"])], [weight])
    with pytest.raises(ContractError, match="weight 'w' lies in another file, expected all in one"):
        OnnxPolicy(path)


def test_what_is_no_onnx_file_is_left_to_onnxruntime(tmp_path):
    (tmp_path / "n.onnx").write_bytes(b"not a graph")
    check_graph(tmp_path / "n.onnx")
    with pytest.raises(ContractError, match="is not an ONNX file onnxruntime can load"):
        OnnxPolicy(tmp_path / "n.onnx")


def test_a_constant_in_another_file_is_refused(tmp_path):
    value = numpy_helper.from_array(np.zeros(1, np.float32))
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    entry = value.external_data.add()
    entry.key, entry.value = "location", "secret"
    node = helper.make_node("Constant", [], ["y"], value=value)
    with pytest.raises(ContractError, match="lies in another file"):
        check_graph(save(tmp_path / "k.onnx", [node]))


def test_the_checksum_covers_weights_graph_metadata_and_operator_sets(tmp_path):
    weight = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    path = save(tmp_path / "d.onnx", [helper.make_node("Identity", ["w"], ["y"])], [weight])
    model = onnx.load(str(path))
    assert stated_digest(model) is None
    check_graph(path)  # older files have none
    add_metadata(model, "contract", "{}")
    add_metadata(model, "note", "1")
    assert [p.key for p in model.metadata_props] == ["contract", "note", DIGEST_KEY]
    assert stated_digest(model) == graph_digest(model)
    onnx.save(model, str(path))
    check_graph(path)

    def changed(change):
        other = onnx.load(str(path))
        change(other)
        onnx.save(other, str(tmp_path / "c.onnx"))
        with pytest.raises(ContractError, match="c.onnx is damaged"):
            check_graph(tmp_path / "c.onnx")

    def of_weight(other):
        raw = bytearray(other.graph.initializer[0].raw_data)
        raw[5] ^= 4
        other.graph.initializer[0].raw_data = bytes(raw)

    changed(of_weight)
    changed(lambda other: setattr(other.graph.node[0], "op_type", "Neg"))
    changed(lambda other: setattr(other.metadata_props[0], "value", "{} "))
    changed(lambda other: setattr(other.opset_import[0], "version", 15))


def test_bit_flips_in_a_policy_file_are_never_played(tmp_path):
    """Each flip is refused, or leaves a model that computes the same."""
    content = (SHIPPED / "weak.onnx").read_bytes()
    model = onnx.load_from_string(content)
    add_metadata(model, "exported", "again")
    whole = model.SerializeToString()
    rng, accepted = np.random.default_rng(0), 0
    for place in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "p.onnx").write_bytes(bytes(damaged))
        try:
            check_graph(tmp_path / "p.onnx")
            onnx.load(str(tmp_path / "p.onnx"))
        except Exception:  # the checksum, or the parser's own errors
            continue
        accepted += 1
    assert accepted == 0
