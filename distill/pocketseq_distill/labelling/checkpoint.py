"""Encoder-decoders as teachers: a checkpoint directory, or several of them as one ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean

from pocketseq.checkpoint import CheckpointCard
from pocketseq_distill.generation import Answer, TeacherModel
from pocketseq_distill.labelling.teacher import Asking, Candidate, Question, Reply
from pocketseq_distill.memory import memory_for_answers
from pocketseq_distill.tokenizer import read_tokenizer


class LazyCheckpoint:
    """A checkpoint that is named now and read when it is first asked; another process gets its path alone."""

    def __init__(self, path: str | Path, *, device: str | None = None) -> None:
        """Name a checkpoint.

        Args:
            path: A Hugging Face directory, or an ensemble of such (see ``ensemble``).
            device: Where it runs; if not given, the accelerator where there is one.

        Raises:
            CheckpointError: the directory holds no usable encoder-decoder, or a vocabulary without its template's special tokens.
        """
        self.path = Path(path)
        self.card = CheckpointCard.read(self.path)
        read_tokenizer(self.path, self.card.template)  # refused now, not when rows are waiting
        self._device = device

    def __reduce__(self) -> tuple[type[LazyCheckpoint], tuple[Path]]:
        """Another process, maybe on another machine and in another folder, takes the accelerator that it is shown."""
        return type(self), (self.path.resolve(),)

    @cached_property
    def id(self) -> str:
        """Fingerprint of weights, configuration, tokenizer and template."""
        from pocketseq_distill.checkpoints import checkpoint_fingerprint

        return checkpoint_fingerprint(self.path)

    @cached_property
    def model(self) -> TeacherModel:
        """The model, loaded."""
        return TeacherModel.load(self.path, device=self._device)


class CheckpointTeacher(LazyCheckpoint):
    """A checkpoint that labels."""

    concurrency = 0

    def ask(self, questions: Sequence[Question], how: Asking) -> list[Reply]:
        """Answer by beam search or by sampling; see ``Teacher.ask``.

        Raises:
            InputError: more answers than beams without a temperature, or beams together with one.
            TeacherError: memory ran out.
        """
        from pocketseq_distill.precision import products

        with memory_for_answers(how.batch_size), products(self.model.model.device, bf16=how.bf16):
            found = self.model.candidates(
                [question.fields for question in questions],
                how.candidates,
                max_new_tokens=how.max_new_tokens,
                beams=how.beams,
                temperature=how.temperature,
                seeds=[question.seed for question in questions],
                batch_size=how.batch_size,
            )
        return [Reply(tuple(map(_candidate, answers))) for answers in found]

    def close(self) -> None:
        """Nothing is held open."""


def _candidate(answer: Answer) -> Candidate:
    return Candidate(
        text=answer.text,
        logprob=sum(answer.token_logprobs),
        mean_logprob=fmean(answer.token_logprobs) if answer.token_logprobs else None,
        finish_reason=answer.finish_reason,
    )
