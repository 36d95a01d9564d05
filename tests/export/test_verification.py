"""Variants are judged by what they say, and only those that hold stay in the bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.coreml.mac import pretend_mac
from tests.export.models import m2m100, marian, t5, write_checkpoint

from pocketseq.bundle import open_bundle, pack, write_manifest
from pocketseq.cli import main
from pocketseq.errors import BundleCorruptError, BundleError, DataError
from pocketseq.examples import Example, write_examples
from pocketseq.manifest import BundleFile, Manifest
from pocketseq.runtimes import opening
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export import Limits, export_checkpoint, verify_bundle
from pocketseq_export.graphs import author
from pocketseq_export.parity import ask_checkpoint
from pocketseq_export.reference import Reference
from pocketseq_export.sensitivity import ROUNDINGS, Teaching, rank_layers
from pocketseq_export.verification import check_files

WORDS = ["for", "while", "return x", "def", "a == b", "print", "Zebra", "x1", "lambda: 0", "import os", "try", "else 9"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A T5 of noise."""
    return write_checkpoint(tmp_path / "checkpoint", t5())


@pytest.fixture
def bundle(checkpoint: Path, tmp_path: Path) -> Path:
    """Its export in both precisions."""
    export_checkpoint(checkpoint, tmp_path / "bundle")
    return tmp_path / "bundle"


def rows(checkpoint: Path) -> list[Example]:
    """Rows to which the checkpoint's own answer is the right one, so that it is as good as a model can be."""
    tokenizer = TextTokenizer.from_file(checkpoint / "tokenizer.json")
    questions = ask_checkpoint(Reference.load(checkpoint), tokenizer, [{"text": word} for word in WORDS])
    return [Example(id=word, fields={"text": word}, target=found.text) for word, found in zip(WORDS, questions, strict=True)]


def first_said(checkpoint: Path) -> int:
    """The first token of the checkpoint's answer to the first of the rows."""
    tokenizer = TextTokenizer.from_file(checkpoint / "tokenizer.json")
    return ask_checkpoint(Reference.load(checkpoint), tokenizer, [{"text": WORDS[0]}])[0].tokens[0]


def manifest_of(bundle: Path) -> Manifest:
    with open_bundle(bundle) as opened:
        return opened.manifest


def make_strange(bundle: Path, tmp_path: Path) -> None:
    """Put the int8 programs of another model into a bundle."""
    other = write_checkpoint(tmp_path / "other", t5(feed_forward_proj="gated-gelu"))
    export_checkpoint(other, tmp_path / "strange", precisions=["int8"])
    (bundle / "onnx" / "int8").rename(tmp_path / "aside")
    (tmp_path / "strange" / "onnx" / "int8").rename(bundle / "onnx" / "int8")
    manifest = manifest_of(bundle)
    int8 = manifest.variant(precision="int8")
    files = tuple(BundleFile.describe(bundle, file.path) for file in int8.files)
    write_manifest(bundle, manifest.replacing(replace(int8, files=files)))


def test_what_was_found_stands_in_the_manifest(checkpoint: Path, bundle: Path) -> None:
    """Full precision says what PyTorch says; the differences are small and are written down."""
    found = verify_bundle(bundle, checkpoint, rows(checkpoint), tolerance=1.0)
    fp32 = next(verdict for verdict in found.variants if verdict.precision == "fp32")
    assert found.checkpoint.exact_match == 1.0
    assert fp32.parity.identical_generations == fp32.metrics.exact_match == 1.0
    assert 0 < fp32.parity.mean_abs_logit_difference < fp32.parity.max_abs_logit_difference < 1e-4
    assert fp32.latency_ms > 0
    for variant, verdict in zip(manifest_of(bundle).variants, found.variants, strict=True):
        assert (variant.hash, variant.parity) == (verdict.hash, verdict.parity)
        assert variant.quality["exact_match"] == verdict.metrics.exact_match
        assert verdict.parity.inputs == len(WORDS)
    assert found.to_json()["variants"][0]["parity"]["inputs"] == len(WORDS)


