"""Bundles: the same from a folder, a zip or a hub's cache, and never read unverified."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pocketseq.bundle import open_bundle, pack, packaged_bundles, write_manifest
from pocketseq.errors import BundleCorruptError, BundleError, BundleFormatError, BundleNotFoundError


def all_files(source: Path) -> dict[str, bytes]:
    with open_bundle(source) as bundle:
        files = [bundle.manifest.tokenizer, *(file for variant in bundle.manifest.variants for file in variant.files)]
        return {name: path.read_bytes() for name, path in bundle.paths(files).items()}


def test_a_packed_bundle_holds_the_same_files(pristine_bundle: Path, tmp_path: Path) -> None:
    """A directory and its zip are one bundle."""
    pack(pristine_bundle, tmp_path / "tiny.pocketseq")
    assert all_files(tmp_path / "tiny.pocketseq") == all_files(pristine_bundle)


def test_packing_gives_the_same_bytes_every_time(pristine_bundle: Path, tmp_path: Path) -> None:
    """So that a release can be compared by its hash."""
    for name in ("one.pocketseq", "two.pocketseq"):
        pack(pristine_bundle, tmp_path / name)
    assert (tmp_path / "one.pocketseq").read_bytes() == (tmp_path / "two.pocketseq").read_bytes()


def test_only_what_the_manifest_names_is_packed(bundle_directory: Path, tmp_path: Path) -> None:
    """A note left in the folder does not ship."""
    (bundle_directory / "secret.txt").write_text("not for others")
    pack(bundle_directory, tmp_path / "tiny.pocketseq")
    assert "secret.txt" not in zipfile.ZipFile(tmp_path / "tiny.pocketseq").namelist()


def test_a_damaged_bundle_is_not_packed(bundle_directory: Path, tmp_path: Path) -> None:
    """And no half-written file is left behind."""
    (bundle_directory / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleCorruptError, match=r"tokenizer\.json"):
        pack(bundle_directory, tmp_path / "out" / "tiny.pocketseq")
    assert not (tmp_path / "out").exists()


def test_what_was_unpacked_stays_for_those_who_hold_its_paths(pristine_bundle: Path, tmp_path: Path) -> None:
    """And no longer; a closed bundle unpacks nothing more."""
    pack(pristine_bundle, tmp_path / "tiny.pocketseq")
    bundle = open_bundle(tmp_path / "tiny.pocketseq")
    files = bundle.paths([bundle.manifest.tokenizer])
    bundle.close()
    path = files["tokenizer.json"]
    assert path.exists()
    del files
    assert not path.exists()
    with pytest.raises(BundleError, match=r"tiny\.pocketseq: expected an open bundle, found it closed; open it again"):
        bundle.paths(bundle.manifest.variants[0].files)


def test_what_was_unpacked_is_removed_at_close(pristine_bundle: Path, tmp_path: Path) -> None:
    """A bundle in one file leaves nothing behind."""
    pack(pristine_bundle, tmp_path / "tiny.pocketseq")
    with open_bundle(tmp_path / "tiny.pocketseq") as bundle:
        path = bundle.path(bundle.manifest.tokenizer)
        assert path.exists()
    assert not path.exists()


def test_a_truncated_file_is_named_with_both_sizes(bundle_directory: Path) -> None:
    """The commonest damage is told from tampering."""
    weights = bundle_directory / "onnx/fp32/weights.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    message = rf"onnx/fp32/weights\.bin: expected {len(whole)} bytes, found {len(whole) - 1}; .* fetch the bundle again"
    with pytest.raises(BundleCorruptError, match=message):
        all_files(bundle_directory)


def test_a_changed_file_is_named_with_both_hashes(bundle_directory: Path) -> None:
    """One bit is enough."""
    weights = bundle_directory / "onnx/fp32/weights.bin"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleCorruptError, match=r"weights\.bin: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}"):
        all_files(bundle_directory)


def test_a_missing_file_is_named(bundle_directory: Path) -> None:
    """An incomplete bundle does not get as far as a runtime."""
    (bundle_directory / "onnx/fp32/step.onnx").unlink()
    with pytest.raises(BundleCorruptError, match=r"expected the file 'onnx/fp32/step\.onnx', found none"):
        all_files(bundle_directory)


def test_a_truncated_zip_is_refused(pristine_bundle: Path, tmp_path: Path) -> None:
    """A download that broke off has no table of contents."""
    pack(pristine_bundle, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "half.pocketseq").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleCorruptError, match=r"half\.pocketseq: expected a zip archive, found .* truncated"):
        open_bundle(tmp_path / "half.pocketseq")


def test_a_zip_with_a_damaged_table_of_contents_is_refused_or_the_same(pristine_bundle: Path, tmp_path: Path) -> None:
    """Whichever byte of its last entry or of its end was changed, and whatever zipfile makes of that."""
    pack(pristine_bundle, tmp_path / "tiny.pocketseq")
    whole, expected = (tmp_path / "tiny.pocketseq").read_bytes(), all_files(pristine_bundle)
    refused = 0
    for place in range(whole.rindex(b"PK\x01\x02"), len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "damaged.pocketseq").write_bytes(damaged)
        try:
            assert all_files(tmp_path / "damaged.pocketseq") == expected
        except BundleCorruptError:
            refused += 1
    assert refused > 50


def test_a_zip_with_damaged_content_is_refused(pristine_bundle: Path, tmp_path: Path) -> None:
    """The archive's own checksum or ours finds it."""
    pack(pristine_bundle, tmp_path / "tiny.pocketseq")
    content = bytearray((tmp_path / "tiny.pocketseq").read_bytes())
    with zipfile.ZipFile(tmp_path / "tiny.pocketseq") as archive:
        content[archive.getinfo("onnx/half/weights.bin").header_offset + 200] ^= 1
    (tmp_path / "tiny.pocketseq").write_bytes(content)
    with pytest.raises(BundleCorruptError, match=r"onnx/half/weights\.bin"):
        all_files(tmp_path / "tiny.pocketseq")


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "onnx/../../outside.txt"])
def test_a_zip_with_a_path_out_of_its_folder_is_refused(pristine_bundle: Path, tmp_path: Path, name: str) -> None:
    """Nothing is unpacked from it at all."""
    pack(pristine_bundle, tmp_path / "tiny.pocketseq")
    with zipfile.ZipFile(tmp_path / "tiny.pocketseq", "a") as archive:
        archive.writestr(name, "gotcha")
    with pytest.raises(BundleCorruptError, match="expected paths inside the archive's folder, found"):
        open_bundle(tmp_path / "tiny.pocketseq")


