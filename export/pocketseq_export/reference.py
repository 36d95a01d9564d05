"""The checkpoint itself in PyTorch: what every exported variant is held to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import CheckpointError
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export.graphs import EncoderDecoder, Reach, author
from pocketseq_export.graphs.families import NEVER, banned_tokens, family_of

BATCH: Final = 16
"""Rows that PyTorch answers at once."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Tokens that generating needs."""

    start_id: int
    """Token that the decoder is given first."""
    end_id: int
    """Token that ends an answer."""
    pad_id: int
    """Token that fills the shorter inputs of a batch."""
    forced_prefix: tuple[int, ...] = ()
    """Tokens that the decoder is given after the first, such as the target's language."""

    @property
    def prompt(self) -> tuple[int, ...]:
        """All that the decoder is given before it may say anything."""
        return (self.start_id, *self.forced_prefix)


@dataclass(frozen=True, slots=True)
class Reference:
    """A checkpoint that is ready to answer in PyTorch."""

    model: Any
    """The transformers model, float32."""
    card: CheckpointCard
    """Template and budget."""
    special: SpecialTokens
    """From the model's configuration."""

    @classmethod
    def load(cls, checkpoint: Path) -> Reference:
        """Load a checkpoint; no code of it is executed.

        Raises:
            CheckpointError: not an encoder-decoder of a supported architecture with safetensors weights.
        """
        from transformers import AutoModelForSeq2SeqLM

        card = CheckpointCard.read(checkpoint)
        family_of(json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("model_type", ""))
        with quiet_transformers():
            try:
                model = AutoModelForSeq2SeqLM.from_pretrained(
                    checkpoint, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
                )
            except Exception as error:  # transformers, safetensors and torch share no base of errors
                raise CheckpointError(f"{checkpoint}: expected a checkpoint that transformers loads, found: {error}") from error
        special = special_tokens(model)
        model.generation_config = _greedy(model.generation_config, special, card.max_new_tokens)
        return cls(model=model.eval(), card=card, special=special)

    def author(self, tokenizer: TextTokenizer) -> EncoderDecoder:
        """The checkpoint written anew as the graph from which programs are made; see ``author``.

        It reaches as far as the template's inputs and the longest answer that is generated unless the caller says otherwise.

        Args:
            tokenizer: The bundle's.
        """
        longest = self.card.template.longest(tokenizer)
        return author(self.model, Reach(longest, max(Reach().target, len(self.special.prompt) + self.card.max_new_tokens)))

    def generate(self, inputs: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        """Answer inputs greedily.

        Args:
            inputs: Token ids as the template made them.

        Returns:
            Emitted tokens, the end token included where it came and forced ones left out, in the order of the inputs.
        """
        order = sorted(range(len(inputs)), key=lambda row: len(inputs[row]))
        answers: dict[int, tuple[int, ...]] = {}
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            ids, mask = self._pad([inputs[row] for row in rows])
            with torch.inference_mode():
                found = self.model.generate(input_ids=ids, attention_mask=mask)
            for row, tokens in zip(rows, found[:, len(self.special.prompt) :].tolist(), strict=True):
                stop = tokens.index(self.special.end_id) + 1 if self.special.end_id in tokens else len(tokens)
                answers[row] = tuple(tokens[:stop])
        return [answers[row] for row in range(len(inputs))]

    def logprobs(self, source: Sequence[int], target: Sequence[int]) -> Tensor:
        """Log-probabilities of each token of a target, float32 [target, vocab].

        Tokens that must never be said count as such, as in the exported graph.
        """
        ids = torch.tensor([source])
        given = torch.tensor([[*self.special.prompt, *target[:-1]]])
        with torch.inference_mode():
            logits: Tensor = self.model(input_ids=ids, decoder_input_ids=given, use_cache=False).logits[0, -len(target) :]
        banned = torch.tensor(banned_tokens(self.model.generation_config), dtype=torch.long)
        return logits.index_fill(-1, banned, NEVER).log_softmax(dim=-1)

    def _pad(self, inputs: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, inputs))
        ids = torch.tensor([[*row, *[self.special.pad_id] * (longest - len(row))] for row in inputs])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in inputs])
        return ids, mask


def special_tokens(model: Any) -> SpecialTokens:
    """Read the special tokens of a transformers model: its generation configuration goes before its configuration.

    Raises:
        CheckpointError: one of them is in neither, or several stand where a bundle has one.
    """
    found = {}
    for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(model.generation_config, name, None)
        value = getattr(model.config, name, None) if value is None else value
        values = value if isinstance(value, list) else [value]
        if len(set(values)) > 1:
            raise CheckpointError(
                f"expected one {name} in config.json or generation_config.json, found {', '.join(map(str, values))}; "
                "a bundle has one: leave there the one that the model was trained with"
            )
        if not values or values[0] is None:
            raise CheckpointError(f"expected {name} in config.json or generation_config.json, found none; add it there")
        found[name] = int(values[0])
    forced = getattr(model.generation_config, "forced_bos_token_id", None)
    return SpecialTokens(
        start_id=found["decoder_start_token_id"],
        end_id=found["eos_token_id"],
        pad_id=found["pad_token_id"],
        forced_prefix=() if forced is None else (int(forced),),
    )


def _greedy(given: Any, special: SpecialTokens, max_new_tokens: int) -> Any:
    """What a device does: greedy search that knows forced first and forbidden tokens, and nothing else of the configuration."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens + len(special.forced_prefix),
        do_sample=False,
        num_beams=1,
        decoder_start_token_id=special.start_id,
        eos_token_id=special.end_id,
        pad_token_id=special.pad_id,
        forced_bos_token_id=given.forced_bos_token_id,
        bad_words_ids=given.bad_words_ids,
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing progress bars of its own and from warning of what it mends itself."""
    from transformers.utils import logging

    drawing, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if drawing:
            logging.enable_progress_bar()
