"""Packing: fewer variants, the same bytes, nothing half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketseq.bundle import open_bundle
from pocketseq.cli import main
from pocketseq.errors import BundleCorruptError, BundleError, VariantNotFoundError
from pocketseq.model import PocketModel
from pocketseq.packing import pack_variants

LINE = "for i in rnage(10)"


@pytest.mark.parametrize("name", ["small", "small.pocketseq"])
def test_a_packed_variant_answers_as_before(pristine_bundle: Path, tmp_path: Path, name: str) -> None:
    """A directory or a file with one variant keeps its hash, and so its calibration, and its answers."""
    with open_bundle(pristine_bundle) as bundle:
        *_, last = bundle.manifest.variants
    written = pack_variants(pristine_bundle, tmp_path / name, labels=[last.label])
    assert [variant.hash for variant in written.variants] == [last.hash]
    with PocketModel.load(tmp_path / name) as packed, PocketModel.load(pristine_bundle, precision=last.precision) as whole:
        assert packed.generate(LINE).tokens == whole.generate(LINE).tokens


def test_files_of_other_variants_stay_behind(pristine_bundle: Path, tmp_path: Path) -> None:
    """Only what the new manifest names is copied."""
    written = pack_variants(pristine_bundle, tmp_path / "small", labels=["onnx/fp32"])
    files = {path.relative_to(tmp_path / "small").as_posix() for path in (tmp_path / "small").rglob("*") if path.is_file()}
    named = {file.path for variant in written.variants for file in variant.files}
    assert files == {"manifest.json", "tokenizer.json", *named}


def test_a_variant_that_is_not_there_is_refused(pristine_bundle: Path, tmp_path: Path) -> None:
    """The message names those that are; nothing is written."""
    with pytest.raises(VariantNotFoundError, match=r"expected the variants \['onnx/int3'\], found only \['onnx/fp32'"):
        pack_variants(pristine_bundle, tmp_path / "small", labels=["onnx/int3"])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_left_alone(pristine_bundle: Path, tmp_path: Path) -> None:
    """Packing never merges into what is there."""
    with pytest.raises(BundleError, match="expected a directory that is not there yet"):
        pack_variants(pristine_bundle, tmp_path)


def test_a_damaged_bundle_is_not_packed(bundle_directory: Path, tmp_path: Path) -> None:
    """Every file is verified before it is copied, and the half-made directory goes."""
    (bundle_directory / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleCorruptError):
        pack_variants(bundle_directory, tmp_path / "out" / "small")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_says_what_it_wrote(pristine_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the variants."""
    assert main(["pack", str(pristine_bundle), "-o", str(tmp_path / "a.pocketseq"), "--variant", "onnx/fp32"]) == 0
    assert capsys.readouterr().out.endswith("with onnx/fp32\n")
