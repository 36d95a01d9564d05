"""The page of a calibration: one file that says what is promised, how sure that is, and what it costs."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pocketseq.calibration import Calibrated, Judged, Loss, Promise, calibrate_answers
from pocketseq.calibration.measures import resamplings
from pocketseq.calibration.plots import risk_band
from pocketseq.calibration.report import calibration_page, measure
from pocketseq.confidence import LEARNED, Evidence


def answers(rows: int) -> list[Judged]:
    """Answers with all that a learned scorer may look at; the last token's probability tells right from wrong."""
    rng = np.random.default_rng(1)
    found = []
    for number in range(rows):
        sure = float(rng.uniform(0.05, 1))
        evidence = Evidence(
            (float(np.log(sure)), -0.01), tokens=(4, 1), entropies=(1 - sure, 0.1), gaps=(5 * sure, 4.0), source=(4, 4, 5)
        )
        state = rng.normal(0, 1, 3).astype(np.float32)
        found.append(Judged(str(number), float(rng.uniform() > sure), evidence, state, latency_ms=2.0))
    return found


@pytest.fixture(scope="module")
def found() -> Calibrated:
    """A calibration with a learned scorer among those compared."""
    return calibrate_answers(answers(700), Promise(risk=0.4), variant="v" * 16, data="d" * 16)


class Balanced(HTMLParser):
    """Counts tags that were opened and not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_says_what_was_found(found: Calibrated) -> None:
    """The promise in its headline, every scorer with its measures, the parts, and nothing from elsewhere."""
    page = calibration_page(found, title="tiny <onnx/int8>", cloud_ms=350, cloud_price=0.4)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert (
        f"{found.calibration.coverage:.1%} of suggestions can be served locally: of the answers served locally at most 40%" in page
    )
    assert "tiny &lt;onnx/int8&gt;" in page
    assert all(f"</span>{name}</td>" in page for name in found.scorers)
    assert page.count("<svg") == 3
    assert "420 fitted and chose, 280 tested" in page
    assert "before the first token it separates right from wrong with AUROC" in page
    assert not re.search(r"https?://|<script|@import", page)
    assert "prefers-color-scheme: dark" in page


def test_costs_follow_from_the_threshold(found: Calibrated) -> None:
    """Two milliseconds here, 350 there, and a price for each that is handed over."""
    page = calibration_page(found, title="t", cloud_ms=350, cloud_price=0.4)
    deferred = 1 - found.calibration.coverage
    assert f"<td>served locally, of 1,000</td><td>{1000 * found.calibration.coverage:.0f} <small>" in page
    assert "<td>local answer, p50 and p95</td><td>2.0 ms, 2.0 ms</td>" in page
    assert f"{2 + 350 * deferred:.0f} ms, 350 ms" in page
    assert f"{deferred * 0.4:.4g}, 0.4" in page
    assert "were the cloud asked always" not in calibration_page(found, title="t")


def test_a_refused_risk_has_a_page_too(found: Calibrated) -> None:
    """It names the smallest risk that can be shown, and draws no promise that is kept."""
    refused = calibrate_answers(answers(700), Promise(risk=0.001), variant="v", data="d")
    page = calibration_page(refused, title="t")
    assert "No threshold keeps the promise that of the answers served locally at most 0.1% are wrong" in page
    assert f"The smallest risk that these rows can show is {refused.smallest_risk:.1%}" in page


def test_losses_by_degrees_have_no_auroc() -> None:
    """The rest is drawn all the same."""
    graded = [replace(answer, loss=answer.loss / 2) for answer in answers(600)]
    graded_found = calibrate_answers(graded, Promise(loss=Loss("chrf"), risk=0.3), variant="v", data="d")
    assert measure(graded_found, "chow_sum", resamplings(len(graded_found.tested), seed=0)).auroc is None
    assert "the mean loss (by chrf) is at most 30%" in calibration_page(graded_found, title="t")


def test_measures_are_those_of_the_rows_that_tested(found: Calibrated) -> None:
    """A learned confidence is close to the truth here, and its intervals hold its values."""
    one = measure(found, LEARNED, resamplings(len(found.tested), seed=0))
    assert one.auroc is not None
    assert one.auroc.low < one.auroc.value < one.auroc.high
    assert one.gain.low < one.gain.value < one.gain.high
    assert one.reliability.ece < 0.2
    assert one.excess_aurc > 0


def test_the_band_lies_around_the_curve() -> None:
    """And is narrow where many answers are served."""
    rng = np.random.default_rng(3)
    confidences = rng.uniform(size=400)
    losses = (rng.uniform(size=400) > confidences).astype(float)
    band = risk_band(confidences, losses, resamplings(400, seed=0))
    assert band.coverage[-1] == 1.0
    assert band.low[-1] < losses.mean() < band.high[-1]
    assert band.high[-1] - band.low[-1] < 0.12
