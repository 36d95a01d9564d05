"""Graphs: the gradients of an update, recorded once for every shape of batch and replayed as one call.

A small model computes faster than its update can be told to an accelerator: a thousand kernels, each started from Python. A graph
of CUDA's starts them all at once. It holds shapes and addresses, so that each shape of batch has one of its own, and all of them
share memory: one is done before the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

_MOST_RECORDS: Final = 64
"""Shapes that are recorded at most: each keeps gradients of its own."""

Shapes: TypeAlias = tuple[tuple[str, torch.Size], ...]


@dataclass(frozen=True, slots=True)
class _Record:
    """One shape's graph, and where it reads and writes."""

    graph: Any
    inputs: Mapping[str, Tensor]
    loss: Tensor
    gradients: tuple[Tensor | None, ...]


class RecordedGradients:
    """Computes a loss and its gradients: at first as it is written, from the second batch of a shape on as a graph."""

    def __init__(self, parameters: Iterable[nn.Parameter], loss: Callable[[dict[str, Tensor]], Tensor]) -> None:
        """Record nothing yet.

        Args:
            parameters: Whose gradients are made; those that it finds are overwritten, not added to.
            loss: From a batch to float32 []; it looks at no value of it, and all its shapes follow from those of the batch.
        """
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._loss = loss
        self._records: dict[Shapes, _Record] = {}
        self._seen: set[Shapes] = set()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool: Any = None

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Leave the gradients of a batch in the parameters.

        Args:
            inputs: Tensors on the accelerator.

        Returns:
            float32 []: the loss.
        """
        shapes: Shapes = tuple((name, tensor.shape) for name, tensor in inputs.items())
        record = self._records.get(shapes)
        if record is None and (shapes not in self._seen or len(self._records) == _MOST_RECORDS):
            self._seen.add(shapes)  # a last batch of few rows may never come again
            for parameter in self._parameters:
                parameter.grad = None
            loss = self._loss(dict(inputs))
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        if record is None:
            record = self._records[shapes] = self._record(inputs)
        for name, tensor in inputs.items():
            record.inputs[name].copy_(tensor, non_blocking=True)
        record.graph.replay()
        for parameter, gradient in zip(self._parameters, record.gradients, strict=True):
            parameter.grad = gradient
        return record.loss.clone()

    def _record(self, inputs: Mapping[str, Tensor]) -> _Record:
        given = {name: tensor.clone() for name, tensor in inputs.items()}
        for parameter in self._parameters:
            parameter.grad = None  # so that the recording makes one, in memory that stays the graph's
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # graphs cannot use what updates that were not recorded leave behind
        with torch.cuda.stream(self._stream):
            graph.capture_begin(*(() if self._pool is None else (self._pool,)))
            try:
                loss = self._loss(dict(given))
                loss.backward()  # type: ignore[no-untyped-call]
            except BaseException:
                with suppress(RuntimeError):  # what went wrong is worth telling, not that the recording is void for it
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.synchronize()
        self._pool = graph.pool()
        return _Record(graph, given, loss.detach(), tuple(parameter.grad for parameter in self._parameters))
