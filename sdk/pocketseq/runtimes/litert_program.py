"""A TFLite program in an interpreter: its signatures, its tensors in place, and the question that it is tried with."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.errors import BundleFormatError, InputTooLongError, RuntimeUnavailableError
from pocketseq.runtimes.protocol import UNSAID, Floats

MASKED: Final = -1e4
"""Added to the score of what must not be seen."""
PROBE_IDS: Final = "probe_ids"
"""Constant of a program: token ids of a question, int32 [tokens]."""
PROBE_POOLED: Final = "probe_pooled"
"""Constant of a program: the pooled state that LiteRT found when the program was exported, float32 [d_model]."""
PROBE_LOGPROBS: Final = "probe_logprobs"
"""Constant of a program: log-probabilities after token 0, at ``probed`` places, float32 [places]."""
PROBE_TOLERANCE: Final = 0.2
"""Largest distance of an answer from the recorded one, as a share of its own spread. Processors round differently by a few
hundredths at most; what computes something else is off by the whole.
"""
REMEDY: Final = (
    'mend it with: pip install --upgrade "pocketseq[litert]", or take a variant that old runtimes can run (fp32, fp16 or int8w)'
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """What a program made of one source."""

    cross: Floats
    """Keys and values of each decoder layer in turn, float32 [2 × layers, heads, tokens, head_dim]."""
    pooled: Floats
    """float32 [d_model]."""


class LiteRtProgram:
    """An interpreter with its tensors; not safe to call from several threads at once.

    Large tensors are written where they lie and stay there from step to step; a step moves a column of the cache and no more.
    """

    def __init__(self, model: Path | bytes, *, threads: int = 1) -> None:
        """Open a program.

        Args:
            model: The file or its content.
            threads: Threads for one call.

        Raises:
            RuntimeUnavailableError: no library that runs it, or the library refuses it.
            BundleFormatError: other signatures than the contract.
        """
        self.library, interpreter = _library()
        source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        self._name = "a program" if isinstance(model, bytes) else str(model)
        try:
            self._interpreter = interpreter(num_threads=threads, **source)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise RuntimeUnavailableError(
                f"{self._name}: expected a program that {self.library} runs, found: {error}; {REMEDY}"
            ) from error
        signatures = self._interpreter.get_signature_list()
        self.lengths = sorted(int(name.removeprefix("encode_")) for name in signatures if name.startswith("encode_"))
        if "step" not in signatures or not self.lengths:
            raise BundleFormatError(
                f"{self._name}: expected the signatures 'step' and 'encode_…', found {sorted(signatures)}; export the bundle again"
            )
        runner = self._interpreter.get_signature_runner("step")
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        del runner  # while one lives, the interpreter refuses to run without copies
        try:
            self._token, self._position, self._source_bias = (
                inputs[name]["index"] for name in ("token_ids", "position", "source_bias")
            )
            parts = range(sum(name.startswith("self_") for name in inputs))
            self._cross = [inputs[f"cross_{part}"]["index"] for part in parts]
            self._self = [inputs[f"self_{part}"]["index"] for part in parts]
            self._logprobs, self._new = outputs["logprobs"]["index"], outputs["new"]["index"]
        except KeyError as error:
            raise BundleFormatError(
                f"{self._name}: expected 'step' to have the contract's inputs and outputs, found none named {error}; "
                "export the bundle again"
            ) from None
        heads, self.target_tokens, head_dim = inputs["self_0"]["shape"][1:].tolist()
        self.geometry = (len(parts) // 2, heads, head_dim, int(outputs["logprobs"]["shape"][-1]))
        for index in (*self._cross, *self._self):
            self._interpreter.tensor(index)()[:] = 0  # what is masked must be a number all the same

    def encode(self, ids: NDArray[np.int32], mask: Floats) -> Encoding:
        """Encode one source.

        Args:
            ids: int32 [tokens].
            mask: float32 [tokens], 1 at tokens and 0 at padding.

        Raises:
            InputTooLongError: more tokens than the longest signature takes.
        """
        count = len(ids)
        length = next((length for length in self.lengths if length >= count), None)
        if length is None:
            raise InputTooLongError(
                f"{self._name}: expected at most {self.lengths[-1]} source tokens, found {count}; "
                "shorten the input or take a variant for onnx"
            )
        padded = {"input_ids": np.zeros((1, length), np.int32), "attention_mask": np.zeros((1, length), np.float32)}
        padded["input_ids"][0, :count], padded["attention_mask"][0, :count] = ids, mask
        found = self._interpreter.get_signature_runner(f"encode_{length}")(**padded)
        return Encoding(cross=found["cross"][:, :, :count].copy(), pooled=found["pooled"][0])

    def hear(self, encoding: Encoding, mask: Floats) -> None:
        """Put a source where steps read it."""
        count = len(mask)
        for index, part in zip(self._cross, encoding.cross, strict=True):
            self._interpreter.tensor(index)()[0, :, :count] = part
        bias = self._interpreter.tensor(self._source_bias)()
        bias[:] = MASKED
        bias[..., :count] = (1 - mask) * MASKED

    def remember(self, start: int, columns: Floats) -> None:
        """Put keys and values of tokens into the cache that steps read.

        Args:
            start: Place of the first of them.
            columns: float32 [2 × layers, heads, tokens, head_dim].
        """
        stop = start + columns.shape[2]
        for index, part in zip(self._self, columns, strict=True):
            self._interpreter.tensor(index)()[0, :, start:stop] = part

    def step(self, token: int, position: int) -> tuple[Floats, Floats]:
        """Decode one token after those in the cache.

        Returns:
            Log-probabilities, float32 [vocab], and the token's keys and values, float32 [2 × layers, heads, 1, head_dim].

        Raises:
            InputTooLongError: the cache is full.
        """
        if position >= self.target_tokens:
            raise InputTooLongError(
                f"{self._name}: expected at most {self.target_tokens} tokens of an answer, found more; "
                "lower max_new_tokens or take a variant for onnx"
            )
        interpreter = self._interpreter
        interpreter.tensor(self._token)()[:] = token
        interpreter.tensor(self._position)()[:] = position
        interpreter.invoke()
        logprobs: Floats = interpreter.get_tensor(self._logprobs)[0, 0]
        return logprobs, interpreter.get_tensor(self._new)

    def ask(self, ids: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """Pooled state and first log-probabilities of a question; steps forget what they had heard."""
        mask = np.ones(len(ids), np.float32)
        encoding = self.encode(ids, mask)
        self.hear(encoding, mask)
        return encoding.pooled, self.step(0, 0)[0]

    def try_probe(self) -> None:
        """Ask the program the question that was asked when it was exported.

        Raises:
            RuntimeUnavailableError: the answer is another: this runtime computes something else, and says nothing of it.
            BundleFormatError: the program holds no question.
        """
        at = {detail["name"]: detail["index"] for detail in self._interpreter.get_tensor_details()}
        if missing := {PROBE_IDS, PROBE_POOLED, PROBE_LOGPROBS} - at.keys():
            raise BundleFormatError(f"{self._name}: expected the constants {sorted(missing)}, found none; export the bundle again")
        pooled, logprobs = self.ask(self._interpreter.get_tensor(at[PROBE_IDS]))
        recorded = self._interpreter.get_tensor(at[PROBE_LOGPROBS])
        said = recorded > UNSAID  # a forbidden token's would drown the spread of all others
        off = max(
            _distance(pooled, self._interpreter.get_tensor(at[PROBE_POOLED])),
            _distance(logprobs[probed(len(logprobs))][said], recorded[said]),
        )
        if not off <= PROBE_TOLERANCE:  # so that NaN is refused too
            raise RuntimeUnavailableError(
                f"{self._name}: expected the recorded answer to the question in the program, found another: "
                f"{self.library} cannot run it and would answer wrongly without a word; {REMEDY}"
            )


def probed(vocab_size: int) -> NDArray[np.int64]:
    """Tokens whose log-probabilities are recorded: up to 256, spread over the vocabulary."""
    return np.linspace(0, vocab_size - 1, min(256, vocab_size)).astype(np.int64)


def _distance(found: Floats, expected: Floats) -> float:
    """Root of the mean squared error, as a share of the expected values' own spread."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected - expected.mean()))


def _library() -> tuple[str, Any]:
    """Name with version, and class, of the interpreter that is installed; the newer library goes first."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        return _named("ai-edge-litert"), Interpreter
    except ImportError:
        pass
    try:
        from tflite_runtime.interpreter import Interpreter as Older
    except ImportError as error:
        raise RuntimeUnavailableError(
            f'tflite variants need ai-edge-litert or tflite-runtime, found: {error}; mend it with: pip install "pocketseq[litert]"'
        ) from error
    return _named("tflite-runtime"), Older


def _named(distribution: str) -> str:
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return distribution
