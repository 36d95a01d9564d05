"""A tiny encoder-decoder with random weights: as ONNX graphs, as plain numpy, and as a bundle around them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from pocketseq.bundle import write_manifest
from pocketseq.edits import LEXEME_PATTERN
from pocketseq.manifest import BundleFile, Calibration, Generation, Geometry, Manifest, Variant
from pocketseq.marks import MARK_TOKENS, mark_token
from pocketseq.runtimes.protocol import Floats, Ids, Step
from pocketseq.template import Field, Template

SPECIAL = ["<pad>", "</s>", "<line>", "<after>", *(mark_token(index) for index in range(MARK_TOKENS))]
TEXT = ["for i in range(10):", "def fit(self, x):", "    return self._value + 1", "if name == '__main__':", "naïve café €5 😀"] * 4
PLAIN = Template(fields=(Field(name="text", max_tokens=24),), primary="text")
EDITS = Template(
    fields=(
        Field(name="before", max_tokens=16),
        Field(name="line", max_tokens=24, prefix="<line>"),
        Field(name="after", max_tokens=8, truncate="right", prefix="<after>"),
    ),
    primary="line",
    edits="line",
)
LAYERS, HEADS, HEAD_DIM, LONGEST = 2, 2, 4, 32
WIDTH = HEADS * HEAD_DIM


def make_tokenizer() -> Tokenizer:
    """A byte-level BPE as this project trains it, over a few lines."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LEXEME_PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def make_weights(vocab_size: int) -> dict[str, Floats]:
    """Random weights, the same in every process."""
    rng = np.random.default_rng(7)
    shapes = {"embedding": (vocab_size, WIDTH), "positions": (LONGEST, WIDTH), "encoder": (WIDTH, WIDTH)}
    for layer in range(LAYERS):
        for name in ("query", "key", "value", "out", "cross_query", "cross_key", "cross_value", "cross_out"):
            shapes[f"{name}.{layer}"] = (WIDTH, WIDTH)
    return {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}


@dataclass(frozen=True)
class NumpyMemory:
    cross: list[tuple[Floats, Floats]]
    mask: Ids
    pooled: Floats


