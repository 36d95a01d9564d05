"""Answers of a checkpoint: the one way in which labelling, evaluation and serving ask a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import CheckpointError, InputError
from pocketseq.template import EncodedInput, Input
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.decoder import Decoder, Emission, OnToken, Prompt
from pocketseq_distill.tokenizer import read_tokenizer

T = TypeVar("T")
FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Request:
    """One input to answer, with settings of its own."""

    encoded: EncodedInput
    """The input as the template encodes it."""
    max_new_tokens: int
    """Tokens to emit at most, the end token counted."""
    temperature: float = 0.0
    """0 takes the likeliest token; above it tokens are drawn from the distribution at this temperature."""
    seed: int = 0
    """Fixes what is drawn, whatever else is in the batch."""

    @property
    def prompt(self) -> Prompt:
        """The request as the decoder reads it."""
        return Prompt(self.encoded.ids, self.max_new_tokens, self.temperature, self.seed)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one input."""

    text: str
    """The whole answer, read by the checkpoint's template."""
    tokens: tuple[int, ...]
    """Emitted token ids, the end token included where it was emitted."""
    token_logprobs: tuple[float, ...]
    """Log-probability of each emitted token under the raw distribution."""
    finish_reason: FinishReason
    """``stop`` where the model ended the answer, ``length`` where the budget did."""
    truncated: tuple[str, ...]
    """Names of the input fields that were cut."""
    prompt_tokens: int
    """Length of the input as the model read it."""


