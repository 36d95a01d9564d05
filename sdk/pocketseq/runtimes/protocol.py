"""What the SDK asks of a runtime: encode once, step token by token, keep some rows of a batch or some tokens of a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]

UNSAID: Final = -1e4
"""Log-probability below which a token is never said; how far below a forbidden one is, each format writes otherwise: -30,000 in
Core ML's float16, -1e9 in ONNX."""


class Memory(Protocol):
    """What the encoder made of a batch; opaque to all but its runtime, and never changed."""

    @property
    def pooled(self) -> Floats:
        """Masked mean of the last encoder state, float32 [batch, d_model]."""


MemoryT = TypeVar("MemoryT", bound=Memory)
CacheT = TypeVar("CacheT")


@dataclass(frozen=True, slots=True)
class Step(Generic[CacheT]):
    """What one decoder step gives."""

    logprobs: Floats
    """Raw log-probabilities, float32 [batch, tokens, vocab]."""
    cache: CacheT
    """The cache with these tokens in it; the one before stays as it was."""


@dataclass(frozen=True, slots=True)
class Run(Generic[CacheT]):
    """What several greedy steps in one call give."""

    ids: Ids
    """Likeliest tokens, one after the other, int64 [batch, tokens]; behind a row's end token stands nothing of meaning."""
    logprobs: Floats
    """Raw log-probability of each, float32 [batch, tokens]."""
    cache: CacheT
    """The cache with the token that was given and all of these but the last in it."""


@dataclass(frozen=True, slots=True)
class Trellis:
    """What a whole beam search in one call looked at: in every round the likeliest extensions of its beams, the likeliest first.

    The beams of the next round are, in this order, those whose token does not end them.
    """

    places: Ids
    """Which extension: the beam's number times the size of the vocabulary plus the token, int64 [rounds, candidates]."""
    totals: Floats
    """Sum of the log-probabilities up to it, float32 [rounds, candidates]."""
    logprobs: Floats
    """Raw log-probability of its token, float32 [rounds, candidates]."""
    entropies: Floats | None = None
    """Entropy in nats of the distribution that it comes from, float32 [rounds, candidates]; None where a runtime does not tell."""
    gaps: Floats | None = None
    """The gap between the two likeliest tokens there, likewise."""


class Runtime(Protocol[MemoryT, CacheT]):
    """A model that is ready to run; safe to call from many threads, since states are values and never changed."""

    def encode(self, input_ids: Ids, attention_mask: Ids) -> MemoryT:
        """Run the encoder.

        Args:
            input_ids: int64 [batch, source].
            attention_mask: int64 [batch, source], 1 at tokens and 0 at padding.
        """

    def start(self, batch: int) -> CacheT:
        """An empty cache for ``batch`` rows."""

    def step(self, token_ids: Ids, memory: MemoryT, cache: CacheT) -> Step[CacheT]:
        """Run the decoder over the next tokens of every row.

        Args:
            token_ids: int64 [batch, tokens]; several tokens are causal among themselves.
            memory: What ``encode`` gave.
            cache: What ``start`` or the step before gave.
        """

    def select(self, memory: MemoryT, cache: CacheT, rows: Ids) -> tuple[MemoryT, CacheT]:
        """Keep these rows of a batch, in this order; a row may appear more than once.

        Args:
            memory: What ``encode`` gave.
            cache: Its cache.
            rows: int64 [rows], positions in the batch.
        """

    def keep(self, cache: CacheT, length: int) -> CacheT:
        """The cache as it was after its first ``length`` tokens, so that tokens that proved wrong can be taken back.

        Args:
            cache: What a step gave; it stays as it was.
            length: From 0 to the number of tokens in the cache.
        """


@runtime_checkable
class GreedyRuntime(Runtime[MemoryT, CacheT], Protocol[MemoryT, CacheT]):
    """A runtime that can take many greedy steps in one call."""

    def greedy(self, token_ids: Ids, memory: MemoryT, cache: CacheT, *, end_id: int, limit: int) -> Run[CacheT]:
        """Take the likeliest token again and again: what ``step`` would give one by one, without coming back in between.

        Args:
            token_ids: The token that each row goes on from, int64 [batch, 1].
            memory: What ``encode`` gave.
            cache: What came before that token.
            end_id: The call ends when every row has met this token.
            limit: Tokens at most, at least 1.
        """


@runtime_checkable
class LazyRuntime(Runtime[MemoryT, CacheT], Protocol[MemoryT, CacheT]):
    """A runtime that opens each part of its decoder when it is first asked for."""

    def open_decoder(self, *, greedy: bool) -> None:
        """Open a part of it now.

        Args:
            greedy: What takes many greedy steps in one call, where there is such a thing; what takes single steps otherwise.
        """


@runtime_checkable
class BeamRuntime(Runtime[MemoryT, CacheT], Protocol[MemoryT, CacheT]):
    """A runtime that can search with beams in one call, where its model has what that takes."""

    def beams(
        self,
        token_ids: Ids,
        memory: MemoryT,
        cache: CacheT,
        *,
        end_id: int,
        count: int,
        answers: int,
        lengths: Floats,
        reaches: Floats,
        bounds: Floats,
    ) -> Trellis | None:
        """Search behind one input's prompt, until there are as many answers as beams or no open beam can be one that is wanted.

        Args:
            token_ids: The prompt's last token, int64 [1, 1].
            memory: What ``encode`` gave for one input.
            cache: What came before that token.
            end_id: Token that ends an answer; one among the ``count`` likeliest candidates of a round is an answer.
            count: Beams, at most half the vocabulary.
            answers: How many of the best answers are wanted, from 1 to ``count``.
            lengths: For each round at most what an answer's total is divided by, float32 [rounds].
            reaches: The same for the best open beam, which must beat the worst of ``count`` answers once there are as many,
                float32 [rounds]; 0 ends the search with the last of them.
            bounds: The same for the best open beam, which must be better than the worst answer wanted, float32 [rounds].

        Returns:
            What it looked at, ``2 * count`` candidates a round; None where the model can only be searched step by step.
        """


AnyRuntime: TypeAlias = Runtime[Any, Any]
"""A runtime whose states its caller does not look into."""
