"""How far a variant's answers are from the checkpoint's, token for token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from pocketseq.bundle import Bundle
from pocketseq.manifest import Parity, Variant
from pocketseq.model import PocketModel
from pocketseq.runtimes import UNSAID, AnyRuntime, Floats, open_runtime
from pocketseq.template import EncodedInput, Input
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export.reference import Reference


@dataclass(frozen=True, slots=True)
class Question:
    """An input with the checkpoint's own answer to it."""

    fields: Input
    """As a user gives it."""
    encoded: EncodedInput
    """As the model reads it."""
    tokens: tuple[int, ...]
    """What the checkpoint says in PyTorch, greedily, the end token included where it came."""
    text: str
    """The same as an answer."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a variant says to the same questions."""

    parity: Parity | None
    """Agreement with the checkpoint; None where the variant gives log-probabilities that are no numbers."""
    answers: tuple[str, ...]
    """The variant's answers."""
    latency_ms: float
    """Median of one answer end to end."""


def ask_checkpoint(reference: Reference, tokenizer: TextTokenizer, inputs: Sequence[Input]) -> list[Question]:
    """Let the checkpoint answer in PyTorch.

    Args:
        reference: The checkpoint.
        tokenizer: The bundle's, so that both read the same tokens.
        inputs: Held-out inputs.
    """
    template = reference.card.template
    encoded = [template.encode(tokenizer, fields) for fields in inputs]
    answers = reference.generate([source.ids for source in encoded])
    end_id = reference.special.end_id
    questions = []
    for fields, source, tokens in zip(inputs, encoded, answers, strict=True):
        said = tokens[:-1] if tokens and tokens[-1] == end_id else tokens
        questions.append(Question(fields=fields, encoded=source, tokens=tokens, text=template.decode(tokenizer, said, source)))
    return questions


def compare(reference: Reference, bundle: Bundle, variant: Variant, questions: Sequence[Question]) -> Comparison:
    """Hold a variant to the checkpoint, one input at a time, as a device asks it.

    Generations run through ``PocketModel``; log-probabilities are compared with the checkpoint's own answer as the prefix, but for
    those of tokens that neither ever says.
    """
    # The place, since a packaged bundle goes before a directory of the same name.
    with PocketModel.load(bundle.place or bundle.source, runtime=variant.runtime, precision=variant.precision) as model:
        model.warm_up()
        # All answers first: PyTorch between them would push the model out of the processor's cache, and its time would count.
        results = [model.generate(question.fields) for question in questions]
    identical = sum(tuple(result.tokens) == question.tokens for result, question in zip(results, questions, strict=True))
    runtime = open_runtime(bundle, variant)
    largest, total, numbers = 0.0, 0.0, 0
    for question in questions:
        mine, theirs = _logprobs(runtime, reference, question), reference.logprobs(question.encoded.ids, question.tokens).numpy()
        said = ~((mine < UNSAID) & (theirs < UNSAID))  # NaN is not below anything, and counts
        difference = np.abs(mine[said] - theirs[said])
        largest = max(largest, float(difference.max()))
        total += float(difference.sum(dtype=np.float64))
        numbers += difference.size
    parity = None
    if math.isfinite(total):
        parity = Parity(
            inputs=len(questions),
            identical_generations=identical / len(questions),
            max_abs_logit_difference=largest,
            mean_abs_logit_difference=total / numbers,
        )
    return Comparison(
        parity=parity,
        answers=tuple(result.text for result in results),
        latency_ms=median(result.timing.total_ms for result in results),
    )


def _logprobs(runtime: AnyRuntime, reference: Reference, question: Question) -> Floats:
    """The variant's log-probabilities along the checkpoint's answer, float32 [target, vocab]."""
    ids = np.array([question.encoded.ids], dtype=np.int64)
    given = np.array([[*reference.special.prompt, *question.tokens[:-1]]], dtype=np.int64)
    logprobs: Floats = runtime.step(given, runtime.encode(ids, np.ones_like(ids)), runtime.start(1)).logprobs[0]
    return logprobs[-len(question.tokens) :]
