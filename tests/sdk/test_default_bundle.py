"""The bundle that ships inside the package, and the whole of it, which a checkout has beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pocketseq import Beams
from pocketseq.bundle import open_bundle
from pocketseq.cli import main
from pocketseq.confidence import DEFAULT_SCORER, SCORERS, Scoring, confidence
from pocketseq.errors import VariantNotFoundError
from pocketseq.model import PocketModel
from pocketseq_bench.measuring.inputs import default_inputs

ROOT = Path(__file__).parents[2]
PACKAGED, WHOLE = ROOT / "sdk/pocketseq/bundles/python-fix", ROOT / "export/pocketseq_export/bundles/python-fix"
ROUNDING = 0.01
"""Between graphs that norm in other nodes: 8 bits make the last bits of float32 larger."""


@pytest.fixture(scope="module")
def shipped() -> Iterator[PocketModel]:
    with PocketModel.load("python-fix") as model:
        yield model


def test_it_holds_what_every_device_runs_in_12_mb() -> None:
    """The variant that needs nothing beside the base install, tokenizer and manifest included, and nothing that no device reads."""
    with open_bundle("python-fix") as bundle:
        assert [variant.label for variant in bundle.manifest.variants] == ["onnx/int8"]
        named = {file.path for file in (bundle.manifest.tokenizer, *bundle.manifest.variants[0].files)}
    sizes = contents(PACKAGED)
    assert set(sizes) == {"manifest.json", *named}
    assert sum(map(len, sizes.values())) <= 12e6


def test_it_is_what_pack_takes_from_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command of CONTRIBUTING.md, byte for byte: hashes, calibration and provenance are those of the whole."""
    assert main(["pack", str(WHOLE), "-o", str(tmp_path / "python-fix"), "--variant", "onnx/int8"]) == 0
    assert contents(tmp_path / "python-fix") == contents(PACKAGED)
    capsys.readouterr()


def test_the_whole_has_a_variant_for_each_runtime() -> None:
    """Each is at most 12 MB, tokenizer included, and 1.15 bytes a parameter."""
    with open_bundle(WHOLE) as bundle:
        manifest = bundle.manifest
        tokenizer = bundle.path(manifest.tokenizer).stat().st_size
        sizes = {
            variant.label: sum(path.stat().st_size for path in bundle.paths(variant.files).values())
            for variant in manifest.variants
        }
    assert list(sizes) == ["onnx/int8", "tflite/int8", "coreml/int8"]
    assert all(size + tokenizer <= 12e6 for size in sizes.values())
    assert all(size <= 1.15 * manifest.provenance["parameters"] for size in sizes.values())


def test_who_asks_for_another_runtime_is_told_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message ends in the command that packs it, and that command gives a bundle which holds it."""
    remedy = "pocketseq pack export/pocketseq_export/bundles/python-fix -o python-fix.pocketseq"
    with pytest.raises(VariantNotFoundError, match=f"expected a variant tflite, found onnx/int8; .*: {remedy}$"):
        PocketModel.load("python-fix", runtime="tflite")
    assert main(["pack", "python-fix", "-o", str(tmp_path / "no"), "--variant", "tflite/int8"]) == 2
    assert capsys.readouterr().err.rstrip().endswith(remedy)
    with pytest.raises(VariantNotFoundError, match="or export the missing one$"):
        PocketModel.load(PACKAGED, runtime="tflite")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "export").symlink_to(ROOT / "export")
    assert main(remedy.split()[1:]) == 0
    with PocketModel.load(tmp_path / "python-fix.pocketseq", runtime="tflite") as model:
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
    with PocketModel.load(WHOLE, runtime=runtime) as model:
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


def test_a_search_of_one_call_tells_the_spread_that_one_by_steps_tells(shipped: PocketModel) -> None:
    """Held-out rows, two answers to each: with a deadline, which could end it, the same is searched step by step."""
    model = shipped.scored_by(Scoring(scorer=SCORERS["entropy"]))
    beams = Beams(3, answers=2)
    for row in default_inputs("python-fix").rows[:8]:
        fast, slow = model.generate(row.fields, beams=beams), model.generate(row.fields, beams=beams, deadline_s=600)
        assert [found.tokens for found in fast.hypotheses] == [found.tokens for found in slow.hypotheses]
        assert fast.evidence is not None
        assert slow.evidence is not None
        assert len(fast.evidence.entropies) == len(fast.tokens)
        assert fast.evidence.entropies == pytest.approx(slow.evidence.entropies, abs=ROUNDING)
        assert fast.evidence.gaps == pytest.approx(slow.evidence.gaps, rel=ROUNDING, abs=ROUNDING)
        assert fast.confidence == pytest.approx(slow.confidence, abs=ROUNDING)


def test_a_device_suggests_without_a_training_library() -> None:
    """A fresh process that prints a suggestion has imported neither torch nor transformers."""
    program = (
        "import sys; from pocketseq.cli import main; code = main(['suggest', 'for i in rnage(10):'])\n"
        "sys.exit(code or ', '.join({'torch', 'transformers', 'onnx'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "for i in range(10):\n"), done.stderr


def contents(bundle: Path) -> dict[str, bytes]:
    """Every file of a bundle directory, by its path in it."""
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
