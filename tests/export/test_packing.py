"""From a checkpoint to a bundle that the SDK loads."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.export.models import bart, t5, write_checkpoint

from pocketseq.bundle import open_bundle
from pocketseq.errors import BundleError, CheckpointError, MissingExtraError
from pocketseq.manifest import Manifest
from pocketseq.template import Field, Template
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export import export_checkpoint, exporters, packing
from pocketseq_export.exporters import exporter, wanted_variants
from pocketseq_export.packing import remove_variant, replacing


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A T5 of noise that reads and writes single characters."""
    return write_checkpoint(tmp_path / "checkpoint", t5())


def test_the_manifest_says_what_the_checkpoint_is(checkpoint: Path, tmp_path: Path) -> None:
    """And what is read back is what was returned; the smallest variant comes first."""
    written = export_checkpoint(checkpoint, tmp_path / "noise")
    with open_bundle(tmp_path / "noise") as bundle:
        assert bundle.manifest.to_json() == written.to_json()
    assert (written.name, written.task, written.license) == ("noise", "noise", "CC0-1.0")
    assert [variant.precision for variant in written.variants] == ["int8", "fp32"]
    assert written.generation.max_new_tokens == 12
    geometry = written.geometry
    assert (geometry.heads, geometry.head_dim, geometry.start_id, geometry.end_id, geometry.pad_id) == (4, 8, 0, 1, 0)
    assert written.provenance["architecture"] == "t5"
    assert written.provenance["parameters"] == 40896


def test_a_bundle_is_replaced_by_a_whole_one_only(checkpoint: Path, tmp_path: Path) -> None:
    """An export that fails leaves the bundle before it as it was, and nothing beside it."""
    before = export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["int8"])
    (checkpoint / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="expected a tokenizer.json of the tokenizers library"):
        export_checkpoint(checkpoint, tmp_path / "bundle")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]
    with open_bundle(tmp_path / "bundle") as bundle:
        assert bundle.manifest.variants == before.variants


def test_a_full_disk_is_a_typed_error(checkpoint: Path, tmp_path: Path) -> None:
    """And leaves nothing. Here the system lets no file grow beyond 50 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(BundleError, match=r"bundle: expected a place that can be written, found: .*File too large"):
            export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_an_interrupted_export_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was there before is there still."""
    before = export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["int8"])

    def interrupt(directory: Path, manifest: Manifest) -> None:
        assert (directory / "onnx" / "fp32" / "weights.bin").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "write_manifest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]
    with open_bundle(tmp_path / "bundle") as bundle:
        assert bundle.manifest.variants == before.variants


