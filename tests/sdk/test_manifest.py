"""The manifest: strict, versioned, and with paths that stay inside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pocketseq.bundle import open_bundle
from pocketseq.errors import BundleCorruptError, BundleFormatError, VariantNotFoundError
from pocketseq.manifest import SERVES_NOTHING, BundleFile, Manifest, Parity

from .tiny import calibration


@pytest.fixture(scope="session")
def manifest(pristine_bundle: Path) -> Manifest:
    with open_bundle(pristine_bundle) as bundle:
        return bundle.manifest


def test_a_manifest_survives_the_way_to_json_and_back(manifest: Manifest) -> None:
    """Writing loses nothing, calibration and parity included."""
    parity = Parity(inputs=200, identical_generations=0.995, max_abs_logit_difference=1e-4)
    variant = replace(manifest.variants[0], quality={"exact_match": 0.7}, parity=parity, calibration=calibration())
    full = manifest.replacing(variant)
    assert Manifest.from_json(json.loads(json.dumps(full.to_json()))) == full


def test_the_format_comes_first(manifest: Manifest) -> None:
    """Whoever reads the file by eye sees the format at once."""
    assert next(iter(manifest.to_json())) == "format"


@pytest.mark.parametrize("value", [{}, [], "text", {"format": "1"}, {"format": 0}, {"format": True}])
def test_what_is_no_manifest_is_refused(value: object) -> None:
    """Some JSON is not yet a bundle."""
    with pytest.raises(BundleFormatError, match='expected a manifest with "format": 1'):
        Manifest.from_json(value)


def test_a_newer_format_asks_for_an_upgrade(manifest: Manifest) -> None:
    """Whatever else a newer manifest holds, the message says what to do."""
    with pytest.raises(BundleFormatError, match="expected format 1 or older, found 2; .* pip install --upgrade"):
        Manifest.from_json({"format": 2, "unheard": "of"})


def test_a_damaged_template_is_an_error_of_the_manifest(manifest: Manifest) -> None:
    """The template's own rules hold inside a manifest."""
    values = manifest.to_json()
    values["template"]["primary"] = "nowhere"
    with pytest.raises(BundleFormatError, match="primary field 'nowhere' is none of its fields"):
        Manifest.from_json(values)


@pytest.mark.parametrize("path", ["../weights.bin", "/etc/passwd", "a/../../b", "C:/x", "a\\b", "", "a\0b", "."])
def test_a_path_out_of_the_folder_is_refused(manifest: Manifest, path: str) -> None:
    """A manifest cannot make the SDK read anything but the bundle."""
    values = manifest.to_json()
    values["variants"][0]["files"][0]["path"] = path
    with pytest.raises(BundleCorruptError, match="expected a path inside the bundle's folder"):
        Manifest.from_json(values)


def test_a_bundle_that_may_say_nothing_is_refused(manifest: Manifest) -> None:
    """Every answer has at least its end token."""
    values = manifest.to_json()
    values["generation"]["max_new_tokens"] = 0
    with pytest.raises(BundleFormatError, match="max_new_tokens: expected at least 1, found 0"):
        Manifest.from_json(values)


@pytest.mark.parametrize(("name", "value"), [("risk", 0), ("risk", 1), ("delta", 0), ("delta", -0.1), ("threshold", -5)])
def test_a_calibration_that_promises_nothing_is_refused(manifest: Manifest, name: str, value: float) -> None:
    """No risk, no doubt or a threshold that all reach: no calibration gives these."""
    values = manifest.replacing(replace(manifest.variants[0], calibration=calibration())).to_json()
    values["variants"][0]["calibration"][name] = value
    with pytest.raises(
        BundleFormatError, match=r"expected a risk and a delta between 0 and 1 and a threshold of at least 0, found"
    ):
        Manifest.from_json(values)


def test_a_feature_without_a_count_is_refused(manifest: Manifest) -> None:
    """How many numbers it stands for is a number."""
    values = manifest.replacing(replace(manifest.variants[0], calibration=calibration())).to_json()
    gate = {"features": ["pooled:wide"], "mean": [0.0], "scale": [1.0], "weights": [0.0], "bias": 0.0}
    values["variants"][0]["calibration"]["gate"] = gate
    with pytest.raises(BundleFormatError, match=r"expected features with a number behind a colon, .*, found \['pooled:wide'\]"):
        Manifest.from_json(values)


def test_the_same_variant_twice_is_refused(manifest: Manifest) -> None:
    """Which one would be meant?"""
    with pytest.raises(BundleFormatError, match="expected each runtime and precision once"):
        replace(manifest, variants=(manifest.variants[0],) * 2)


def test_the_first_variant_that_fits_is_found(manifest: Manifest) -> None:
    """The manifest's order is its preference."""
    assert manifest.variant() is manifest.variants[0]
    assert manifest.variant(precision="half") is manifest.variants[1]
    assert manifest.variant(runtime="onnx", precision="fp32") is manifest.variants[0]


def test_a_missing_variant_is_told_with_those_that_there_are(manifest: Manifest) -> None:
    """The reader can choose from the message."""
    with pytest.raises(VariantNotFoundError, match=r"expected a variant int4, found onnx/fp32, onnx/half"):
        manifest.variant(precision="int4")


def test_the_hash_of_a_variant_follows_its_files(manifest: Manifest) -> None:
    """The order of files does not matter, their content does, and so does nothing else of the variant."""
    variant = manifest.variants[0]
    other = (replace(variant.files[0], sha256="f" * 64), *variant.files[1:])
    assert replace(variant, files=variant.files[::-1]).hash == variant.hash
    assert replace(variant, quality={"exact_match": 1.0}, calibration=calibration()).hash == variant.hash
    assert replace(variant, files=other).hash != variant.hash


def test_a_file_is_described_by_its_content(tmp_path: Path) -> None:
    """Size and the SHA-256 that everybody else computes."""
    (tmp_path / "a.txt").write_bytes(b"abc")
    described = BundleFile.describe(tmp_path, "a.txt")
    assert described.size_bytes == 3
    assert described.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_calibration_that_found_nothing_says_so() -> None:
    """No confidence, not even 1, reaches its threshold."""
    assert calibration().feasible
    assert not calibration(threshold=SERVES_NOTHING).feasible
    assert SERVES_NOTHING > 1
