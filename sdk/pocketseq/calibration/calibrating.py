"""Calibration: rows in, a scorer and a threshold with a finite-sample promise out.

The rows are divided by a seeded hash of their ids: one part fits what is learnt and chooses the scorer and the candidate
thresholds, where what is learnt judges each row by a fit without it (cross-fitting); the other tests the thresholds. Nothing that
tests has fitted or chosen anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

import numpy as np

from pocketseq.calibration.calibrated import Calibrated, confidences_of, losses_of
from pocketseq.calibration.choosing import choose_scorer
from pocketseq.calibration.fitting import Fitted, can_fit, fit
from pocketseq.calibration.guarantee import Rows, candidates, check_promise, choose_threshold, smallest_risk
from pocketseq.calibration.judging import Judged, judge
from pocketseq.calibration.losses import EXACT, Loss
from pocketseq.calibration.measures import auroc
from pocketseq.confidence import GAIN, LEARNED, SCORERS, Scorer, gain_scorer, gate, learned_scorer, sigmoid
from pocketseq.errors import CalibrationError, InfeasibleRiskError
from pocketseq.examples import Example
from pocketseq.files import digest
from pocketseq.manifest import SERVES_NOTHING, Calibration, Guarantee
from pocketseq.model import PocketModel

_CHOOSES: Final = 0.6
"""Share of the rows; the rest, two fifths, tests: it decides how much can be shown."""

_LEAST_SERVED: Final = 0.8
"""What the scorer of gain must serve of what ``learned`` serves at the same risk: fewer answers, for one that the cloud would have
wrong as well is surer to it than one as doubtful that the cloud would have right."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What is to be promised."""

    risk: float = 0.1
    """Largest mean loss among the answers served; of ``conformal`` among all suggestions."""
    delta: float = 0.05
    """Probability, over the calibration rows, that the promise does not hold."""
    loss: Loss = EXACT
    """What counts as wrong."""
    guarantee: Guarantee | None = None
    """By which test; None takes ``binomial`` for losses of 0 or 1 and ``hoeffding-bentkus`` for others."""

    def __post_init__(self) -> None:
        check_promise(risk=self.risk, delta=self.delta)
        if self.guarantee not in (None, *get_args(Guarantee)):  # one that nobody knows would be taken for another
            raise CalibrationError(f"guarantee: expected one of {', '.join(get_args(Guarantee))}, found {self.guarantee!r}")
        if self.guarantee == "binomial" and not self.loss.binary:
            raise CalibrationError(
                f"guarantee: expected hoeffding-bentkus or conformal for the loss {self.loss.name}, which is a matter of degree, "
                "found binomial; or give the metric a bound, as in edit_similarity<0.9"
            )

    @property
    def test(self) -> Guarantee:
        """The test that is used."""
        return self.guarantee or ("binomial" if self.loss.binary else "hoeffding-bentkus")