def test_a_zip_that_unpacks_to_more_than_its_manifest_says_is_refused(pristine_bundle: Path, tmp_path: Path) -> None:
    """Before it fills the disk."""
    with zipfile.ZipFile(tmp_path / "bomb.pocketseq", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(pristine_bundle / "manifest.json", "manifest.json")
        archive.writestr("tokenizer.json", bytes(1 << 20))
    with (
        open_bundle(tmp_path / "bomb.pocketseq") as bundle,
        pytest.raises(BundleCorruptError, match=r"tokenizer\.json: expected \d+ bytes at most, found 1048576 when unpacked"),
    ):
        bundle.path(bundle.manifest.tokenizer)


def test_a_manifest_of_many_megabytes_is_refused(bundle_directory: Path) -> None:
    """It is no manifest, and is not even read."""
    with (bundle_directory / "manifest.json").open("r+b") as file:
        file.truncate(17 << 20)
    with pytest.raises(BundleFormatError, match="expected a manifest of a few kB, found 17825792 bytes"):
        open_bundle(bundle_directory)


def test_a_manifest_that_is_no_json_is_refused(bundle_directory: Path) -> None:
    """A truncated manifest is one."""
    manifest = bundle_directory / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    with pytest.raises(BundleFormatError, match=r"manifest\.json: expected JSON, found"):
        open_bundle(bundle_directory)


def test_a_newer_bundle_is_refused_by_its_format(bundle_directory: Path) -> None:
    """With the file, what was expected, what was found, and the remedy."""
    manifest = bundle_directory / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(BundleFormatError, match=r"manifest\.json: expected format 1 or older, found 99; .* pip install --upgrade"):
        open_bundle(bundle_directory)


def test_nothing_there_is_told_with_what_can_be_given(tmp_path: Path) -> None:
    """Forms of a source, and the packaged names."""
    with pytest.raises(BundleNotFoundError, match=r"expected a bundle at 'no-such', found nothing; give a path, hf://org/name"):
        open_bundle("no-such")


def test_a_name_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    """In a message of bounded length."""
    with pytest.raises(BundleNotFoundError, match=r"expected a bundle at 'x{100,200}, found File name too long; give a path"):
        open_bundle("x" * 5000)


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    """An empty folder is told from a damaged bundle."""
    with pytest.raises(BundleNotFoundError, match=r"expected a bundle with a manifest\.json"):
        open_bundle(tmp_path)


def test_every_packaged_bundle_is_whole() -> None:
    """What ships inside the package verifies."""
    for name in packaged_bundles():
        with open_bundle(name) as bundle:
            bundle.paths([bundle.manifest.tokenizer, *(file for variant in bundle.manifest.variants for file in variant.files)])


def test_a_bundle_of_the_hub_is_read_from_its_cache(pristine_bundle: Path, tmp_path: Path) -> None:
    """Without a network, what was fetched before still loads, at the revision that the manifest came from."""
    repository = tmp_path / "hub" / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("a" * 40)).symlink_to(pristine_bundle, target_is_directory=True)
    done = _in_hub_process(
        tmp_path, "from pocketseq import PocketModel; print(PocketModel.load('hf://org/tiny').generate('for').text)"
    )
    assert done.returncode == 0, done.stderr