class NumpyRuntime:
    """The same model in plain numpy: what the graphs are held to."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        self._w = weights

    def encode(self, input_ids: Ids, attention_mask: Ids) -> NumpyMemory:
        state = np.tanh(self._w["embedding"][input_ids] @ self._w["encoder"])
        cross = [(self._heads(state, f"cross_key.{i}"), self._heads(state, f"cross_value.{i}")) for i in range(LAYERS)]
        weight = attention_mask[:, :, None].astype(np.float32)
        return NumpyMemory(cross=cross, mask=attention_mask, pooled=(state * weight).sum(1) / weight.sum(1))

    def start(self, batch: int) -> list[tuple[Floats, Floats]]:
        empty = np.zeros((batch, HEADS, 0, HEAD_DIM), np.float32)
        return [(empty, empty)] * LAYERS

    def step(self, token_ids: Ids, memory: NumpyMemory, cache: Any) -> Step[Any]:
        past, new = cache[0][0].shape[2], token_ids.shape[1]
        x = self._w["embedding"][token_ids] + self._w["positions"][past : past + new]
        seen = (np.arange(past + new) <= np.arange(past, past + new)[:, None])[None, None]
        grown = []
        for i in range(LAYERS):
            key = np.concatenate([cache[i][0], self._heads(x, f"key.{i}")], axis=2)
            value = np.concatenate([cache[i][1], self._heads(x, f"value.{i}")], axis=2)
            grown.append((key, value))
            x = x + self._attend(self._heads(x, f"query.{i}"), key, value, seen) @ self._w[f"out.{i}"]
            cross = self._attend(self._heads(x, f"cross_query.{i}"), *memory.cross[i], memory.mask[:, None, None] == 1)
            x = x + cross @ self._w[f"cross_out.{i}"]
        logits = x @ self._w["embedding"].T
        top = logits.max(-1, keepdims=True)
        return Step(logprobs=logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True)), cache=grown)

    def select(self, memory: NumpyMemory, cache: Any, rows: Ids) -> tuple[NumpyMemory, Any]:
        cross = [(key[rows], value[rows]) for key, value in memory.cross]
        kept = NumpyMemory(cross=cross, mask=memory.mask[rows], pooled=memory.pooled[rows])
        return kept, [(key[rows], value[rows]) for key, value in cache]

    def keep(self, cache: Any, length: int) -> Any:
        return [(key[:, :, :length], value[:, :, :length]) for key, value in cache]

    def _heads(self, x: Floats, name: str) -> Floats:
        return (x @ self._w[name]).reshape(*x.shape[:2], HEADS, HEAD_DIM).transpose(0, 2, 1, 3)

    def _attend(self, query: Floats, key: Floats, value: Floats, seen: NDArray[np.bool_]) -> Floats:
        scores = np.where(seen, query @ key.transpose(0, 1, 3, 2), np.float32(-1e4))
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ value
        return mixed.transpose(0, 2, 1, 3).reshape(mixed.shape[0], mixed.shape[2], WIDTH)


class Graph:
    """One ONNX graph under construction; its weights lie in a file beside it."""

    def __init__(self, places: dict[str, tuple[int, Floats]]) -> None:
        self._places = places
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def op(self, kind: str, *inputs: Any, name: str | None = None, **attributes: Any) -> str:
        output = name or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, [self._name(item) for item in inputs], [output], **attributes))
        return output

    def heads(self, x: str, weight: str, name: str | None = None) -> str:
        split = self.op("Reshape", self.op("MatMul", x, weight), np.array([0, 0, HEADS, HEAD_DIM]))
        return self.op("Transpose", split, perm=[0, 2, 1, 3], name=name)

    def attend(self, query: str, key: str, value: str, seen: str) -> str:
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        shares = self.op("Softmax", self.op("Where", seen, scores, np.array(-1e4, np.float32)), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", shares, value), perm=[0, 2, 1, 3])
        return self.op("Reshape", mixed, np.array([0, 0, WIDTH]))

    def write(self, path: Path, inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, list[Any]]) -> None:
        used = {name for node in self._nodes for name in node.input}
        weights = [self._external(name) for name in self._places if name in used]
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            [*weights, *self._constants.values()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        path.write_bytes(model.SerializeToString())

    def _name(self, item: Any) -> str:
        if isinstance(item, str):
            return item
        name = f"c{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(item, name)
        return name

    def _external(self, name: str) -> Any:
        offset, value = self._places[name]
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=value.shape, data_location=TensorProto.EXTERNAL)
        for key, entry in (("location", "weights.bin"), ("offset", offset), ("length", value.nbytes)):
            tensor.external_data.add(key=key, value=str(entry))
        return tensor


def write_graphs(directory: Path, weights: dict[str, Floats]) -> None:
    """Write ``encode.onnx`` and ``step.onnx`` over one file of weights."""
    directory.mkdir(parents=True, exist_ok=True)
    places: dict[str, tuple[int, Floats]] = {}
    offset = 0
    for name, value in weights.items():
        places[name] = (offset, value)
        offset += value.nbytes
    (directory / "weights.bin").write_bytes(b"".join(value.tobytes() for value in weights.values()))
    _write_encode(Graph(places), directory / "encode.onnx")
    _write_step(Graph(places), directory / "step.onnx", len(weights["embedding"]))


def _write_encode(graph: Graph, path: Path) -> None:
    state = graph.op("Tanh", graph.op("MatMul", graph.op("Gather", "embedding", "input_ids"), "encoder"))
    weight = graph.op("Unsqueeze", graph.op("Cast", "attention_mask", to=TensorProto.FLOAT), np.array([2]))
    total = graph.op("ReduceSum", graph.op("Mul", state, weight), np.array([1]), keepdims=0)
    graph.op("Div", total, graph.op("ReduceSum", weight, np.array([1]), keepdims=0), name="pooled")
    outputs: dict[str, list[Any]] = {"pooled": ["B", WIDTH]}
    for i in range(LAYERS):
        for part in ("key", "value"):
            outputs[graph.heads(state, f"cross_{part}.{i}", name=f"cross_{part}_{i}")] = ["B", HEADS, "S", HEAD_DIM]
    ids = (TensorProto.INT64, ["B", "S"])
    graph.write(path, {"input_ids": ids, "attention_mask": ids}, outputs)


def _write_step(graph: Graph, path: Path, vocab_size: int) -> None:
    def length(value: str, axis: int) -> str:
        return graph.op("Gather", graph.op("Shape", value), np.array(axis))

    past, new = graph.op("Squeeze", "position"), length("token_ids", 1)
    total = graph.op("Add", past, new)
    places = graph.op("Range", past, total, np.array(1))
    x = graph.op("Add", graph.op("Gather", "embedding", "token_ids"), graph.op("Gather", "positions", places))
    every = graph.op("Range", np.array(0), total, np.array(1))
    seen = graph.op("LessOrEqual", every, graph.op("Unsqueeze", places, np.array([1])))
    source = graph.op("Unsqueeze", graph.op("Cast", "attention_mask", to=TensorProto.BOOL), np.array([1, 2]))
    state, kind = ["B", HEADS, "S", HEAD_DIM], TensorProto.FLOAT
    inputs: dict[str, tuple[int, list[Any]]] = {
        "token_ids": (TensorProto.INT64, ["B", "Q"]),
        "position": (TensorProto.INT64, [1]),
        "attention_mask": (TensorProto.INT64, ["B", "S"]),
    }
    outputs: dict[str, list[Any]] = {"logprobs": ["B", "Q", vocab_size]}
    for i in range(LAYERS):
        inputs |= {f"cross_key_{i}": (kind, state), f"cross_value_{i}": (kind, state)}
        inputs |= {f"self_{part}_{i}": (kind, ["B", HEADS, "P", HEAD_DIM]) for part in ("key", "value")}
        key, value = (graph.heads(x, f"{part}.{i}", name=f"new_{part}_{i}") for part in ("key", "value"))
        outputs |= {key: ["B", HEADS, "Q", HEAD_DIM], value: ["B", HEADS, "Q", HEAD_DIM]}
        keys, values = (graph.op("Concat", f"self_{part}_{i}", f"new_{part}_{i}", axis=2) for part in ("key", "value"))
        attended = graph.attend(graph.heads(x, f"query.{i}"), keys, values, seen)
        x = graph.op("Add", x, graph.op("MatMul", attended, f"out.{i}"))
        crossed = graph.attend(graph.heads(x, f"cross_query.{i}"), f"cross_key_{i}", f"cross_value_{i}", source)
        x = graph.op("Add", x, graph.op("MatMul", crossed, f"cross_out.{i}"))
    logits = graph.op("MatMul", x, graph.op("Transpose", "embedding", perm=[1, 0]))
    graph.op("LogSoftmax", logits, axis=-1, name="logprobs")
    graph.write(path, inputs, outputs)


def make_geometry(vocab_size: int) -> Geometry:
    """Sizes of the tiny model."""
    return Geometry(
        vocab_size=vocab_size,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=LAYERS,
        heads=HEADS,
        head_dim=HEAD_DIM,
        start_id=0,
        end_id=1,
        pad_id=0,
        max_target_tokens=LONGEST,
    )


def write_bundle(directory: Path, *, template: Template = PLAIN, precisions: tuple[str, ...] = ("fp32", "half")) -> Manifest:
    """Write a whole bundle; the second precision only has other weights."""
    tokenizer = make_tokenizer()
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    weights = make_weights(tokenizer.get_vocab_size())
    variants = []
    for number, precision in enumerate(precisions):
        folder = f"onnx/{precision}"
        write_graphs(directory / folder, {name: value / (number + 1) for name, value in weights.items()})
        names = ("encode.onnx", "step.onnx", "weights.bin")
        files = tuple(BundleFile.describe(directory, f"{folder}/{name}") for name in names)
        variants.append(Variant(runtime="onnx", precision=precision, files=files))
    manifest = Manifest(
        name="tiny",
        version="1",
        task="text",
        license="Apache-2.0",
        template=template,
        tokenizer=BundleFile.describe(directory, "tokenizer.json"),
        geometry=make_geometry(tokenizer.get_vocab_size()),
        generation=Generation(max_new_tokens=16),
        variants=tuple(variants),
    )
    write_manifest(directory, manifest)
    return manifest


def calibration(**changes: Any) -> Calibration:
    """A calibration of no particular variant."""
    values: dict[str, Any] = {
        "scorer": "chow_sum",
        "threshold": 0.8,
        "risk": 0.1,
        "delta": 0.05,
        "coverage": 0.5,
        "accuracy": 0.95,
        "n": 100,
        "auroc": 0.9,
        "variant": "0" * 16,
        "data": "1" * 16,
    }
    return Calibration(**{**values, **changes})