def calibrate(
    model: PocketModel,
    examples: Sequence[Example],
    promise: Promise | None = None,
    *,
    cloud: Mapping[str, str] | None = None,
    seen: Sequence[Example] = (),
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Calibrated:
    """Let a model answer rows, and find the scorer and the threshold to serve it by; bound to the variant that answered.

    Args:
        model: The very variant that will be served.
        examples: Rows that it was not trained on; for the loss ``teacher`` with the teacher's answers as their targets.
        promise: What is to be promised; at most 10% wrong with probability 95% if not given.
        cloud: What the cloud answers to each row, by its id: the scorer is chosen by what handing over to this cloud gains, and one
            of gain is fitted and considered. None takes the cloud to be always right.
        seen: Rows that the models learnt from, with the cloud's answers among ``cloud`` too. They help to fit what is learnt, where
            the other rows are foreseen better with them; they choose nothing and test nothing.
        seed: Seed of the division of the rows.
        progress: Called with the number of rows answered, after each.

    Returns:
        The calibration with all that it was made of; the learned scorer and the gate are among it where scikit-learn is installed.

    Raises:
        InfeasibleRiskError: no threshold keeps the promise; names the smallest risk that one would, and its coverage.
        CalibrationError: fewer than 3 rows, one of them among ``seen``, or one that ``cloud`` has no answer to.
        InputError: a row that the model's template does not take.
    """
    promise = promise or Promise()
    _check_rows(examples)
    _check_unseen([row.id for row in examples], (row.id for row in seen))  # before the model answers
    data = digest(sorted([row.id, row.target] for row in examples))
    judged = judge(model, [*examples, *seen], promise.loss, cloud=cloud, progress=progress)
    answers, helping = judged[: len(examples)], judged[len(examples) :]
    found = calibrate_answers(answers, promise, seen=helping, variant=model.variant.hash, data=data, seed=seed)
    if refusal := found.refusal():
        raise InfeasibleRiskError(refusal, found)
    return found


def calibrate_answers(
    judged: Sequence[Judged],
    promise: Promise | None = None,
    *,
    seen: Sequence[Judged] = (),
    variant: str,
    data: str,
    seed: int = 0,
) -> Calibrated:
    """Fit, choose and test on answers whose loss is known; no file is read and no model runs.

    Args:
        judged: What ``judge`` gave.
        promise: What is to be promised.
        seen: The same of rows that the models learnt from; see ``calibrate``.
        variant: ``Variant.hash`` of what answered.
        data: Fingerprint of the rows.
        seed: Seed of the division of the rows and of the bootstrap in the choice.

    Returns:
        The calibration; with a threshold that serves nothing where no candidate keeps the promise.

    Raises:
        CalibrationError: fewer than 3 rows, or one of them among ``seen``.
    """
    _check_rows(judged)
    choosing, testing = _parts(judged, seed)
    return calibrate_parts(choosing, testing, promise, seen=seen, variant=variant, data=data, seed=seed)


def calibrate_parts(
    choosing: Sequence[Judged],
    testing: Sequence[Judged],
    promise: Promise | None = None,
    *,
    seen: Sequence[Judged] = (),
    variant: str,
    data: str,
    seed: int = 0,
) -> Calibrated:
    """Calibrate on parts that are divided already, such as two splits of a corpus; see ``calibrate_answers``.

    Args:
        choosing: Answers that fit and choose, at least one.
        testing: Answers that test, at least one.
        promise: See there, as the other arguments.
        seen: See there.
        variant: See there.
        data: See there.
        seed: Seed of the bootstrap in the choice.

    Raises:
        CalibrationError: a row of a part is among ``seen``.
    """
    promise = promise or Promise()
    _check_unseen([answer.id for answer in (*choosing, *testing)], (answer.id for answer in seen))
    learnt = fit(choosing, seen=seen) if can_fit() else None
    scorers: dict[str, Scorer] = {**SCORERS}
    confidences = {name: confidences_of(choosing, scorer) for name, scorer in scorers.items()}
    if learnt is not None:
        choosing, testing = learnt.rows, _gated(testing, learnt)
        scorers[LEARNED] = learned_scorer(learnt.learned)
        confidences[LEARNED] = np.array([sigmoid(log_odds) for log_odds in learnt.foreseen])
        if learnt.gain is not None and learnt.gain_foreseen is not None:
            scorers[GAIN] = gain_scorer(learnt.gain)
            confidences[GAIN] = np.array([sigmoid(log_odds) for log_odds in learnt.gain_foreseen])
    chose = {name: Rows.of(scores, losses_of(choosing)) for name, scores in confidences.items()}
    gains = np.array([answer.loss - answer.cloud_loss for answer in choosing])
    choice = choose_scorer(confidences, gains, seed=seed, without=_too_dear(chose, promise))
    scorer, test = choice.scorer, promise.test
    tests = {name: Rows.of(confidences_of(testing, one), losses_of(testing)) for name, one in scorers.items()}
    chosen, tested = chose[scorer], tests[scorer]
    found = _threshold(chosen, tested, promise.risk, promise)
    served = 0 if found is None else tested.served(found)
    least = smallest_risk(chosen, tested, delta=promise.delta, guarantee=test) if found is None else None
    calibration = Calibration(
        scorer=scorer,
        threshold=SERVES_NOTHING if found is None else found,
        risk=promise.risk,
        delta=promise.delta,
        coverage=served / len(testing),
        accuracy=float(1 - tested.lost[served] / served) if served else None,
        n=len(testing),
        auroc=auroc(confidences_of(testing, scorers[scorer]), losses_of(testing) < 0.5),
        variant=variant,
        data=data,
        loss=promise.loss.name,
        guarantee=test,
        learned=learnt.learned if learnt and scorer == LEARNED else None,
        gain=learnt.gain if learnt and scorer == GAIN else None,
        gate=learnt.gate if learnt else None,
    )
    return Calibrated(
        calibration=calibration,
        scorers=scorers,
        areas=choice.areas,
        coverages={name: _coverage(chose[name], tests[name], promise.risk, promise) for name in scorers},
        chosen=choosing,
        tested=testing,
        helped=learnt.helped if learnt else 0,
        smallest_risk=least,
        smallest_coverage=None if least is None else _coverage(chosen, tested, least, promise),
    )


def _parts(judged: Sequence[Judged], seed: int) -> tuple[Sequence[Judged], Sequence[Judged]]:
    # By hash, so that no part is the easy one of a sorted file, and the order of the rows does not matter.
    ordered = sorted(judged, key=lambda answer: digest([seed, answer.id]))
    chooses = int(len(ordered) * _CHOOSES)
    return ordered[:chooses], ordered[chooses:]


def _gated(answers: Sequence[Judged], learnt: Fitted) -> list[Judged]:
    log_odds = gate(learnt.gate)
    gated = []
    for answer in answers:
        evidence = answer.evidence
        if answer.pooled is not None:
            odds = log_odds(answer.pooled[None], [len(evidence.source)])[0]
            evidence = replace(evidence, gate=odds, state=answer.pooled)
        gated.append(replace(answer, evidence=evidence))
    return gated


def _too_dear(chose: Mapping[str, Rows], promise: Promise) -> Collection[str]:
    """The scorer of gain where its price in coverage is too high, on the rows that choose."""
    if GAIN not in chose:
        return ()
    gain, plain = (_coverage(chose[name], chose[name], promise.risk, promise) for name in (GAIN, LEARNED))
    return (GAIN,) if gain < _LEAST_SERVED * plain else ()


def _threshold(chosen: Rows, tested: Rows, risk: float, promise: Promise) -> float | None:
    test = promise.test
    return choose_threshold(
        tested, candidates=candidates(chosen, risk=risk, guarantee=test), risk=risk, delta=promise.delta, guarantee=test
    )


def _coverage(chosen: Rows, tested: Rows, risk: float, promise: Promise) -> float:
    found = _threshold(chosen, tested, risk, promise)
    return 0.0 if found is None else tested.served(found) / len(tested.confidences)


def _check_rows(rows: Sequence[object]) -> None:
    if len(rows) < 3:
        raise CalibrationError(f"expected at least 3 labelled rows, some hundreds for a useful threshold, found {len(rows)}")


def _check_unseen(names: Sequence[str], seen: Iterable[str]) -> None:
    """Refuse rows that helped to fit what judges them: known by heart, they would prove a promise that others break."""
    if both := set(seen).intersection(names):
        first = next(name for name in names if name in both)
        raise CalibrationError(
            f"expected rows that the model was not trained on, found {len(both)} that are also among those seen, by their ids "
            f"({first!r:.80}); leave them out of one, or give rows that are not the same ids of their own"
        )
