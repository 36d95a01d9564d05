"""Ensembles: several encoder-decoders of one vocabulary that answer as one, by the average of what they say at every step.

An ensemble is a checkpoint directory like any other: the first member's files, the other members below it, and ``ensemble.json``.
Whatever reads a teacher, from labelling to serving, reads an ensemble.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import CheckpointError, RecipeError
from pocketseq.files import write_json
from pocketseq_distill.checkpoints import (
    ENSEMBLE,
    ENSEMBLE_FORMAT,
    Average,
    copy_checkpoint,
    directory_to_write,
    read_ensemble,
)
from pocketseq_distill.decoder import cache_name
from pocketseq_distill.losses.heads import Head, unspoken
from pocketseq_distill.special_ids import SPECIAL_NAMES, said_beside_configuration
from pocketseq_distill.tokenizer import read_tokenizer


class Caches:
    """The members' caches as one, with what decoding asks of a cache."""

    def __init__(self, members: Sequence[Any]) -> None:
        """Hold one cache for each member."""
        self.members = list(members)

    def batch_select_indices(self, index: Tensor) -> None:
        """Keep some rows."""
        for member in self.members:
            member.batch_select_indices(index)

    def reorder_cache(self, index: Tensor) -> None:
        """Put rows into another order, as beams do."""
        for member in self.members:
            member.reorder_cache(index)

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens held."""
        return int(self.members[0].get_seq_length(layer))


class _Encoders(nn.Module):
    """The members' encoders side by side."""

    def __init__(self, members: Sequence[PreTrainedModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList([member.get_encoder() for member in members])

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """Encode ``input_ids`` int64 [batch, source] → states float [batch, source, sum of the members' widths]."""
        states = [encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state for encoder in self.members]
        return BaseModelOutput(last_hidden_state=torch.cat(states, dim=-1))


class _Average(nn.Module):
    """The members' output layers as one, whose input is their last states side by side.

    Spelt out, each of them is as large as the average, so that whoever takes a few positions at a time (see ``heads``) has to find
    them here, behind the states.
    """

    def __init__(self, members: Sequence[PreTrainedModel], average: Average) -> None:
        super().__init__()
        self._members = list(members)  # in a list, lest their weights are counted twice
        self._average = average
        self._widths = [int(member.get_output_embeddings().weight.size(1)) for member in members]
        self.register_buffer("zero", torch.zeros(1, 1), persistent=False)

    @property
    def weight(self) -> Tensor:
        """float32 [vocab, sum of the widths] of zeros that take no memory: whoever looks for a layer's size finds it."""
        return self.get_buffer("zero").expand(int(self._members[0].config.vocab_size), sum(self._widths))

    def forward(self, states: Tensor) -> Tensor:
        """Average what the members say: states float [..., sum of the widths] → logits float32 [..., vocab], normalised."""
        parts = zip(self._members, torch.split(states, self._widths, dim=-1), strict=True)
        logprobs = torch.stack([Head.of(member)(part).float().log_softmax(-1) for member, part in parts])
        if self._average == "probabilities":
            return logprobs.logsumexp(0) - math.log(len(logprobs))
        return logprobs.mean(0).log_softmax(-1)


class Ensemble(PreTrainedModel, GenerationMixin):
    """Several models that give one distribution; whatever asks one encoder-decoder can ask an ensemble."""

    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, members: Sequence[PreTrainedModel], *, average: Average = "probabilities") -> None:
        """Put models together.

        Args:
            members: Encoder-decoders of one vocabulary, loaded.
            average: How they are averaged.
        """
        super().__init__(copy.deepcopy(members[0].config))
        self.members = nn.ModuleList(members)
        self.generation_config = copy.deepcopy(members[0].generation_config)
        self._encoders = [_Encoders(members)]  # in a list, lest their weights are counted twice
        self._head = _Average(members, average)
        self._widths = [int(member.get_input_embeddings().embedding_dim) for member in members]

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """All encoders; their states stand side by side in the last dimension."""
        del modality
        return self._encoders[0]

    def get_input_embeddings(self) -> nn.Module:
        """The first member's."""
        embeddings: nn.Module = foundation(self).get_input_embeddings()
        return embeddings

    def get_output_embeddings(self) -> nn.Module:
        """What averages: the members' last states go in, logits come out."""
        return self._head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        *,
        encoder_outputs: BaseModelOutput | None = None,
        use_cache: bool | None = None,
        **options: Any,
    ) -> Seq2SeqLMOutput:
        """Ask every member.

        The cache is taken and given by the name that transformers calls it by, see ``cache_name``.

        Returns:
            ``logits`` float32 [batch, step, vocab]: logarithms of the average, normalised; and the caches of all members.

        Raises:
            RecipeError: hidden states or attention are wanted, of which an ensemble has none of its own.
        """
        if options.get("output_hidden_states") or options.get("output_attentions"):
            raise RecipeError(
                "expected one teacher to match hidden states or attention with, found an ensemble; set hidden and attention to 0"
            )
        if encoder_outputs is None:
            encoder_outputs = self.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
        states = encoder_outputs.last_hidden_state.split(self._widths, dim=-1)
        past = options.get(cache_name())
        caches = past.members if isinstance(past, Caches) else [None] * len(self.members)
        said, kept = [], []
        for member, state, cache in zip(self.members, states, caches, strict=True):
            with unspoken(member) as caught:
                output = member(
                    encoder_outputs=BaseModelOutput(last_hidden_state=state),
                    attention_mask=attention_mask,
                    decoder_input_ids=decoder_input_ids,
                    use_cache=use_cache,
                    **{cache_name(): cache},
                )
            said.append(caught[0].states)
            if use_cache:
                kept.append(output[cache_name()])
        return Seq2SeqLMOutput(logits=self._head(torch.cat(said, dim=-1)), **{cache_name(): Caches(kept) if use_cache else None})


