"""A runtime that answers from a script: the whole machine above the runtime, without a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from pocketseq.manifest import BundleFile, Calibration, Generation, Geometry, Manifest, Variant
from pocketseq.model import PocketModel
from pocketseq.runtimes.protocol import Floats, Ids, Step
from pocketseq.template import Field, Template
from pocketseq.tokenizer import TextTokenizer

Script: TypeAlias = Sequence[tuple[int, float]]
"""Token ids to emit, each with the probability that the model shall give it; after the last the end token follows for certain."""

_PAD, _END, _START = 0, 1, 2
_SPECIAL: Final = ("<pad>", "</s>", "<s>")
_DIGEST: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class ScriptedMemory:
    """The scripts of a batch."""

    scripts: tuple[Script, ...]
    pooled: Floats
    """float32 [batch, 1]: the number of tokens in each input."""


@dataclass(frozen=True, slots=True)
class ScriptedCache:
    """How far the decoder is."""

    batch: int
    length: int


class ScriptedRuntime:
    """A ``Runtime`` that emits, for each input, the tokens of a script; the rest of the probability is spread evenly."""

    def __init__(self, script: Callable[[tuple[int, ...]], Script], *, vocab_size: int, end_id: int) -> None:
        """Give the script.

        Args:
            script: From an input's token ids, without padding, to what is emitted.
            vocab_size: Columns of the log-probabilities.
            end_id: Token that follows the last of a script.
        """
        self._script = script
        self._vocab_size = vocab_size
        self._end_id = end_id

    def encode(self, input_ids: Ids, attention_mask: Ids) -> ScriptedMemory:
        """Look up the script of each row."""
        rows = [tuple(ids[mask == 1].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
        lengths = attention_mask.sum(axis=1, keepdims=True)
        return ScriptedMemory(scripts=tuple(self._script(row) for row in rows), pooled=lengths.astype(np.float32))

    def start(self, batch: int) -> ScriptedCache:
        """The beginning of every script."""
        return ScriptedCache(batch=batch, length=0)

    def step(self, token_ids: Ids, memory: ScriptedMemory, cache: ScriptedCache) -> Step[ScriptedCache]:
        """The next place in every script."""
        batch, tokens = token_ids.shape
        logprobs = np.empty((batch, tokens, self._vocab_size), dtype=np.float32)
        for row, script in enumerate(memory.scripts):
            for column in range(tokens):
                place = cache.length + column
                token, probability = script[place] if place < len(script) else (self._end_id, 1.0)
                rest = (1 - probability) / (self._vocab_size - 1)
                logprobs[row, column] = math.log(rest) if rest > 0 else -np.inf
                logprobs[row, column, token] = math.log(probability)
        return Step(logprobs=logprobs, cache=ScriptedCache(batch=batch, length=cache.length + tokens))

    def select(self, memory: ScriptedMemory, cache: ScriptedCache, rows: Ids) -> tuple[ScriptedMemory, ScriptedCache]:
        """Keep rows."""
        scripts = tuple(memory.scripts[row] for row in rows.tolist())
        return ScriptedMemory(scripts=scripts, pooled=memory.pooled[rows]), ScriptedCache(batch=len(rows), length=cache.length)

    def keep(self, cache: ScriptedCache, length: int) -> ScriptedCache:
        """An earlier place in every script."""
        return ScriptedCache(batch=cache.batch, length=length)


def scripted_model(
    answers: Mapping[str, str],
    *,
    confidence: float | Mapping[str, float] = 0.9,
    threshold: float | None = None,
    max_input_bytes: int = 256,
) -> PocketModel:
    """A model that answers from a table, letter by letter, for tests of what is built on a model.

    Args:
        answers: Answer by input text; an input that is not in it is answered with itself.
        confidence: Above 0 and up to 1, the same for all or by input text, 0.9 where it is not named.
        threshold: Makes the model a calibrated one with this threshold; None leaves it uncalibrated.
        max_input_bytes: Longer inputs are truncated on the left.
    """
    tokenizer = byte_tokenizer()

    def script(ids: tuple[int, ...]) -> Script:
        text = tokenizer.decode(ids)
        surety = confidence if isinstance(confidence, float | int) else confidence.get(text, 0.9)
        emitted = [*tokenizer.text_ids(answers.get(text, text)), _END]
        return [(token, 1.0 if place else surety) for place, token in enumerate(emitted)]

    variant = Variant(runtime="scripted", precision="fp32", files=())
    if threshold is not None:
        calibration = Calibration(
            scorer="chow_sum",
            threshold=threshold,
            risk=0.1,
            delta=0.05,
            coverage=0.5,
            accuracy=0.95,
            n=1000,
            auroc=0.9,
            variant=variant.hash,
            data="scripted",
        )
        variant = Variant(runtime="scripted", precision="fp32", files=(), calibration=calibration)
    manifest = Manifest(
        name="scripted",
        version="1",
        task="text",
        license="Apache-2.0",
        template=Template(fields=(Field(name="text", max_tokens=max_input_bytes),), primary="text"),
        tokenizer=BundleFile(path="tokenizer.json", sha256=_DIGEST, size_bytes=0),
        geometry=Geometry(
            vocab_size=tokenizer.size,
            d_model=1,
            encoder_layers=0,
            decoder_layers=0,
            heads=1,
            head_dim=1,
            start_id=_START,
            end_id=_END,
            pad_id=_PAD,
            max_target_tokens=1024,
        ),
        generation=Generation(max_new_tokens=1024),
        variants=(variant,),
    )
    return PocketModel(
        manifest,
        variant,
        open_tokenizer=lambda: tokenizer,
        open_runtime=lambda: ScriptedRuntime(script, vocab_size=tokenizer.size, end_id=_END),
    )


def byte_tokenizer(special: Sequence[str] = ()) -> TextTokenizer:
    """A tokenizer of one token a byte, with ``<pad>`` 0, ``</s>`` 1 and ``<s>`` 2, and more special tokens behind them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    names = [*_SPECIAL, *special]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*names, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return TextTokenizer(tokenizer)
