"""Files that are well formed and wrong: what their library writes without complaint."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from go2_sevpo.policies.onnx_graph import add_metadata

Change = Callable[[Path, np.random.Generator], bool]
KEYS = ("observations", "next_observations", "actions", "rewards", "costs", "terminals", "timeouts")


def _hdf5(change: Callable[[h5py.File, str, np.ndarray, np.random.Generator], None]) -> Change:
    def done(path: Path, rng: np.random.Generator) -> bool:
        with h5py.File(path, "r+") as handle:
            key = KEYS[rng.integers(len(KEYS))]
            data = handle[key][()]
            del handle[key]
            change(handle, key, data, rng)
        return True

    return done


def _external(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    secret = [("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    handle.create_dataset(key, data.shape, data.dtype, external=secret)


def _virtual(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", data.shape)
    handle.create_virtual_dataset(key, layout)


def _soft(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    handle["elsewhere"] = data
    handle[key] = h5py.SoftLink("/elsewhere")


def _out(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    handle[key] = h5py.ExternalLink("/etc/passwd", "x")


def _huge(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    shape = (1 << 40, *data.shape[1:])
    handle.create_dataset(key, shape, data.dtype, chunks=(1024, *data.shape[1:]))


def _text(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    handle[key] = np.array([b"1"] * len(data))


def _deep(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    handle[key] = data.reshape(data.shape + (1, 1))


def _short(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    handle[key] = data[:-1]


def _nan(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    data = data.copy()
    data.flat[rng.integers(data.size)] = [np.nan, np.inf, -np.inf][rng.integers(3)]
    handle[key] = data


def _number(handle: h5py.File, key: str, data: np.ndarray, rng: np.random.Generator) -> None:
    handle[key] = 3.0


def _graph(change: Callable[[onnx.ModelProto], None], sealed: bool = True) -> Change:
    def done(path: Path, rng: np.random.Generator) -> bool:
        model = onnx.load(str(path))
        change(model)
        if sealed:
            add_metadata(model, "by", "hand")
        path.write_bytes(model.SerializeToString())
        return True

    return done


def _loop(model: onnx.ModelProto) -> None:
    turn = helper.make_tensor_value_info("turn_", TensorProto.INT64, [])
    go_on = helper.make_tensor_value_info("on_", TensorProto.BOOL, [])
    still = helper.make_tensor_value_info("still_", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["on_"], ["still_"])], "body", [turn, go_on], [still]
    )
    model.graph.node.append(helper.make_node("Loop", ["", "on0_"], [], body=body))


def _random(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("RandomNormal", [], ["r_"], shape=[1]))


def _foreign(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Thing", [], ["r_"], domain="com.somebody"))


def _elsewhere(model: onnx.ModelProto) -> None:
    weight = numpy_helper.from_array(np.zeros(1, np.float32), "w_")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    model.graph.initializer.append(weight)


def _renamed(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "actions"


def _no_contract(model: onnx.ModelProto) -> None:
    kept = [entry for entry in model.metadata_props if entry.key != "go2_sevpo.contract"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def _contract(text: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for entry in model.metadata_props:
            if entry.key == "go2_sevpo.contract":
                entry.value = text

    return change


STRUCTURES: Dict[str, Dict[str, Change]] = {
    "hdf5": {
        "external storage": _hdf5(_external),
        "virtual dataset": _hdf5(_virtual),
        "soft link": _hdf5(_soft),
        "external link": _hdf5(_out),
        "claims a terabyte": _hdf5(_huge),
        "text for numbers": _hdf5(_text),
        "too many dimensions": _hdf5(_deep),
        "one row short": _hdf5(_short),
        "not finite": _hdf5(_nan),
        "one number": _hdf5(_number),
    },
    "onnx": {
        "endless loop": _graph(_loop),
        "random operator": _graph(_random),
        "operator of others": _graph(_foreign),
        "weights in another file": _graph(_elsewhere),
        "other outputs": _graph(_renamed),
        "no contract": _graph(_no_contract),
        "contract is no JSON": _graph(_contract("{")),
        "contract is a list": _graph(_contract("[]")),
        "contract without sampler": _graph(_contract("{}")),
    },
}
