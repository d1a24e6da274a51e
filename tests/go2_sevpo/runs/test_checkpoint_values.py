"""Checkpoints by content: every nested value with its type, the file's own metadata, what is
refused.
"""

import json
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from go2_sevpo.runs import checkpoint, files
from go2_sevpo.runs.checkpoint import (
    CheckpointError,
    earlier,
    load_checkpoint,
    load_newest,
    rotate,
    save_checkpoint,
)


def through(tmp_path, value):
    save_checkpoint(tmp_path / "c.safetensors", "test", {"value": value})
    return load_checkpoint(tmp_path / "c.safetensors", "test")["value"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        7,
        -1.5,
        1e-300,
        0.1,
        "text / with / slashes",
        "",
        [],
        {},
        [[], {}, [None, [2]]],
        {"a": {"b": {"c": [1, {"d": 2.5}]}}},
        {3: "three", -1: 0, "3": "text"},
    ],
)
def test_plain_values_come_back_as_they_were(tmp_path, value):
    found = through(tmp_path, value)
    assert found == value and type(found) is type(value)


def test_keys_keep_their_kind_and_order(tmp_path):
    found = through(tmp_path, {2: "b", "z": 1, 1: "a", "a": 0})
    assert list(found.items()) == [(2, "b"), ("z", 1), (1, "a"), ("a", 0)]


def test_markers_are_no_danger_to_dictionaries_that_look_like_them(tmp_path):
    looks = {"__dict__": [1], "__tensor__": "x", "t": torch.ones(2)}
    found = through(tmp_path, looks)
    assert (
        found["__dict__"] == [1]
        and found["__tensor__"] == "x"
        and found["t"].tolist() == [1.0, 1.0]
    )


@pytest.mark.parametrize(
    "value, expected",
    [
        ((1, (2.0, "x")), [1, [2.0, "x"]]),
        (np.float32(0.5), 0.5),
        (np.int64(-3), -3),
        (np.bool_(True), True),
    ],
)
def test_tuples_become_lists_and_numpy_scalars_numbers(tmp_path, value, expected):
    found = through(tmp_path, value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int64", "int32", "uint8", "bool"]
)
def test_tensors_keep_numbers_shape_and_type(tmp_path, dtype):
    value = torch.tensor([[0, 1, 2], [3, 0, 5]]).to(getattr(torch, dtype))
    # Views: rows turned to columns, and every second column.
    for each in (value, value.T, value[:, ::2], value[0, 0], value[:0]):
        found = through(tmp_path, each)
        assert found.dtype == each.dtype and found.shape == each.shape and torch.equal(found, each)


def test_arrays_become_tensors_of_their_type(tmp_path):
    value = np.arange(6, dtype=np.float64).reshape(2, 3) / 7.0
    found = through(tmp_path, value.T)
    assert found.dtype == torch.float64 and found.tolist() == value.T.tolist()
    assert through(tmp_path, np.array([1, 2], np.int32)).dtype == torch.int32


def test_tensors_in_lists_and_dictionaries_are_not_mixed_up(tmp_path):
    shared = torch.tensor([5.0, 6.0])
    state = {
        "a": [torch.tensor(0), torch.tensor(1), {"b": torch.tensor(2)}],
        "c": {0: torch.tensor(3), 1: [torch.tensor(4)]},
        "d": shared,
        "e": shared[:1],
        "f": shared,
    }
    found = through(tmp_path, state)
    numbers = [int(found["a"][0]), int(found["a"][1]), int(found["a"][2]["b"])]
    assert numbers + [int(found["c"][0]), int(found["c"][1][0])] == [0, 1, 2, 3, 4]
    assert found["d"].tolist() == found["f"].tolist() == [5.0, 6.0] and found["e"].tolist() == [5.0]


def test_gradients_are_left_behind(tmp_path):
    found = through(tmp_path, torch.ones(2, requires_grad=True) * 2.0)
    assert found.tolist() == [2.0, 2.0] and not found.requires_grad


def test_an_optimiser_goes_on_from_its_checkpoint_as_if_nothing_had_happened(tmp_path):
    def start():
        parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        return parameter, torch.optim.Adam([parameter], lr=0.1)

    def step(parameter, optimizer):
        optimizer.zero_grad()
        (parameter * torch.tensor([1.0, 3.0])).square().sum().backward()
        optimizer.step()

    parameter, optimizer = start()
    step(parameter, optimizer)
    saved = {"optimizer": optimizer.state_dict(), "parameter": parameter}
    save_checkpoint(tmp_path / "c.safetensors", "test", saved)
    step(parameter, optimizer)
    other, again = start()
    found = load_checkpoint(tmp_path / "c.safetensors", "test")
    again.load_state_dict(found["optimizer"])
    other.data.copy_(found["parameter"])
    step(other, again)
    assert torch.equal(parameter, other)


def test_the_file_says_what_it_is(tmp_path):
    path = tmp_path / "new" / "folder" / "c.safetensors"
    save_checkpoint(path, "mine", {"x": torch.ones(3), "y": [1, {"z": 2}]})
    with safe_open(str(path), framework="pt") as handle:
        metadata, names = handle.metadata(), list(handle.keys())
    assert metadata["format"] == checkpoint.FORMAT == "go2_sevpo.checkpoint.1"
    assert metadata["kind"] == "mine"
    tree = {"__dict__": [["x", {"__tensor__": "/x"}], ["y", [1, {"__dict__": [["z", 2]]}]]]}
    assert json.loads(metadata["json"]) == tree
    assert names == ["/x"]
    assert [p.name for p in path.parent.iterdir()] == ["c.safetensors"]  # no temporary file is left