def test_what_killed_exports_left_is_put_right(checkpoint: Path, tmp_path: Path) -> None:
    """Halves of dead processes go, those of live ones stay, and a bundle that was set aside comes back first."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    kept = export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["int8"])
    (tmp_path / "bundle").rename(tmp_path / f".bundle.{ended.pid}.old")
    for pid in (ended.pid, os.getppid()):
        (tmp_path / f".bundle.{pid}.part").mkdir()
    with packing.replacing(tmp_path / "bundle"):
        with open_bundle(tmp_path / "bundle") as bundle:
            assert bundle.manifest.variants == kept.variants
        assert f".bundle.{ended.pid}.part" not in [path.name for path in tmp_path.iterdir()]
    assert (tmp_path / f".bundle.{os.getppid()}.part").exists()


def test_only_a_bundle_is_replaced(checkpoint: Path, tmp_path: Path) -> None:
    """A directory of something else stays as it is."""
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cat.png").write_bytes(b"cat")
    with pytest.raises(BundleError, match="photographs: expected no such path, or a bundle to replace"):
        export_checkpoint(checkpoint, tmp_path / "photographs")
    assert (tmp_path / "photographs" / "cat.png").exists()


@pytest.mark.parametrize("name", ["made", "{}/made"])
def test_a_working_directory_that_is_gone_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the bundle's path begins there."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    bundle = Path(name.format(tmp_path))
    with pytest.raises(BundleError, match="made: expected to run in a directory, found that it was removed"), replacing(bundle):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".", "..", "../empty"])
def test_the_working_directory_is_not_replaced(
    name: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stands in it would stand in a directory that is gone, and see nothing of the bundle."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(BundleError, match="found one that this command runs in; name another, or run it from outside"):
        export_checkpoint(checkpoint, Path(name))
    assert export_checkpoint(checkpoint, Path("../empty/./made"), precisions=["int8"]).name == "made"
    assert [path.name for path in tmp_path.rglob("manifest.json")] == ["manifest.json"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"precisions": ["int3"]}, r"expected precisions that onnx can hold \(fp32, fp16, int8, int8w, int4\), found int3"),
        ({"precisions": []}, "expected at least one precision, found none"),
        ({"precisions": ["int8", "tflite/int8"]}, "expected precisions of onnx, found tflite/int8; name their runtime too"),
        ({"runtimes": ["onnx", "abacus"]}, "expected each runtime to be one of onnx.*, found abacus"),
    ],
)
def test_unknown_runtimes_and_precisions_are_refused(
    asked: dict[str, list[str]], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    """By name, with those that there are."""
    with pytest.raises(BundleError, match=message):
        export_checkpoint(checkpoint, tmp_path / "bundle", **asked)


def test_a_missing_extra_ends_in_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each runtime has an extra of its own."""
    monkeypatch.setattr(exporters, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
    with pytest.raises(MissingExtraError, match=r'\'onnx\', which is not installed; .*pip install "pocketseq\[onnx\]"$'):
        exporter("onnx")


def test_a_precision_can_be_asked_of_one_runtime() -> None:
    """And one that is asked twice is written once."""
    assert wanted_variants(["onnx"], ["int8", "onnx/fp32", "onnx/int8"]) == ("onnx/int8", "onnx/fp32")


def test_removing_a_variant_removes_its_own_files(checkpoint: Path, tmp_path: Path) -> None:
    """What lies beside them stays, and no empty folder is left."""
    written = export_checkpoint(checkpoint, tmp_path / "bundle")
    (tmp_path / "bundle" / "onnx" / "fp32" / "notes.txt").write_text("mine")
    for variant in written.variants:
        remove_variant(tmp_path / "bundle", variant)
    assert sorted(path.name for path in (tmp_path / "bundle").rglob("*")) == [
        "fp32", "manifest.json", "notes.txt", "onnx", "tokenizer.json",
    ]  # fmt: skip


def test_an_unsupported_architecture_is_refused_before_its_weights_are_read(checkpoint: Path, tmp_path: Path) -> None:
    """By name, with the list of those supported."""
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"model_type": "led"}))
    with pytest.raises(CheckpointError, match="among bart, m2m_100, marian, mbart, mt5, pegasus, t5, found 'led'"):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_damaged_weights_are_a_checkpoint_error(checkpoint: Path, tmp_path: Path) -> None:
    """Not whatever the reader of the weights raises."""
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="expected a checkpoint that transformers loads"):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_a_tokenizer_that_is_missing_is_named(checkpoint: Path, tmp_path: Path) -> None:
    """With what to put beside the configuration."""
    (checkpoint / "tokenizer.json").unlink()
    message = r"expected tokenizer\.json, .* found neither \(no vocabulary\); put a tokenizer\.json of the same vocabulary"
    with pytest.raises(CheckpointError, match=message):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_a_vocabulary_is_converted(checkpoint: Path, tmp_path: Path) -> None:
    """Byte-pair files as GPT-2, RoBERTa and CodeT5 have them become the one file that a device reads."""
    (checkpoint / "tokenizer.json").unlink()
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "l", "o", "w", "\u0120", "lo", "low"]
    (checkpoint / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (checkpoint / "merges.txt").write_text("#version: 0.2\nl o\nlo w\n")
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"])
    assert TextTokenizer.from_file(tmp_path / "bundle" / "tokenizer.json").text_ids("low lo") == [10, 8, 9]


def test_several_end_tokens_are_refused(tmp_path: Path) -> None:
    """A bundle has one, and would go on after any of the others."""
    model = t5()
    model.generation_config.eos_token_id = [1, 44]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", model)
    with pytest.raises(
        CheckpointError, match=r"expected one eos_token_id in .*generation_config\.json, found 1, 44; .* leave there"
    ):
        export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"])
    model.generation_config.eos_token_id = [1]
    write_checkpoint(checkpoint, model)
    assert export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"]).geometry.end_id == 1


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    """Its last tokens would have no row in the table."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", t5(vocab_size=64))
    with pytest.raises(CheckpointError, match="at most 64 tokens, as many as the model has, found 80"):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_a_template_longer_than_the_positions_is_refused(tmp_path: Path) -> None:
    """Learned positions end somewhere: 40 of them here."""
    template = Template(fields=(Field("text", max_tokens=40),), primary="text")
    checkpoint = write_checkpoint(tmp_path / "checkpoint", bart(), template=template)
    with pytest.raises(CheckpointError, match="at most 40 tokens, as many as the model has positions, found 41"):
        export_checkpoint(checkpoint, tmp_path / "bundle")
