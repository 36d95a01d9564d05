"""Causal language models as teachers, through text: a prompt goes in, and what follows it, up to a stop string, is the answer.

Such a teacher has a tokenizer of its own, so that a student learns from its answers alone, not from its distributions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.errors import CheckpointError, TeacherError
from pocketseq.files import digest, sha256
from pocketseq_distill.labelling.prompts import write_prompt
from pocketseq_distill.labelling.teacher import Asking, Candidate, Question, Reply
from pocketseq_distill.memory import memory_for_answers
from pocketseq_distill.special_ids import without_defaults

if TYPE_CHECKING:
    from torch import Tensor

_NEW_TOKENS: Final = 128
_SCORED_TOKENS: Final = 16_384


@dataclass(frozen=True, slots=True)
class CausalSettings:
    """Which causal language model, and how it is asked."""

    checkpoint: str
    """A Hugging Face directory."""
    prompt: str
    """What it continues, with places such as ``{text}`` for the fields of a row; its own special tokens may stand in it."""
    stop: tuple[str, ...] = ("\n",)
    """What ends an answer, and does not belong to it."""
    max_new_tokens: int = _NEW_TOKENS
    """Longest answer in its tokens, unless ``[label]`` says otherwise."""


class CausalTeacher:
    """A causal language model on disk; its weights are read when it is first asked."""

    concurrency = 0

    def __init__(self, settings: CausalSettings) -> None:
        """Name a model.

        Raises:
            CheckpointError: no directory with a configuration and weights as safetensors.
        """
        self.settings = settings
        self._path = Path(settings.checkpoint)
        if not (self._path / "config.json").is_file() or not any(self._path.glob("*.safetensors")):
            raise CheckpointError(
                f"{self._path}: expected the directory of a causal language model with config.json and *.safetensors, found none; "
                "download one first"
            )

    def __reduce__(self) -> tuple[type[CausalTeacher], tuple[CausalSettings]]:
        return type(self), (self.settings,)

    @cached_property
    def id(self) -> str:
        """Fingerprint of the model's files, the prompt and the stop strings."""
        names = sorted(path.name for path in self._path.iterdir() if path.suffix in {".json", ".safetensors", ".model", ".txt"})
        hashes = {name: sha256(self._path / name) for name in names}
        return digest({"causal": hashes, **asdict(self.settings), "checkpoint": None})

    def ask(self, questions: Sequence[Question], how: Asking) -> list[Reply]:
        """Answer by beam search or by sampling; see ``Teacher.ask``.

        Raises:
            TeacherError: more answers than beams without a temperature, beams together with one, or memory that ran out.
        """
        if (how.temperature > 0 and how.beams > 1) or (how.temperature == 0 and how.candidates > how.beams):
            raise TeacherError(
                f"expected answers from beams, at most as many, or samples at a temperature, found {how.candidates} answers, "
                f"{how.beams} beams and temperature {how.temperature}"
            )
        prompts = [write_prompt(self.settings.prompt, question.fields) for question in questions]
        # What is drawn must not depend on what else is asked: a row at a time has a seed of its own.
        size = 1 if how.temperature > 0 else how.batch_size
        with memory_for_answers(size):  # the weights are read here
            rooms = self._rooms(prompts)
        budget = how.max_new_tokens or self.settings.max_new_tokens
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        ample = [place for place in order if rooms[place] >= budget]
        batches = [ample[begin : begin + size] for begin in range(0, len(ample), size)]
        # Nor must how long an answer may be: where the positions cut it short, its row goes alone.
        batches += [[place] for place in order if 0 < rooms[place] < budget]
        found = {place: _too_long(rooms[place]) for place in order if rooms[place] <= 0}
        for places in batches:
            with memory_for_answers(size):
                replies = self._batch(
                    [prompts[place] for place in places],
                    how,
                    max_new_tokens=min(budget, rooms[places[0]]),
                    seed=questions[places[0]].seed,
                )
            found.update(zip(places, replies, strict=True))
        return [found[place] for place in range(len(prompts))]

    def close(self) -> None:
        """Nothing is held open."""

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from pocketseq_distill.console import quiet_transformers
        from pocketseq_distill.precision import has_bf16

        device = "cuda" if torch.cuda.is_available() else "cpu"
        options = {"trust_remote_code": False, "local_files_only": True}
        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(self._path, padding_side="left", **options)
                # Weights kept in bfloat16 would be multiplied in it, whether or not the device can.
                dtype = "auto" if has_bf16(device) else torch.float32
                model = AutoModelForCausalLM.from_pretrained(self._path, use_safetensors=True, dtype=dtype, **options)
        except Exception as error:  # a broken checkpoint fails in as many ways as there are libraries below
            raise CheckpointError(
                f"{self._path}: expected a causal language model that transformers can load, found: {error}"
            ) from error
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
        return model.eval().to(device), tokenizer

    def _rooms(self, prompts: Sequence[str]) -> list[int]:
        """Tokens that the model has positions for behind each prompt."""
        model, tokenizer = self._loaded
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if not positions:  # none of its own, such as ALiBi
            return [sys.maxsize] * len(prompts)
        return [positions - len(ids) for ids in tokenizer(list(prompts), verbose=False)["input_ids"]]

    def _batch(self, prompts: Sequence[str], how: Asking, *, max_new_tokens: int, seed: int) -> list[Reply]:
        import torch
        from transformers import GenerationConfig

        from pocketseq_distill.precision import products

        model, tokenizer = self._loaded
        inputs = tokenizer(list(prompts), return_tensors="pt", padding=True).to(model.device)
        settings = GenerationConfig(
            do_sample=how.temperature > 0,
            temperature=how.temperature or None,
            top_k=0 if how.temperature > 0 else None,
            num_beams=how.beams,
            num_return_sequences=how.candidates,
            max_new_tokens=max_new_tokens,
            stop_strings=list(self.settings.stop) or None,
            eos_token_id=model.generation_config.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bad_words_ids=model.generation_config.bad_words_ids,
        )
        with (
            torch.inference_mode(),
            without_defaults(model),
            torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []),
            products(model.device, bf16=how.bf16),
        ):
            torch.manual_seed(seed)
            sequences = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                generation_config=settings,
                tokenizer=tokenizer,
            )
            width = inputs["input_ids"].size(1)
            mask = torch.cat(
                (inputs["attention_mask"].repeat_interleave(how.candidates, dim=0), torch.ones_like(sequences[:, width:])), dim=1
            )
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            # A few rows at a time: all distributions of a batch over a large vocabulary are gigabytes.
            size = max(1, _SCORED_TOKENS // sequences.size(1))
            scores = torch.cat(
                [
                    self._scores(*(one[begin : begin + size] for one in (sequences, mask, positions)), width=width)
                    for begin in range(0, len(sequences), size)
                ]
            )
        answers = [
            self._candidate(tokens, values) for tokens, values in zip(sequences[:, width:].tolist(), scores.tolist(), strict=True)
        ]
        return [Reply(tuple(answers[begin : begin + how.candidates])) for begin in range(0, len(answers), how.candidates)]

    def _scores(self, sequences: Tensor, mask: Tensor, positions: Tensor, *, width: int) -> Tensor:
        """Log-probabilities float32 [rows, answer] of what stands behind prompts of this width, int64 [rows, token]."""
        model, _ = self._loaded
        found = model(input_ids=sequences, attention_mask=mask, position_ids=positions, use_cache=False).logits
        scores: Tensor = found[:, width - 1 : -1].float().log_softmax(-1).gather(2, sequences[:, width:, None])[:, :, 0]
        return scores

    def _candidate(self, tokens: list[int], scores: list[float]) -> Candidate:
        """Cut an answer at its end token or at the first stop string; what ended it counts among its tokens, as in a student."""
        model, tokenizer = self._loaded
        ends = model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        count, text, ended = len(tokens), "", False
        for place, token in enumerate(tokens):
            if token in ends:
                count, ended = place + 1, True
                break
            text = tokenizer.decode(tokens[: place + 1], skip_special_tokens=True)
            stops = [found for stop in self.settings.stop if (found := text.find(stop)) >= 0]
            if stops:
                count, text, ended = place + 1, text[: min(stops)], True
                break
        kept = scores[:count]
        return Candidate(
            text=text.removeprefix(" ").rstrip(),  # the space that belongs to the first word's token
            logprob=sum(kept),
            mean_logprob=sum(kept) / len(kept) if kept else None,
            finish_reason="stop" if ended else "length",
        )


def _too_long(room: int) -> Reply:
    """What is said of a prompt behind which the model has no position left."""
    return Reply(
        failure="malformed",
        why=f"expected a prompt that leaves the model a position for its answer, found one whose tokens are {1 - room} too many; "
        "shorten the input, or the prompt around it",
    )