def test_paths_may_be_text_and_an_older_file_is_replaced(tmp_path):
    path = str(tmp_path / "c.safetensors")
    save_checkpoint(path, "test", {"x": 1})
    save_checkpoint(path, "test", {"x": 2})
    assert load_checkpoint(path, "test") == {"x": 2}


def test_the_file_is_flushed_under_its_temporary_name_before_it_is_renamed(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda n: (done.append("flush"), fsync(n)))

    def record(a, b):
        done.append((os.path.basename(str(a)), os.path.basename(str(b))))
        replace(a, b)

    monkeypatch.setattr(files.os, "replace", record)
    save_checkpoint(tmp_path / "c.safetensors", "test", {})
    first, (temporary, name), folder = done
    assert (first, name, folder) == ("flush", "c.safetensors", "flush")
    assert temporary.startswith("c.safetensors.") and temporary.endswith(".tmp")


def flipped(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_a_single_bit_anywhere_is_noticed(tmp_path):
    path = tmp_path / "c.safetensors"
    state = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(True), "n": [1, 2.5, "x"]}
    state["half"] = torch.ones(3, dtype=torch.bfloat16)
    save_checkpoint(path, "test", state)
    whole = path.read_bytes()
    accepted = []
    for place in range(len(whole)):
        flipped(path, place)
        try:
            found = load_checkpoint(path, "test")
        except CheckpointError:
            pass
        else:
            # Another spelling of the same: spaces of the header, the checksum's own name.
            accepted.append(place)
            assert found["n"] == state["n"] and torch.equal(found["w"], state["w"])
            assert torch.equal(found["half"], state["half"]) and torch.equal(found["b"], state["b"])
        path.write_bytes(whole)
    assert len(accepted) <= 20, [whole[p - 4 : p + 4] for p in accepted]


def test_files_of_before_the_checksum_still_load(tmp_path):
    path = tmp_path / "c.safetensors"
    metadata = {"format": "go2_sevpo.checkpoint.1", "kind": "test"}
    metadata["json"] = json.dumps({"__dict__": [["w", {"__tensor__": "/w"}]]})
    save_file({"/w": torch.ones(2)}, str(path), metadata=metadata)
    assert load_checkpoint(path, "test")["w"].tolist() == [1.0, 1.0]
    metadata["json"] = json.dumps({"__dict__": [["w", {"__tensor__": "/v"}]]})
    save_file({"/w": torch.ones(2)}, str(path), metadata=metadata)
    with pytest.raises(CheckpointError, match="holds no readable state"):
        load_checkpoint(path, "test")


def test_the_last_three_are_kept_and_a_damaged_one_is_passed_over(tmp_path):
    path, said = tmp_path / "checkpoint.safetensors", []
    for step in range(5):
        rotate(path)
        save_checkpoint(path, "test", {"step": step})
    assert [p.name for p in earlier(path)] == [
        "checkpoint.1.safetensors",
        "checkpoint.2.safetensors",
    ]
    kept = [load_checkpoint(p, "test")["step"] for p in (path, *earlier(path))]
    assert kept == [4, 3, 2] and len(list(tmp_path.iterdir())) == 3
    assert load_newest(path, "test", said.append)["step"] == 4 and not said
    path.write_bytes(path.read_bytes()[:-3])
    # The earlier ones are files of their own: what happens to one does not happen to another.
    assert load_newest(path, "test", said.append)["step"] == 3
    assert said[0].endswith("; going on from checkpoint.1.safetensors")
    earlier(path)[0].write_bytes(b"cut")
    path.unlink()
    assert load_newest(path, "test", said.append)["step"] == 2
    earlier(path)[1].unlink()
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_newest(path, "test", said.append)


def test_the_name_is_never_without_a_checkpoint_while_they_rotate(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    for step in range(3):
        rotate(path)
        save_checkpoint(path, "test", {"step": step})
    real = {"replace": os.replace, "link": os.link}
    there = []
    for name, function in real.items():

        def watched(a, b, function=function):
            there.append(path.is_file())
            function(a, b)
            there.append(path.is_file())

        monkeypatch.setattr(f"go2_sevpo.runs.checkpoint.os.{name}", watched)
    rotate(path)
    save_checkpoint(path, "test", {"step": 3})
    assert len(there) >= 6 and all(there)


@pytest.mark.parametrize(
    "state, message",
    [
        ({"a": {"b": [0, object()]}}, "cannot store object at '/a/b/1' in a checkpoint"),
        ({"a": {1, 2}}, "cannot store set at '/a' in a checkpoint"),
    ],
)
def test_what_is_neither_tensor_nor_plain_data_is_refused_by_its_place(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path / "c.safetensors", "test", state)
    assert not list(tmp_path.iterdir())


def test_files_of_another_format_or_kind_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match=f"^no checkpoint at {path}$"):
        load_checkpoint(path, "test")
    save_file({"x": torch.ones(1)}, str(path))
    with pytest.raises(CheckpointError, match="has format None, expected 'go2_sevpo.checkpoint.1'"):
        load_checkpoint(path, "test")
    save_file({"x": torch.ones(1)}, str(path), metadata={"format": "other.2", "kind": "test"})
    with pytest.raises(CheckpointError, match="has format 'other.2', expected 'go2_sevpo"):
        load_checkpoint(path, "test")
    save_checkpoint(path, "policy", {})
    with pytest.raises(CheckpointError, match="is a 'policy' checkpoint, expected 'offline'"):
        load_checkpoint(path, "offline")
    path.write_bytes(b"short")
    with pytest.raises(
        CheckpointError, match="c.safetensors is not a readable safetensors file: .+"
    ):
        load_checkpoint(path, "policy")
    assert issubclass(CheckpointError, ValueError)
