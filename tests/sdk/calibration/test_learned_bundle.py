"""A bundle with a learned scorer and a gate: what the model makes of them, on any way to ask, and of whose numbers they are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketseq.bundle import open_bundle, write_manifest
from pocketseq.cli import main
from pocketseq.confidence import (
    FEATURES,
    PLAIN_FEATURES,
    Gain,
    Logistic,
    confidence,
    features,
    gain_names,
    gain_scorer,
    learned_scorer,
)
from pocketseq.decoding import Beams
from pocketseq.manifest import Calibration
from pocketseq.model import PocketModel
from pocketseq.results import Result

WIDTH = 8


def numbers(*names: str, width: int) -> Logistic:
    rng = np.random.default_rng(width)
    mean, weights = (tuple(rng.normal(0, 0.3, width).tolist()) for _ in range(2))
    return Logistic(features=names, mean=mean, scale=(1.5,) * width, weights=weights, bias=0.2)


LEARNED = numbers(*FEATURES, width=len(FEATURES))
GATE = numbers(f"pooled:{WIDTH}", "input_length", width=WIDTH + 1)
GAIN = Gain(*(numbers(*gain_names(WIDTH), width=len(gain_names(WIDTH)) - 1 + WIDTH),) * 2, weight=0.5, slope=2.0, bias=0.1)


@pytest.fixture
def learned(bundle_directory: Path) -> Path:
    """The tiny bundle with a learned scorer and a gate in its first variant's calibration."""
    return calibrated(bundle_directory)


def calibrated(directory: Path, **changes: Any) -> Path:
    with open_bundle(directory) as bundle:
        manifest = bundle.manifest
    variant = manifest.variants[0]
    values: dict[str, Any] = {
        "scorer": "learned",
        "threshold": 0.5,
        "risk": 0.1,
        "delta": 0.05,
        "coverage": 0.5,
        "accuracy": 0.95,
        "n": 100,
        "auroc": 0.9,
        "variant": variant.hash,
        "data": "1" * 16,
        "learned": LEARNED,
        "gate": GATE,
        **changes,
    }
    write_manifest(directory, manifest.replacing(replace(variant, calibration=Calibration(**values))))
    return directory


def whole(steps: Generator[str, None, Result]) -> Result:
    """The result that a stream ends with."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]


def test_the_learned_confidence_is_that_of_the_features(learned: Path) -> None:
    """From entropies, gaps and the gate, which the answer's evidence carries; the logistic by hand."""
    with PocketModel.load(learned) as model:
        result = model.generate("for i in range(10):")
    evidence = result.evidence
    assert evidence is not None
    assert len(evidence.entropies) == len(evidence.gaps) == len(result.tokens)
    assert evidence.gate is not None
    values = features(evidence)
    log_odds = LEARNED.bias + sum(
        weight * (values[name] - mean) / scale
        for name, mean, scale, weight in zip(LEARNED.features, LEARNED.mean, LEARNED.scale, LEARNED.weights, strict=True)
    )
    assert result.confidence == pytest.approx(1 / (1 + math.exp(-log_odds)))


def test_a_scorer_of_plain_features_costs_nothing_at_the_tokens(bundle_directory: Path) -> None:
    """No distribution is looked at, and it still knows what of the answer stands in the input."""
    plain = numbers(*PLAIN_FEATURES, width=len(PLAIN_FEATURES))
    with PocketModel.load(calibrated(bundle_directory, learned=plain)) as model:
        result = model.generate("for i in range(10):")
    assert result.evidence is not None
    assert (result.evidence.entropies, result.evidence.gaps) == ((), ())
    assert len(result.evidence.source) > 3
    assert result.confidence == confidence(result.evidence, learned_scorer(plain))


def test_every_way_to_ask_gives_the_same_confidence(learned: Path) -> None:
    """One by one, in a batch, as a stream, with one beam, and for the answer given back to be scored."""
    texts = ["for i in range(10):", "x = 1", "def fit(self, x):"]
    with PocketModel.load(learned) as model:
        for text, batched in zip(texts, model.generate_batch(texts), strict=True):
            alone = model.generate(text)
            assert batched.confidence == pytest.approx(alone.confidence, abs=1e-5)
            streamed = whole(model.stream(text))
            assert streamed.confidence == pytest.approx(alone.confidence, abs=1e-6)
            assert model.generate(text, beams=Beams(count=1)).confidence == pytest.approx(alone.confidence, abs=1e-5)


