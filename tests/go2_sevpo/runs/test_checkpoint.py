import numpy as np
import pytest
import torch

from go2_sevpo.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint


def test_nested_state_survives_with_types_and_integer_keys(tmp_path):
    state = {
        "a": torch.arange(6).reshape(2, 3),
        "b": {0: {"step": torch.tensor(3.0)}, 1: None},
        "c": [1, 2.5, "x", True],
        "d": np.ones(2),
    }
    save_checkpoint(tmp_path / "c.safetensors", "test", state)
    found = load_checkpoint(tmp_path / "c.safetensors", "test")
    assert torch.equal(found["a"], state["a"])
    assert found["a"].dtype == torch.int64
    assert list(found["b"]) == [0, 1]
    assert found["b"][0]["step"].item() == 3.0
    assert found["b"][1] is None
    assert found["c"] == [1, 2.5, "x", True]
    assert found["d"].tolist() == [1.0, 1.0]


def test_wrong_kind_missing_and_truncated_are_refused_with_what_was_found(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(path, "test")
    save_checkpoint(path, "ppo", {"x": torch.zeros(1000)})
    with pytest.raises(CheckpointError, match="'ppo' checkpoint, expected 'offline'"):
        load_checkpoint(path, "offline")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_checkpoint(path, "ppo")


def test_objects_that_would_need_pickle_are_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot store object"):
        save_checkpoint(tmp_path / "c.safetensors", "test", {"x": object()})
    assert not (tmp_path / "c.safetensors").exists()
