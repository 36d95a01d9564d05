"""Answers: from the tokens that were decoded to what the caller is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pocketseq.confidence import Evidence, Scorer, confidence
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
    scorer: Scorer
    """Turns evidence into a confidence."""
    plan: Plan
    encode_ms: float = 0.0
    decode_ms: float = 0.0

    def result(self, job: Job, found: Sequence[Decoded], pooled: Floats | None = None, *, gate: float | None = None) -> Result:
        """The result of one input.

        Args:
            job: The input.
            found: Its answers, the best first; without beams one.
            pooled: Mean of the encoder's last states, float32 [d_model], where the caller or the scorer looks at it.
            gate: Log-odds of the gate, where there is one.
        """
        answer, beams = found[0], self.plan.request.beams
        evidence = _evidence(job, answer, gate, pooled)
        if len(found) > 1:
            evidence = replace(evidence, rival=math.fsum(found[1].logprobs))
        confident = confidence(evidence, self.scorer)
        hypotheses: tuple[Hypothesis, ...] = ()
        if beams is not None:
            others = found[1 : beams.answers]
            first = self._hypothesis(job, answer, confident)
            hypotheses = (first, *(self._hypothesis(job, one, self._confidence(job, one, gate, pooled)) for one in others))
        return Result(
            text=hypotheses[0].text if hypotheses else self._text(job.encoded, answer),
            confidence=confident,
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
            pooled=tuple(pooled.tolist()) if self.plan.request.pooled and pooled is not None else None,
            evidence=evidence,
        )

    def empty(self, job: Job, reason: FinishReason) -> Result:
        """The result of an input that must end before it was begun."""
        return self.result(job, [Decoded((), (), reason, score=0.0)])

    def score(self, job: Job, given: Decoded, pooled: Floats | None = None, *, gate: float | None = None) -> Score:
        """What the model thinks of an answer that it was given; arguments as ``result``."""
        return Score(
            logprob=math.fsum(given.logprobs),
            confidence=self._confidence(job, given, gate, pooled),
            tokens=given.ids,
            token_logprobs=given.logprobs,
            token_alternatives=given.alternatives,
        )

    def _confidence(self, job: Job, answer: Decoded, gate: float | None, pooled: Floats | None) -> float | None:
        return confidence(_evidence(job, answer, gate, pooled), self.scorer)

    def _hypothesis(self, job: Job, answer: Decoded, confident: float | None) -> Hypothesis:
        return Hypothesis(
            text=self._text(job.encoded, answer),
            score=answer.score or 0.0,
            confidence=confident,
            tokens=answer.ids,
            token_logprobs=answer.logprobs,
            finish_reason=answer.finish_reason,
            token_alternatives=answer.alternatives,
        )

    def _text(self, encoded: EncodedInput, answer: Decoded) -> str:
        ids = answer.ids[:-1] if answer.finish_reason == "stop" else answer.ids
        text = self.template.decode(self.tokenizer, (*self.plan.prefix, *ids), encoded)
        stops = self.plan.constraints.stop
        return text[: first_stop(text, stops)] if stops else text


def _evidence(job: Job, answer: Decoded, gate: float | None, pooled: Floats | None) -> Evidence:
    return Evidence(
        logprobs=answer.logprobs,
        tokens=answer.ids,
        entropies=tuple(entropy for entropy, _ in answer.spread) if answer.spread else (),
        gaps=tuple(gap for _, gap in answer.spread) if answer.spread else (),
        finished=answer.finish_reason in ("stop", "stop_string"),
        source=job.encoded.ids,
        truncated=bool(job.encoded.truncated),
        gate=gate,
        state=pooled,
    )