def foundation(model: PreTrainedModel) -> PreTrainedModel:
    """The one model that a student is cut from: an ensemble's first member, or the model itself."""
    return model.members[0] if isinstance(model, Ensemble) else model


def write_ensemble(members: Sequence[str | Path], output: Path, *, average: Average = "probabilities") -> CheckpointCard:
    """Write checkpoints as one ensemble; it is complete or absent.

    Args:
        members: Checkpoint directories, at least two; students are cut from the first.
        output: The directory to be.
        average: How they are averaged.

    Returns:
        The first member's card.

    Raises:
        CheckpointError: fewer than two, a member that is an ensemble itself, or one whose vocabulary, special tokens or template is
            not the first one's; or no room on the disk.
    """
    paths = [Path(member) for member in members]
    if len(paths) < 2:
        raise CheckpointError(f"expected two or more checkpoints for an ensemble, found {len(paths)}")
    card = CheckpointCard.read(paths[0])
    for path in paths:
        if (inner := read_ensemble(path)) is not None:
            raise CheckpointError(
                f"{path}: expected one model as a member, found an ensemble of {1 + len(inner.others)}; an average of averages "
                "weighs its models unevenly: name all of them as members"
            )
    for path in paths[1:]:
        check_kinship(paths[0], path)
    names = [f"members/{number}" for number in range(1, len(paths))]
    with directory_to_write(output) as aside:
        copy_checkpoint(paths[0], aside)
        for name, path in zip(names, paths[1:], strict=True):
            copy_checkpoint(path, aside / name)
        write_json(aside / ENSEMBLE, {"format": ENSEMBLE_FORMAT, "average": average, "members": names})
    return card


def check_kinship(first: Path, other: Path) -> None:
    """Refuse a member that does not speak the first one's language.

    Raises:
        CheckpointError: naming both, and what they differ in.
    """
    card, their_card = (CheckpointCard.read(path) for path in (first, other))
    ours, theirs = read_tokenizer(first, card.template), read_tokenizer(other, their_card.template)
    if ours.size != theirs.size or (named := list(ours.pieces(range(ours.size)))) != list(theirs.pieces(range(ours.size))):
        words = f"expected the vocabulary of {first} ({ours.size} tokens), found one of {theirs.size}"
        if ours.size == theirs.size:
            place, (one, two) = next(
                (place, pair)
                for place, pair in enumerate(zip(named, theirs.pieces(range(ours.size)), strict=True))
                if pair[0] != pair[1]
            )
            words = f"expected the vocabulary of {first}, found another: token {place} is {one!r} there and {two!r} here"
        raise CheckpointError(f"{other}: {words}; an ensemble needs members that were trained with one tokenizer")
    config, their_config = (
        json.loads((path / "config.json").read_text(encoding="utf-8"))
        | {name: value for name, value in said_beside_configuration(path).items() if value is not None}
        for path in (first, other)
    )
    for name in ("vocab_size", *SPECIAL_NAMES):
        if config.get(name) != their_config.get(name):
            raise CheckpointError(
                f"{other}: expected {name} {config.get(name)} as in {first}, found {their_config.get(name)}; "
                "an ensemble needs members of one vocabulary"
            )
    if card.template != their_card.template:
        raise CheckpointError(f"{other}: expected the input template of {first}, found another; an ensemble reads an input once")
