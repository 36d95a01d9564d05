"""What each operator of a program means, in numpy; written from the specification of MIL, not from what wrote the program."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, sqrt
from typing import Any

import numpy as np

Inputs = dict[str, Any]
ERF = np.vectorize(erf, otypes=[np.float32])
TYPES = {"fp16": np.float32, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}
"""Types as they are held here: float16 as float32, which the interpreter rounds after every operator."""


def gather(given: Inputs) -> Any:
    x, indices, axis = given["x"], np.asarray(given["indices"]), int(given.get("axis", 0))
    assert int(given.get("batch_dims", 0)) == 0
    assert ((indices >= -x.shape[axis]) & (indices < x.shape[axis])).all(), "an index out of range is undefined in Core ML"
    return np.take(x, indices, axis=axis)


def gelu(given: Inputs) -> Any:
    x = given["x"]
    if given["mode"] == "EXACT":
        return x * 0.5 * (1 + ERF(x / np.float32(sqrt(2))))
    assert given["mode"] == "TANH_APPROXIMATION"
    return 0.5 * x * (1 + np.tanh(np.float32(sqrt(2 / pi)) * (x + np.float32(0.044715) * x**3)))


def layer_norm(given: Inputs) -> Any:
    x, axes = given["x"], tuple(given["axes"])
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = (centred**2).mean(axis=axes, keepdims=True)
    return centred / np.sqrt(variance + given["epsilon"]) * given["gamma"] + given["beta"]


def linear(given: Inputs) -> Any:
    y = given["x"] @ given["weight"].T
    return y + given["bias"] if "bias" in given else y


def matmul(given: Inputs) -> Any:
    x, y = given["x"], given["y"]
    x = x.swapaxes(-1, -2) if given.get("transpose_x", False) else x
    y = y.swapaxes(-1, -2) if given.get("transpose_y", False) else y
    return x @ y


def reduction(function: Callable[..., Any]) -> Callable[[Inputs], Any]:
    return lambda given: function(given["x"], axis=tuple(given["axes"]), keepdims=bool(given["keep_dims"]))


def log_sum_exp(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    top = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return total if keepdims else total.squeeze(axis)


def reshape(given: Inputs) -> Any:
    x, shape = given["x"], [int(size) for size in given["shape"]]
    return x.reshape([x.shape[place] if size == 0 else size for place, size in enumerate(shape)])


def slice_by_size(given: Inputs) -> Any:
    x = given["x"]
    places = []
    for begin, size, length in zip(given["begin"], given["size"], x.shape, strict=True):
        stop = length if size == -1 else begin + size
        assert 0 <= begin <= stop <= length, "a slice out of range is undefined in Core ML"
        places.append(slice(int(begin), int(stop)))
    return x[tuple(places)]


def softmax(given: Inputs) -> Any:
    axis = int(given["axis"])
    shares = np.exp(given["x"] - given["x"].max(axis=axis, keepdims=True))
    return shares / shares.sum(axis=axis, keepdims=True)


def split(given: Inputs) -> Any:
    return np.split(given["x"], int(given["num_splits"]), axis=int(given["axis"]))


def affine_dequantize(given: Inputs) -> Any:
    data, axis = given["quantized_data"].astype(np.float32), int(given["axis"])
    shape = [-1 if place == axis else 1 for place in range(data.ndim)]
    scale, zero = (np.reshape(given[name], shape if np.ndim(given[name]) else ()) for name in ("scale", "zero_point"))
    return (data - zero.astype(np.float32)) * scale


def blockwise_shift_scale(given: Inputs) -> Any:
    data, scale = given["data"].astype(np.float32), given["scale"]
    assert "offset" not in given
    for axis, (length, blocks) in enumerate(zip(data.shape, scale.shape, strict=True)):
        scale = np.repeat(scale, length // blocks, axis=axis)
    return data * scale


OPERATORS: dict[str, Callable[[Inputs], Any]] = {
    "abs": lambda given: np.abs(given["x"]),
    "add": lambda given: given["x"] + given["y"],
    "cast": lambda given: np.asarray(given["x"]).astype(TYPES[given["dtype"]]),
    "concat": lambda given: np.concatenate([np.atleast_1d(value) for value in given["values"]], axis=int(given["axis"])),
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "equal": lambda given: given["x"] == given["y"],
    "expand_dims": lambda given: np.expand_dims(given["x"], tuple(int(axis) for axis in given["axes"])),
    "gather": gather,
    "gelu": gelu,
    "greater_equal": lambda given: given["x"] >= given["y"],
    "layer_norm": layer_norm,
    "less_equal": lambda given: given["x"] <= given["y"],
    "linear": linear,
    "matmul": matmul,
    "maximum": lambda given: np.maximum(given["x"], given["y"]),
    "minimum": lambda given: np.minimum(given["x"], given["y"]),
    "mul": lambda given: given["x"] * given["y"],
    "range_1d": lambda given: np.arange(given["start"], given["end"], given["step"], dtype=np.int32),
    "real_div": lambda given: given["x"] / given["y"],
    "reduce_log_sum_exp": reduction(log_sum_exp),
    "reduce_max": reduction(np.max),
    "reduce_mean": reduction(np.mean),
    "reduce_sum": reduction(np.sum),
    "relu": lambda given: np.maximum(given["x"], 0),
    "reshape": reshape,
    "rsqrt": lambda given: 1 / np.sqrt(given["x"] + given["epsilon"]),
    "select": lambda given: np.where(given["cond"], given["a"], given["b"]),
    "shape": lambda given: np.array(given["x"].shape, dtype=np.int32),
    "silu": lambda given: given["x"] / (1 + np.exp(-given["x"])),
    "slice_by_size": slice_by_size,
    "softmax": softmax,
    "split": split,
    "square": lambda given: given["x"] ** 2,
    "squeeze": lambda given: np.squeeze(given["x"], tuple(int(axis) for axis in given["axes"])),
    "sub": lambda given: given["x"] - given["y"],
    "transpose": lambda given: np.transpose(given["x"], given["perm"]),
}
"""By name; states are the interpreter's business."""
