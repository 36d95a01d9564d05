"""Answers: from the tokens that were decoded to what the caller is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pocketseq.confidence import confidence
from pocketseq.decoding import Decoded, FinishReason, first_stop
from pocketseq.job import Job, milliseconds
from pocketseq.plan import Plan
from pocketseq.results import Hypothesis, Result, Score, Timing
from pocketseq.runtimes.protocol import Floats
from pocketseq.template import EncodedInput, Template
from pocketseq.tokenizer import TextTokenizer


@dataclass(slots=True)
class Answers:
    """Writes the results of inputs that ran together."""

    template: Template
    tokenizer: TextTokenizer
    scorer: str
    """Name of the confidence scorer."""
    plan: Plan
    encode_ms: float = 0.0
    decode_ms: float = 0.0

    def result(self, job: Job, found: Sequence[Decoded], pooled: Floats | None = None) -> Result:
        """The result of one input.

        Args:
            job: The input.
            found: Its answers, the best first; without beams one.
            pooled: Mean of the encoder's last states, float32 [d_model], where it was asked for.
        """
        answer, beams = found[0], self.plan.request.beams
        hypotheses = () if beams is None else tuple(self._hypothesis(job, one) for one in found[: beams.answers])
        return Result(
            text=hypotheses[0].text if hypotheses else self._text(job.encoded, answer),
            confidence=confidence(answer.logprobs, self.scorer),
            tokens=answer.ids,
            token_logprobs=answer.logprobs,
            finish_reason=answer.finish_reason,
            truncated=job.encoded.truncated,
            timing=Timing(
                tokenize_ms=job.tokenize_ms,
                encode_ms=self.encode_ms,
                decode_ms=self.decode_ms,
                total_ms=milliseconds(job.started),
            ),
            hypotheses=hypotheses,
            token_alternatives=answer.alternatives,
            pooled=None if pooled is None else tuple(pooled.tolist()),
        )

    def empty(self, job: Job, reason: FinishReason) -> Result:
        """The result of an input that must end before it was begun."""
        return self.result(job, [Decoded((), (), reason, score=0.0)])

    def score(self, given: Decoded) -> Score:
        """What the model thinks of an answer that it was given."""
        return Score(
            logprob=math.fsum(given.logprobs),
            confidence=confidence(given.logprobs, self.scorer),
            tokens=given.ids,
            token_logprobs=given.logprobs,
            token_alternatives=given.alternatives,
        )

    def _hypothesis(self, job: Job, answer: Decoded) -> Hypothesis:
        return Hypothesis(
            text=self._text(job.encoded, answer),
            score=answer.score or 0.0,
            confidence=confidence(answer.logprobs, self.scorer),
            tokens=answer.ids,
            token_logprobs=answer.logprobs,
            finish_reason=answer.finish_reason,
        )

    def _text(self, encoded: EncodedInput, answer: Decoded) -> str:
        ids = answer.ids[:-1] if answer.finish_reason == "stop" else answer.ids
        text = self.template.decode(self.tokenizer, (*self.plan.prefix, *ids), encoded)
        return text[: first_stop(text, self.plan.constraints.stop)]