def test_a_scorer_of_gain_sees_the_encoders_state(bundle_directory: Path) -> None:
    """On every way to ask, the same confidence; the state is told to nobody who did not ask for it."""
    with PocketModel.load(calibrated(bundle_directory, scorer="learned_gain", learned=None, gain=GAIN)) as model:
        assert model.calibration_problem is None
        text = "for i in range(10):"
        alone = model.generate(text, pooled=True)
        assert alone.evidence is not None
        assert alone.evidence.state is not None
        assert alone.evidence.state.tolist() == list(alone.pooled or ())
        assert alone.confidence == confidence(alone.evidence, gain_scorer(GAIN))
        others = [model.generate_batch([text])[0], whole(model.stream(text)), model.generate(text, beams=Beams(count=1))]
        for other in others:
            assert other.pooled is None
            assert other.confidence == pytest.approx(alone.confidence, abs=1e-5)
        assert 0 < (model.score(text, "range").confidence or 0) < 1


def test_the_command_line_tells_the_state_as_numbers(bundle_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Among all else that is known of a suggestion, where the scorer looked at it."""
    directory = calibrated(bundle_directory, scorer="learned_gain", learned=None, gain=GAIN)
    assert main(["suggest", "--model", str(directory), "--json", "--deadline-ms", "60000", "for i in range(10):"]) == 0
    with PocketModel.load(directory) as model:
        evidence = model.generate("for i in range(10):").evidence
    assert evidence is not None
    assert evidence.state is not None
    assert json.loads(capsys.readouterr().out)["local"]["evidence"]["state"] == evidence.state.tolist()


def test_several_beams_carry_their_evidence(learned: Path) -> None:
    """The best answer knows its rival, and each hypothesis has a confidence of its own."""
    with PocketModel.load(learned) as model:
        result = model.generate("x = 1", beams=Beams(count=3, answers=3))
    assert result.evidence is not None
    assert result.evidence.rival == pytest.approx(math.fsum(result.hypotheses[1].token_logprobs))
    assert len(result.evidence.gaps) == len(result.tokens)
    assert all(hypothesis.confidence is not None for hypothesis in result.hypotheses)
    assert result.confidence == confidence(result.evidence, learned_scorer(LEARNED))


def test_the_gate_speaks_once_before_the_first_token(learned: Path) -> None:
    """With the probability of its log-odds; what it raises ends the call before anything is decoded."""
    heard: list[float] = []

    class Stop(Exception):
        pass

    def stop(_: float) -> None:
        raise Stop

    with PocketModel.load(learned) as model:
        result = model.generate("x = 1", on_gate=heard.append)
        assert result.evidence is not None
        assert result.evidence.gate is not None
        assert heard == [pytest.approx(1 / (1 + math.exp(-result.evidence.gate)))]
        with pytest.raises(Stop):
            model.generate("x = 1", on_gate=stop)


def test_without_a_gate_nobody_is_called(bundle_directory: Path) -> None:
    """And nothing is looked at that no scorer needs."""
    heard: list[float] = []
    with PocketModel.load(bundle_directory) as model:
        result = model.generate("x = 1", on_gate=heard.append)
    assert heard == []
    assert result.evidence is not None
    assert (result.evidence.entropies, result.evidence.gate) == ((), None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"variant": "0" * 16}, "found one of 0000000000000000: it was made on other files and promises nothing about these"),
        ({"scorer": "oracle"}, r"expected a scorer among .*, found 'oracle'; upgrade pocketseq, or calibrate again"),
        ({"learned": None}, "expected the numbers of its learned scorer, found none"),
        (
            {"learned": numbers("tea_leaves", width=1)},
            r"expected features of the learned scorer among .*, found also \['tea_leaves'\]",
        ),
        ({"scorer": "learned_gain"}, "expected the numbers of its scorer of gain, found none"),
        (
            {"scorer": "learned_gain", "gain": Gain(*(numbers("tea_leaves", width=1),) * 2, weight=0.8, slope=1.0, bias=0.0)},
            "expected a scorer of gain over .*, found one over .*tea_leaves",
        ),
        ({"gate": numbers("pooled:4", width=4)}, "expected a gate over pooled:8 and input_length, found one over pooled:4"),
    ],
)
def test_a_calibration_that_does_not_fit_is_none(bundle_directory: Path, changes: dict[str, Any], problem: str) -> None:
    """Made on other files, or with a scorer that this version does not know: the default scorer is in force, and says why."""
    with PocketModel.load(calibrated(bundle_directory, **changes)) as model:
        assert model.calibration is None
        assert model.calibration_problem is not None
        assert re.search(problem, model.calibration_problem)
        assert model.generate("x = 1").confidence is not None