def test_a_hub_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    """The message names the repository and the reason."""
    done = _in_hub_process(tmp_path, "from pocketseq import open_bundle; open_bundle('hf://org/other@v1')")
    assert "BundleNotFoundError: hf://org/other: expected the file 'manifest.json' of a bundle, found" in done.stderr


def _in_hub_process(home: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@contextmanager
def full_disk() -> Iterator[None]:
    """A system that lets no file grow beyond 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_manifest_that_cannot_be_written_is_a_typed_error(bundle_directory: Path) -> None:
    """And the one that was there stays."""
    with open_bundle(bundle_directory) as bundle:
        manifest = bundle.manifest
    before = all_files(bundle_directory)
    message = r"manifest.json: expected a place that can be written, found: .*File too large"
    with full_disk(), pytest.raises(BundleError, match=message):
        write_manifest(bundle_directory, manifest)
    assert all_files(bundle_directory) == before


def test_a_disk_without_room_is_a_typed_error(pristine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a bundle is packed and where it is unpacked; nothing half-written is left."""
    file = tmp_path / "tiny.pocketseq"
    with full_disk(), pytest.raises(BundleError, match="tiny.pocketseq: expected a place that can be written, found: .*large"):
        pack(pristine_bundle, file)
    assert list(tmp_path.iterdir()) == []
    pack(pristine_bundle, file)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with full_disk(), pytest.raises(BundleError, match=r"manifest.json: expected room for \d+ bytes in .*, found: .* too large"):
        open_bundle(file)
    with open_bundle(file) as bundle:
        tokenizer = bundle.manifest.tokenizer
        with full_disk(), pytest.raises(BundleError, match=r"tokenizer.json: expected room for \d+ bytes in .*; make room"):
            bundle.path(tokenizer)
        assert bundle.path(tokenizer).stat().st_size == tokenizer.size_bytes
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
        with pytest.raises(BundleError, match="expected a file that can be read, and a place to unpack it, found: .*nowhere"):
            open_bundle(file)


def test_a_manifest_that_cannot_be_read_is_a_typed_error(bundle_directory: Path) -> None:
    """As on a disk that fails; here one that is a process's own memory, whose first byte nobody may read."""
    (bundle_directory / "manifest.json").unlink()
    (bundle_directory / "manifest.json").symlink_to("/proc/self/mem")
    with pytest.raises(BundleError, match=r"manifest.json: expected a file that can be read, found: Input/output error"):
        open_bundle(bundle_directory)
