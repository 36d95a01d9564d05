"""The bundle that ships inside the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pocketseq.bundle import open_bundle
from pocketseq.confidence import DEFAULT_SCORER, SCORERS, Scoring, confidence
from pocketseq.model import PocketModel
from pocketseq_bench.measuring.inputs import default_inputs

ROUNDING = 0.01
"""Between graphs that norm in other nodes: 8 bits make the last bits of float32 larger."""


@pytest.fixture(scope="module")
def shipped() -> Iterator[PocketModel]:
    with PocketModel.load("python-fix") as model:
        yield model


def test_it_has_a_variant_for_each_runtime_and_a_device_takes_onnx() -> None:
    """What one device runs is at most 12 MB, tokenizer included, and 1.15 bytes a parameter; all of it fits a wheel of 40 MB."""
    with open_bundle("python-fix") as bundle:
        manifest = bundle.manifest
        tokenizer = bundle.path(manifest.tokenizer).stat().st_size
        sizes = {
            variant.label: sum(path.stat().st_size for path in bundle.paths(variant.files).values())
            for variant in manifest.variants
        }
    assert list(sizes) == ["onnx/int8", "tflite/int8", "coreml/int8"]
    assert all(size + tokenizer <= 12e6 for size in sizes.values())
    assert all(size <= 1.15 * manifest.provenance["parameters"] for size in sizes.values())
    assert sum(sizes.values()) + tokenizer <= 30e6


def test_its_runtimes_agree() -> None:
    """ONNX Runtime and LiteRT repair the same line in the same words."""
    for runtime in ("onnx", "tflite"):
        with PocketModel.load("python-fix", runtime=runtime) as model:
            assert model.generate("retrun self.name").text == "return self.name"


def test_it_is_verified_and_calibrated(shipped: PocketModel) -> None:
    """Its generations were compared with the checkpoint's on 200 rows or more, and its threshold serves answers."""
    parity, calibration = shipped.variant.parity, shipped.calibration
    assert parity is not None
    assert parity.inputs >= 200
    assert calibration is not None, shipped.calibration_problem
    assert calibration.feasible
    assert calibration.variant == shipped.variant.hash


@pytest.mark.parametrize(
    ("line", "repaired"),
    [
        ("for i in rnage(10):", "for i in range(10):"),
        ("retrun self.name", "return self.name"),
        ("    def get(self, key)", "    def get(self, key):"),
        ("import os", "import os"),
    ],
)
def test_it_repairs_a_line(shipped: PocketModel, line: str, repaired: str) -> None:
    """Plain slips are repaired, and a line that is right stays."""
    assert shipped.generate(line).text == repaired


def test_the_lines_around_reveal_a_name(shipped: PocketModel) -> None:
    """A name that is spelled right above is put right below."""
    fields = {"before": "def read(path):\n    with open(path) as file:", "line": "        return flie.read()", "after": ""}
    assert shipped.generate(fields).text == "        return file.read()"


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_the_fast_path_says_what_calibration_judged(runtime: str) -> None:
    """Held-out rows: an answer of one call has tokens, log-probabilities and confidence of one step by step, up to rounding."""
    with PocketModel.load("python-fix", runtime=runtime) as model:
        steps = model.scored_by(Scoring(scorer=replace(SCORERS[DEFAULT_SCORER], looks_at_spread=True)))
        for row in default_inputs("python-fix").rows[: 48 if runtime == "onnx" else 16]:
            fast, slow = model.generate(row.fields), steps.generate(row.fields)
            assert (fast.text, fast.tokens, fast.finish_reason) == (slow.text, slow.tokens, slow.finish_reason)
            assert fast.token_logprobs == pytest.approx(slow.token_logprobs, abs=ROUNDING)
            assert fast.evidence is not None
            assert slow.evidence is not None
            for scorer in SCORERS.values():
                if not scorer.looks_at_spread:
                    assert confidence(fast.evidence, scorer) == pytest.approx(confidence(slow.evidence, scorer), abs=ROUNDING)


def test_a_device_suggests_without_a_training_library() -> None:
    """A fresh process that prints a suggestion has imported neither torch nor transformers."""
    program = (
        "import sys; from pocketseq.cli import main; code = main(['suggest', 'for i in rnage(10):'])\n"
        "sys.exit(code or ', '.join({'torch', 'transformers', 'onnx'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "for i in range(10):\n"), done.stderr
