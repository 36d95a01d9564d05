"""ONNX graphs whose small tensors stand in the graph itself; the large ones stay in their file.

onnxruntime resolves the path of every tensor that lies in a file, opens it and maps a piece of it. For a scale or a norm of a few
kB that takes longer than reading it, and longer the deeper the file lies. The SDK does without the package ``onnx``: this walks the
fields of the Protocol Buffers message. A varint says which field comes and of which kind it is, and what is not looked at is copied
as it stands (https://protobuf.dev/programming-guides/encoding; numbers of the fields as in ``onnx.proto3``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SMALL_BYTES: Final = 8192
"""Tensors below this size stand in the graph."""

_GRAPH: Final = 7
"""Field of a ``ModelProto``."""
_INITIALIZER: Final = 5
"""Field of a ``GraphProto``."""
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
"""Fields of a ``TensorProto``."""
_VARINT, _LENGTH = 0, 2
"""Kinds of fields: a number, and so many bytes."""
_FIXED: Final = {1: 8, 5: 4}
"""Bytes of the other kinds."""


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    content: bytes
    """Of one with a length; otherwise empty."""
    whole: bytes
    """As it stands in the message, its tag and length included."""


def inlined(model: bytes, folder: Path) -> bytes:
    """The same graph with its small tensors in itself.

    Args:
        model: A serialised ``ModelProto``.
        folder: Holds the files that its tensors name.

    Raises:
        ValueError: no such message, or a file without these bytes.
        OSError: a file cannot be read.
    """
    return b"".join(_written(_GRAPH, _graph(one.content, folder)) if one.number == _GRAPH else one.whole for one in _fields(model))


def _graph(graph: bytes, folder: Path) -> bytes:
    return b"".join(
        _written(_INITIALIZER, _tensor(one.content, folder)) if one.number == _INITIALIZER else one.whole for one in _fields(graph)
    )


def _tensor(tensor: bytes, folder: Path) -> bytes:
    """The tensor with its content in itself, where it is small."""
    parts = list(_fields(tensor))
    place = {_text(pair, 1): _text(pair, 2) for pair in (part.content for part in parts if part.number == _EXTERNAL_DATA)}
    length = int(place.get("length", SMALL_BYTES))
    if not place or length >= SMALL_BYTES:
        return tensor
    with (folder / place["location"]).open("rb") as file:
        file.seek(int(place.get("offset", 0)))
        content = file.read(length)
    if len(content) != length:
        raise ValueError(f"{folder / place['location']}: expected {length} bytes of a tensor, found {len(content)}")
    kept = [part.whole for part in parts if part.number not in (_EXTERNAL_DATA, _DATA_LOCATION)]
    return b"".join((*kept, _written(_RAW_DATA, content)))


def _text(message: bytes, number: int) -> str:
    return next((one.content.decode() for one in _fields(message) if one.number == number), "")


def _fields(message: bytes) -> Iterator[_Field]:
    start = 0
    while start < len(message):
        tag, place = _varint(message, start)
        kind, length = tag & 7, 0
        if kind == _VARINT:
            _, place = _varint(message, place)
        elif kind == _LENGTH:
            length, place = _varint(message, place)
        elif kind in _FIXED:
            place += _FIXED[kind]
        else:
            raise ValueError(f"expected a field of a known kind at byte {start}, found kind {kind}")
        stop = place + length
        if stop > len(message):
            raise ValueError(f"expected a field of {length} bytes at byte {place}, found the end at {len(message)}")
        yield _Field(tag >> 3, message[place:stop], message[start:stop])
        start = stop


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    number = shift = 0
    while place < len(message):
        byte = message[place]
        number, shift, place = number | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return number, place
    raise ValueError(f"expected a number at byte {place}, found the end")


def _written(number: int, content: bytes) -> bytes:
    return _number(number << 3 | _LENGTH) + _number(len(content)) + content


def _number(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes((*written, number))