class TeacherModel:
    """A checkpoint loaded with transformers, with its template and tokenizer."""

    def __init__(self, model: Any, tokenizer: TextTokenizer, card: CheckpointCard) -> None:
        """Put together a model that is loaded already.

        Args:
            model: A transformers encoder-decoder with a language-model head; it is set to evaluation.
            tokenizer: The checkpoint's tokenizer.
            card: What ``distillation.json`` says of the checkpoint.

        Raises:
            CheckpointError: the tokenizer knows ids that the model does not embed, or no start or end token is configured.
        """
        if tokenizer.size > model.config.vocab_size:
            raise CheckpointError(
                f"expected a tokenizer of at most {model.config.vocab_size} ids, which is what the model embeds, "
                f"found {tokenizer.size}; save the tokenizer that the model was trained with"
            )
        self.decoder = Decoder(model)
        self.model = model
        self.tokenizer = tokenizer
        self.card = card

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> TeacherModel:
        """Load a checkpoint directory, or an ensemble of such; weights from safetensors only, and code is never executed.

        Args:
            path: A Hugging Face directory.
            device: Where it runs, such as ``"cuda"``; if not given, the accelerator where there is one.

        Raises:
            CheckpointError: the directory holds no usable encoder-decoder.
        """
        import torch

        from pocketseq_distill.checkpoints import read_ensemble
        from pocketseq_distill.ensemble import Ensemble, check_kinship

        path = Path(path)
        card = CheckpointCard.read(path)
        tokenizer = read_tokenizer(path, card.template)
        model = _read_model(path)
        ensemble = read_ensemble(path)
        if ensemble is not None:
            for other in ensemble.others:
                check_kinship(path, other)
            model = Ensemble([model, *map(_read_model, ensemble.others)], average=ensemble.average)
        return cls(model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), tokenizer, card)

    @property
    def max_new_tokens_limit(self) -> int:
        """Longest answer that the decoder's positions allow; a plain bound where they are relative."""
        return self._positions or 1024

    @property
    def _positions(self) -> int | None:
        """Tokens that the decoder has positions for; None where they are relative."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        return int(positions) if positions else None

    def _budget(self, max_new_tokens: int | None) -> int:
        """Tokens of an answer: a longer one than the decoder has positions for would end in an error, for all rows beside it."""
        budget = self.card.max_new_tokens if max_new_tokens is None else max_new_tokens
        return budget if self._positions is None else min(budget, self._positions)

    def encode(self, source: Input) -> EncodedInput:
        """Encode an input by the checkpoint's template, cutting what is over a field's budget."""
        return self.card.template.encode(self.tokenizer, source)

    def answer(
        self,
        inputs: Sequence[Input],
        *,
        max_new_tokens: int | None = None,
        beams: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> list[Answer]:
        """Answer many inputs, batched by length; the answers are in the order of the inputs.

        Args:
            inputs: Strings for the template's primary field, or mappings of its fields.
            max_new_tokens: Budget of an answer, at most what the decoder has positions for; the checkpoint's own if not given.
            beams: 1 decodes greedily or by sampling, more searches with so many beams.
            temperature: 0 is greedy; above it answers are sampled, each by ``seed`` plus its place in ``inputs``.
            seed: Fixes what is sampled.
            batch_size: Inputs decoded together.

        Raises:
            InputError: an input that the template does not take, or beams together with a temperature.
        """
        _check_one_way(beams, temperature)
        budget = self._budget(max_new_tokens)
        requests = [Request(self.encode(source), budget, temperature, seed + place) for place, source in enumerate(inputs)]
        if beams == 1:
            return _by_length(requests, batch_size, self.decode)
        return [best[0] for best in _by_length(requests, batch_size, lambda batch: self._search(batch, beams, best=1))]

    def candidates(
        self,
        inputs: Sequence[Input],
        count: int,
        *,
        max_new_tokens: int | None = None,
        beams: int = 1,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        batch_size: int = 32,
    ) -> list[list[Answer]]:
        """Give several answers to each of many inputs: the best of a beam search, or so many samples.

        Args:
            inputs: See ``answer``.
            count: Answers to each input; at most as many as beams where none is sampled.
            max_new_tokens: See ``answer``.
            beams: See ``answer``.
            temperature: See ``answer``; above 0 each answer is drawn by a seed of its own.
            seeds: One for each input, so that what is drawn does not depend on what else is asked; 0 and on if not given.
            batch_size: See ``answer``.

        Returns:
            For each input its answers, likeliest first where they come from beams.

        Raises:
            InputError: as ``answer``, or more answers than beams without a temperature.
        """
        budget = self._budget(max_new_tokens)
        if temperature > 0:
            _check_one_way(beams, temperature)
            drawn = _by_length(
                [
                    Request(encoded, budget, temperature, seed + number)
                    for encoded, seed in zip(map(self.encode, inputs), seeds or range(len(inputs)), strict=True)
                    for number in range(count)
                ],
                batch_size,
                self.decode,
            )
            return [drawn[begin : begin + count] for begin in range(0, len(drawn), count)]
        if count > beams:
            raise InputError(f"expected at most as many answers as beams, found {count} answers and {beams} beams; or sample them")
        if beams == 1:
            return [[answer] for answer in self.answer(inputs, max_new_tokens=budget, batch_size=batch_size)]
        requests = [Request(self.encode(source), budget) for source in inputs]
        return _by_length(requests, batch_size, lambda batch: self._search(batch, beams, best=count))

    def decode(self, requests: Sequence[Request], on_token: OnToken | None = None) -> list[Answer]:
        """Answer one batch of unlike requests greedily or by sampling.

        Args:
            requests: What to answer, each with its own budget, temperature and seed.
            on_token: Told of every token as it is emitted, and asked whether its row goes on.
        """
        emissions = self.decoder.decode([request.prompt for request in requests], on_token)
        return [self.read(request, emission) for request, emission in zip(requests, emissions, strict=True)]

    def _search(self, requests: Sequence[Request], beams: int, *, best: int) -> list[list[Answer]]:
        found = self.decoder.search([request.prompt for request in requests], beams=beams, best=best)
        return [
            [self.read(request, emission) for emission in emissions] for request, emissions in zip(requests, found, strict=True)
        ]

    def read(self, request: Request, emission: Emission) -> Answer:
        """Turn the tokens that were emitted for a request into its answer."""
        ended = bool(emission.tokens) and emission.tokens[-1] in self.decoder.end_ids
        content = emission.tokens[:-1] if ended else emission.tokens
        return Answer(
            text=self.card.template.decode(self.tokenizer, content, request.encoded),
            tokens=tuple(emission.tokens),
            token_logprobs=tuple(emission.logprobs),
            finish_reason="stop" if ended else "length",
            truncated=request.encoded.truncated,
            prompt_tokens=len(request.encoded.ids),
        )


def _check_one_way(beams: int, temperature: float) -> None:
    if beams > 1 and temperature > 0:
        raise InputError(f"expected beams or a temperature, found both: beams={beams}, temperature={temperature}")


def _by_length(requests: Sequence[Request], batch_size: int, ask: Callable[[Sequence[Request]], Sequence[T]]) -> list[T]:
    """Ask in batches of like length; what is found comes in the order of the requests."""
    order = sorted(range(len(requests)), key=lambda place: len(requests[place].encoded.ids))
    found: dict[int, T] = {}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        found.update(zip(places, ask([requests[place] for place in places]), strict=True))
    return [found[place] for place in range(len(requests))]


def _read_model(path: Path) -> Any:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from pocketseq_distill.console import quiet_transformers

    try:
        with quiet_transformers():
            return AutoModelForSeq2SeqLM.from_pretrained(
                path, use_safetensors=True, trust_remote_code=False, local_files_only=True, dtype=torch.float32
            )
    except Exception as error:  # a broken checkpoint fails in as many ways as there are libraries below
        raise CheckpointError(f"{path}: expected weights that transformers can load, found: {error}") from error