def test_a_directory_called_like_a_packaged_bundle_is_judged_itself(
    checkpoint: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder that it lies in, too, where its name alone is the path to it."""
    bundle.rename(tmp_path / "python-fix")
    monkeypatch.chdir(tmp_path)
    found = verify_bundle(Path("python-fix"), checkpoint, rows(checkpoint), tolerance=1.0)
    fp32 = next(verdict for verdict in found.variants if verdict.precision == "fp32")
    assert fp32.parity.identical_generations == fp32.metrics.exact_match == 1.0


def test_a_variant_that_loses_too_much_is_not_kept(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    """Its files go too, and the report says why. Here the int8 programs are those of another model."""
    make_strange(bundle, tmp_path)

    found = verify_bundle(bundle, checkpoint, rows(checkpoint), tolerance=0.1)

    assert [(verdict.precision, verdict.kept) for verdict in found.variants] == [("int8", False), ("fp32", True)]
    assert "where the checkpoint has 1.000, tolerance 0.1" in found.variants[0].reason
    assert [variant.label for variant in manifest_of(bundle).variants] == ["onnx/fp32"]
    assert not (bundle / "onnx" / "int8").exists()


def test_the_command_deletes_nothing_unless_told_to(
    checkpoint: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It judges, and tells by its exit code; a bundle in which a variant falls short is left as it was until ``--drop``."""
    make_strange(bundle, tmp_path)
    write_examples(tmp_path / "rows.jsonl", rows(checkpoint))
    words = ["verify", str(bundle), "--checkpoint", str(checkpoint), "--data", str(tmp_path / "rows.jsonl"), "--tolerance", "0.1"]
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    assert main(words) == 1
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    said = capsys.readouterr().out
    assert "falls short: exact match" in said
    assert said.endswith("bundle is left as it was; --drop deletes onnx/int8\n")
    assert main([*words, "--drop"]) == 1
    assert [variant.label for variant in manifest_of(bundle).variants] == ["onnx/fp32"]
    assert not (bundle / "onnx" / "int8").exists()


def test_a_bundle_of_another_checkpoint_is_left_as_it_is(bundle: Path, tmp_path: Path) -> None:
    """None of its variants holds, which is an error and no reason to empty it."""
    other = write_checkpoint(tmp_path / "other", t5(feed_forward_proj="gated-gelu"))
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="expected a variant that answers as well as the checkpoint, found none"):
        verify_bundle(bundle, other, rows(other))
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_variant_that_loses_too_much_can_be_kept_on_purpose(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    """The manifest says so."""
    make_strange(bundle, tmp_path)
    found = verify_bundle(bundle, checkpoint, rows(checkpoint), tolerance=0.1, allow_degraded=True)
    assert all(verdict.kept for verdict in found.variants)
    int8, fp32 = manifest_of(bundle).variants
    assert "where the checkpoint has 1.000, tolerance 0.1" in (int8.degraded or "")
    assert fp32.degraded is None


def test_a_variant_that_gives_no_numbers_is_never_kept(checkpoint: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing can be said of how far it is off, and the manifest of a bundle that held it could not be read again."""
    weights = bundle / "onnx" / "fp32" / "weights.bin"
    weights.write_bytes(np.full(weights.stat().st_size // 4, np.nan, np.float32).tobytes())
    manifest = manifest_of(bundle)
    fp32 = manifest.variant(precision="fp32")
    files = tuple(BundleFile.describe(bundle, file.path) for file in fp32.files)
    write_manifest(bundle, manifest.replacing(replace(fp32, files=files)))

    found = verify_bundle(bundle, checkpoint, rows(checkpoint), tolerance=1.0, allow_degraded=True, report=print)

    assert [(verdict.precision, verdict.kept) for verdict in found.variants] == [("int8", True), ("fp32", False)]
    assert (found.variants[1].parity, found.variants[1].reason) == (None, "log-probabilities that are no numbers")
    assert capsys.readouterr().out.endswith("MB; falls short: log-probabilities that are no numbers\n")
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["variants"][1]["parity"] is None
    assert [variant.label for variant in manifest_of(bundle).variants] == ["onnx/int8"]


def test_a_variant_that_cannot_run_here_is_kept_and_said_to_be_unchecked(
    checkpoint: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Core ML is everywhere but on a Mac."""
    elsewhere = replace(opening.LIBRARIES["onnx"], modules=("abacus_library",))
    monkeypatch.setattr(opening, "LIBRARIES", {**opening.LIBRARIES, "abacus": elsewhere})
    manifest = manifest_of(bundle)
    strange = replace(manifest.variant(precision="int8"), runtime="abacus")
    write_manifest(bundle, replace(manifest, variants=(strange, manifest.variant(precision="fp32"))))

    found = verify_bundle(bundle, checkpoint, rows(checkpoint), limits=Limits(max_quality_drop=0.5))

    assert [(verdict.label, verdict.checked, verdict.kept) for verdict in found.variants] == [
        ("abacus/int8", False, True),
        ("onnx/fp32", True, True),
    ]
    assert "needs the module 'abacus_library', which is not installed" in (manifest_of(bundle).variants[0].unchecked or "")
    assert found.selection is not None
    assert found.selection.candidates[0].why == "not checked on this machine"


def fragile(factor: float) -> Any:
    """A T5 with a hidden unit that is so many times as large as the others, and made up for by what reads it."""
    model = t5()
    with torch.no_grad():
        broken = model.encoder.block[1].layer[1].DenseReluDense
        broken.wi.weight[0] *= factor
        broken.wo.weight[:, 0] /= factor
    return model


def test_layers_that_break_are_held_in_a_higher_precision(tmp_path: Path) -> None:
    """A hidden unit that is a thousand times as large as the others leaves these nothing of eight bits; the manifest names the
    layer, the rest stays in int8.
    """
    checkpoint = write_checkpoint(tmp_path / "checkpoint", fragile(1000))
    export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32", "int8"])
    small = manifest_of(tmp_path / "bundle").variant(precision="int8").size_bytes
    said: list[str] = []

    found = verify_bundle(tmp_path / "bundle", checkpoint, rows(checkpoint), tolerance=0.1, mend=True, report=said.append)

    assert "trying its fragile layers in a higher precision" in said[0]
    assert found.variants[0].kept_layers[0] == "encoder.layers.1.ffn.output"
    assert "in higher precision: encoder.layers.1.ffn.output" in said[1]
    with open_bundle(tmp_path / "bundle") as opened:
        check_files(opened)
        int8 = opened.manifest.variant(precision="int8")
    assert int8.kept_layers == found.variants[0].kept_layers
    assert int8.parity == found.variants[0].parity
    assert small < int8.size_bytes < 1.3 * small
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]


def test_a_stateless_variant_is_mended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It rounds what its like with a state rounds; what is compiled for it stays in the test's own folder."""
    pretend_mac(monkeypatch, tmp_path)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", fragile(1 / 1000))
    precisions = ["onnx/fp32", "coreml/int8-stateless"]
    export_checkpoint(checkpoint, tmp_path / "bundle", runtimes=["onnx", "coreml"], precisions=precisions)
    found = verify_bundle(tmp_path / "bundle", checkpoint, rows(checkpoint), tolerance=0.1, mend=True)
    assert [(verdict.label, verdict.kept) for verdict in found.variants] == [("onnx/fp32", True), ("coreml/int8-stateless", True)]
    assert found.variants[1].kept_layers[0] == "encoder.layers.1.ffn.output"
    assert any((tmp_path / "caches").iterdir())


def test_a_variant_that_float16_cannot_mend_is_not_kept(tmp_path: Path) -> None:
    """Where the layer that breaks is beyond its reach; the others are judged as ever."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", fragile(1e-7))
    export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32", "int8"])
    found = verify_bundle(tmp_path / "bundle", checkpoint, rows(checkpoint), tolerance=0.1, mend=True)
    assert [(verdict.precision, verdict.kept) for verdict in found.variants] == [("int8", False), ("fp32", True)]
    assert "where the checkpoint has 1.000, tolerance 0.1" in found.variants[0].reason


def test_the_layer_that_breaks_ranks_first() -> None:
    """Rounded alone, each in its turn."""
    model = author(t5())
    with torch.no_grad():
        model.decoder.layers[0].ffn.input.weight[3] *= 1000
        model.decoder.layers[0].ffn.output.weight[:, 3] /= 1000
    teachings = [Teaching(source=(5, 6, 7, 1), target=(0, 9, 10)), Teaching(source=(20, 21), target=(0, 30))]
    ranked = rank_layers(model, teachings, ROUNDINGS["int8"])
    assert ranked[0] == "decoder.layers.0.ffn.output"
    assert set(ranked) == {name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}


def test_limits_choose_among_those_that_hold(checkpoint: Path, bundle: Path) -> None:
    """One variant of each runtime stays in the bundle; the report says why the other does not."""
    found = verify_bundle(bundle, checkpoint, rows(checkpoint), tolerance=1.0, limits=Limits(max_quality_drop=1.0))
    assert found.selection is not None
    assert found.selection.chosen == ("onnx/int8",)
    assert [(verdict.kept, verdict.reason) for verdict in found.variants] == [(True, ""), (False, "larger than onnx/int8")]
    assert [variant.label for variant in manifest_of(bundle).variants] == ["onnx/int8"]
    assert not (bundle / "onnx" / "fp32").exists()
    with pytest.raises(BundleError, match="0.1 MB, more than 0.001"):
        verify_bundle(bundle, checkpoint, rows(checkpoint), tolerance=1.0, limits=Limits(max_size_mb=0.001))
    assert (bundle / "onnx" / "int8").exists()


def test_a_single_row_is_no_loss(checkpoint: Path, bundle: Path) -> None:
    """The difference of one row cannot be told from chance, whatever the tolerance."""
    held_out = rows(checkpoint)
    wrong = replace(held_out[0], target=held_out[0].target + "?")
    found = verify_bundle(bundle, checkpoint, [wrong, *held_out[1:]], tolerance=0.0)
    assert found.checkpoint.exact_match == pytest.approx(11 / 12)
    assert next(verdict for verdict in found.variants if verdict.precision == "fp32").kept


@pytest.mark.parametrize("build", [marian, t5, m2m100], ids=["marian", "t5", "m2m100"])
def test_a_forbidden_token_is_no_difference(build: Callable[[], Any], tmp_path: Path) -> None:
    """Neither PyTorch nor the programs say it, and its log-probability does not count as one."""
    model = build()
    said = first_said(write_checkpoint(tmp_path / "checkpoint", model))
    model.generation_config.bad_words_ids = [[model.config.pad_token_id], [said]]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", model)
    assert first_said(checkpoint) != said
    export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"])
    found = verify_bundle(tmp_path / "bundle", checkpoint, rows(checkpoint))
    assert found.variants[0].parity.identical_generations == 1.0
    assert found.variants[0].parity.max_abs_logit_difference < 1e-4


def test_generations_are_those_of_plain_greedy_search(checkpoint: Path) -> None:
    """The reference batches and pads; every answer is what the model says to its input alone."""
    reference = Reference.load(checkpoint)
    tokenizer = TextTokenizer.from_file(checkpoint / "tokenizer.json")
    for question in ask_checkpoint(reference, tokenizer, WORDS):
        tokens = [0]
        while len(tokens) <= 12 and tokens[-1] != 1:
            with torch.no_grad():
                logits = reference.model(
                    input_ids=torch.tensor([question.encoded.ids]), decoder_input_ids=torch.tensor([tokens])
                ).logits
            tokens.append(int(logits[0, -1].argmax()))
        assert tuple(tokens[1:]) == question.tokens


def test_a_changed_file_is_found_before_anything_runs(checkpoint: Path, bundle: Path) -> None:
    """By its hash."""
    weights = bundle / "onnx" / "fp32" / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleCorruptError, match=r"onnx/fp32/weights\.bin: expected sha256"):
        verify_bundle(bundle, checkpoint, rows(checkpoint))


def test_rows_are_needed(checkpoint: Path, bundle: Path) -> None:
    """A verdict on nothing would be worth nothing."""
    with pytest.raises(DataError, match="expected held-out rows to verify with, found none"):
        verify_bundle(bundle, checkpoint, [])


def test_a_bundle_in_one_file_is_not_rewritten(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    """What is found of its variants has nowhere to go."""
    pack(bundle, tmp_path / "noise.pocketseq")
    with pytest.raises(BundleError, match="noise.pocketseq: expected a bundle directory"):
        verify_bundle(tmp_path / "noise.pocketseq", checkpoint, rows(checkpoint))
