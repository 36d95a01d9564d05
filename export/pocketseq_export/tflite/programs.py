"""One TFLite program of a variant: ``step`` and an ``encode`` for each length, over the same weights."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from torch import Tensor

from pocketseq.errors import CheckpointError
from pocketseq_export.graphs import EncoderDecoder, Reach
from pocketseq_export.quantization import check_halves
from pocketseq_export.tflite.flatbuffer import read_program, write_program
from pocketseq_export.tflite.precisions import PRECISIONS, quantized, quiet
from pocketseq_export.tflite.probe import add_probe
from pocketseq_export.tflite.signatures import EncodeProgram, StepProgram, encode_inputs, step_inputs

SHORTEST: Final = 32
"""Tokens of the shortest signature of the encoder."""
ROUNDED: Final = 16
"""Lengths are multiples of this, which suits vectors."""
LARGEST_BYTES: Final = 1_900_000_000
"""A program is read with offsets of 31 bits."""

_CONVERTED: Final[WeakKeyDictionary[EncoderDecoder, bytes]] = WeakKeyDictionary()
"""Programs at full precision: converting takes minutes, quantizing seconds."""


def write_programs(model: EncoderDecoder, directory: Path, *, precision: str, keep: Collection[str] = ()) -> tuple[Path, ...]:
    """Write a variant's program.

    Args:
        model: See ``author``.
        directory: The runtime's folder of a bundle, which exists; the file is named after the precision.
        precision: One of ``PRECISIONS``.
        keep: Names of linear layers of the model whose weights are written in 16 bits.

    Returns:
        The file.

    Raises:
        CheckpointError: a model that is too large for the format, weights beyond float16's reach that are to be written in it, or
            answers that are no numbers.
    """
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > LARGEST_BYTES:
        raise CheckpointError(
            f"tflite holds models of up to {LARGEST_BYTES // 4_000_000} million parameters, found {size // 4_000_000} million; "
            "export it for onnx"
        )
    if model not in _CONVERTED:
        _CONVERTED[model] = converted(model)
    content, wanted = _CONVERTED[model], PRECISIONS[precision]
    if wanted is not None:
        program = read_program(content)
        operations = name_operations(program, model)
        kept = [name for name, layers in operations.items() if layers & set(keep)]
        for name in operations if wanted.bits == 16 else kept:
            for layer in sorted(operations[name]):
                check_halves(layer, model.get_parameter(f"{layer}.weight").numpy())
        content = quantized(write_program(program), wanted, operations=list(operations), kept=kept)
    program = read_program(content)
    add_probe(program, write_program(read_program(content)), vocab_size=model.spec.source_vocab_size)
    path = directory / f"{precision}.tflite"
    path.write_bytes(write_program(program))
    return (path,)


def converted(model: EncoderDecoder) -> bytes:
    """The program at full precision, as the converter writes it."""
    reach = Reach(*(-(-length // ROUNDED) * ROUNDED for length in (model.reach.source, model.reach.target)))
    reach = reach.within(model.spec.max_positions)
    lengths = source_lengths(reach.source)
    step = StepProgram(model, target=reach.target).eval()
    inputs = dict(step_inputs(model.spec, source=reach.source, target=reach.target))
    # Otherwise the converter says, past every logger, that its sums may be taken in another order.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with quiet():
        import litert_torch

        converter = litert_torch.signature("step", step, sample_kwargs=inputs)  # the first is the one that runs without copies
        for length in lengths:
            encode = EncodeProgram(model, length).eval()
            converter = converter.signature(f"encode_{length}", encode, sample_kwargs=dict(encode_inputs(length)))
        return bytes(converter.convert().model_content())


def name_operations(program: Any, model: EncoderDecoder) -> Mapping[str, frozenset[str]]:
    """Name every operation that reads a matrix or a table of the model after it, such as ``step/decoder.layers.0.ffn.input``.

    Returns:
        The names, each with the layers that share its weights.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    layers: dict[bytes, set[str]] = defaultdict(set)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name.endswith(".weight") and parameter.dim() == 2:
            layers[_fingerprint(parameter)].add(name.removesuffix(".weight"))
    weights_at = {BuiltinOperator.FULLY_CONNECTED: 1, BuiltinOperator.EMBEDDING_LOOKUP: 1}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in program.operatorCodes]
    known = {
        index: layers[digest]
        for index, buffer in enumerate(program.buffers)
        if buffer.data is not None and (digest := sha256(buffer.data).digest()) in layers
    }
    named: dict[str, frozenset[str]] = {}
    for graph in program.subgraphs:
        for operation in graph.operators:
            place = weights_at.get(codes[operation.opcodeIndex])
            if place is None or (found := known.get(graph.tensors[operation.inputs[place]].buffer)) is None:
                continue
            name = f"{graph.name.decode()}/{min(found)}/{operation.outputs[0]}"
            graph.tensors[operation.outputs[0]].name = name.encode()
            named[name] = frozenset(found)
    return named


def source_lengths(longest: int) -> tuple[int, ...]:
    """Lengths that a source is padded to: doubled from one to the next, so that a short source does not pay for a long one; a
    doubling that would come within a third of the longest is left out.
    """
    lengths = [SHORTEST]
    while 2 * lengths[-1] * 4 <= 3 * longest:
        lengths.append(2 * lengths[-1])
    return (*(length for length in lengths if length < longest), longest)


def _fingerprint(weight: Tensor) -> bytes:
    return sha256(weight.detach().contiguous().numpy().tobytes()).digest()
