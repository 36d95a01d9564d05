"""The model: loading, answering, streaming, and what happens to bad input."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketseq.bundle import open_bundle, pack, write_manifest
from pocketseq.confidence import SCORERS, Evidence, confidence
from pocketseq.decoding import Sampling
from pocketseq.errors import (
    BundleCorruptError,
    InputError,
    InputTooLongError,
    RuntimeUnavailableError,
    VariantNotFoundError,
)
from pocketseq.model import PocketModel
from pocketseq.packing import pack_variants
from pocketseq.results import Result
from pocketseq.testing import scripted_model

from .tiny import NumpyRuntime, calibration, make_weights

TEXTS = ["for i in rnage(10)", "x", "def fit(self, x):", "naïve café €5 😀", "return self._value + 1"]


def same(result: Result) -> tuple[Any, ...]:
    """All of a result but its times."""
    return result.text, result.tokens, result.finish_reason, result.truncated


def test_an_answer_carries_all_that_is_known(model: PocketModel) -> None:
    """Tokens with their log-probabilities, the confidence they give, the reason of the end, and where the time went."""
    result = model.generate("for i in rnage(10)")
    assert len(result.tokens) == len(result.token_logprobs) > 0
    assert {type(token) for token in result.tokens} == {int}
    assert {type(logprob) for logprob in result.token_logprobs} == {float}
    assert result.confidence == confidence(Evidence(result.token_logprobs))
    assert result.finish_reason == ("stop" if result.tokens[-1] == model.manifest.geometry.end_id else "length")
    assert result.truncated == ()
    timing = result.timing
    assert 0 < timing.tokenize_ms + timing.encode_ms + timing.decode_ms <= timing.total_ms


def test_the_machine_above_the_runtime_agrees_with_plain_numpy(model: PocketModel) -> None:
    """The same tokens from the ONNX graphs as from the same weights in numpy."""
    plain = PocketModel(
        model.manifest,
        model.variant,
        open_tokenizer=lambda: model._opened().tokenizer,
        open_runtime=lambda: NumpyRuntime(make_weights(model.manifest.geometry.vocab_size)),
    )
    for ours, theirs in zip(model.generate_batch(TEXTS), plain.generate_batch(TEXTS), strict=True):
        assert same(ours) == same(theirs)
        assert ours.token_logprobs == pytest.approx(theirs.token_logprobs, abs=1e-3)


def test_a_string_and_the_field_it_fills_are_one_input(edits_bundle: Path) -> None:
    """A line alone, and the same line as a mapping with or without the empty rest."""
    with PocketModel.load(edits_bundle) as model:
        plain = model.generate("for i in rnage(10)")
        assert same(model.generate({"line": "for i in rnage(10)"})) == same(plain)
        assert same(model.generate({"line": "for i in rnage(10)", "before": "", "after": ""})) == same(plain)


def test_a_batch_gives_the_results_of_its_inputs_in_order(model: PocketModel) -> None:
    """However long they are, and more of them than run at once."""
    inputs = [f"{text} # {number}" for number in range(15) for text in TEXTS]
    results = model.generate_batch(inputs)
    assert [same(result) for result in results] == [same(model.generate(text)) for text in inputs]
    assert model.generate_batch([]) == []


def test_pieces_are_the_text_and_end_in_the_result(model: PocketModel, edits_bundle: Path) -> None:
    """In both output forms; the generator's return value is what generate gives."""
    with PocketModel.load(edits_bundle) as editing:
        for one in (model, editing):
            for text in TEXTS:
                pieces = []
                stream = one.stream(text)
                while True:
                    try:
                        pieces.append(next(stream))
                    except StopIteration as end:
                        result = end.value
                        break
                assert "" not in pieces
                assert "".join(pieces) == result.text
                assert same(result) == same(one.generate(text))
                assert result.confidence == one.generate(text).confidence


def test_a_closed_stream_stops_the_model() -> None:
    """No step runs after the consumer has had enough."""
    model = scripted_model({"go": "abcdef"})
    steps = []
    runtime = model._opened().runtime
    step = runtime.step

    def counted(*arguments: Any) -> Any:
        steps.append(1)
        return step(*arguments)

    runtime.step = counted  # type: ignore[method-assign]
    stream = model.stream("go")
    assert [next(stream), next(stream)] == ["a", "b"]
    stream.close()
    assert len(steps) == 2


def test_sampling_with_a_seed_repeats(model: PocketModel) -> None:
    """In generate, in a batch's first row and in a stream alike."""
    sampling = Sampling(temperature=3.0, seed=11)
    result = model.generate(TEXTS[0], sampling=sampling)
    assert same(model.generate(TEXTS[0], sampling=sampling)) == same(result)
    assert same(model.generate_batch([TEXTS[0], "y"], sampling=sampling)[0]) == same(result)
    assert "".join(model.stream(TEXTS[0], sampling=sampling)) == result.text
    assert same(model.generate(TEXTS[0])) != same(result)


def test_many_threads_share_one_model(model: PocketModel) -> None:
    """Every thread gets the answers that one alone gets."""
    expected = [same(model.generate(text)) for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: same(model.generate(TEXTS[number % len(TEXTS)])), range(80)))
    assert found == [expected[number % len(TEXTS)] for number in range(80)]


def test_a_model_is_opened_once_at_its_first_answer() -> None:
    """By whichever of many threads comes first; loading alone opens nothing."""
    made = scripted_model({})
    opened: list[int] = []
    barrier = threading.Barrier(8)

    def open_runtime() -> Any:
        opened.append(1)
        return made._open_runtime()

    model = PocketModel(made.manifest, made.variant, open_tokenizer=made._open_tokenizer, open_runtime=open_runtime)
    assert opened == []

    def ask(number: int) -> str:
        barrier.wait()
        return model.generate(f"t{number}").text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [f"t{number}" for number in range(8)]
    assert opened == [1]


def test_a_closed_model_says_so(pristine_bundle: Path) -> None:
    """Instead of crashing; closing twice is no error."""
    model = PocketModel.load(pristine_bundle)
    model.close()
    model.close()
    with pytest.raises(RuntimeUnavailableError, match="found it closed; load it again"):
        model.generate("x")


def test_a_model_from_one_file_answers_as_from_a_folder(model: PocketModel, pristine_bundle: Path, tmp_path: Path) -> None:
    """The zip is the same bundle."""
    pack(pristine_bundle, tmp_path / "tiny.pocketseq")
    with PocketModel.load(tmp_path / "tiny.pocketseq") as packed:
        assert same(packed.generate(TEXTS[0])) == same(model.generate(TEXTS[0]))


def test_answers_under_way_end_well_when_the_model_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a bundle in one file, whose graphs are opened as they are needed; what was unpacked goes with the last of them."""
    pack_variants("python-fix", tmp_path / "fix.pocketseq", labels=["onnx/int8"])
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unpacked"))
    model = PocketModel.load(tmp_path / "fix.pocketseq")
    expected = model.generate("    retrun self.name").text
    model.close()
    assert list((tmp_path / "unpacked").iterdir()) == []
    model = PocketModel.load(tmp_path / "fix.pocketseq")
    pieces = model.stream("    retrun self.name")
    model.close()
    assert len(list((tmp_path / "unpacked").iterdir())) == 1
    assert "".join(pieces) == expected
    assert list((tmp_path / "unpacked").iterdir()) == []


def test_the_variant_asked_for_answers(model: PocketModel, pristine_bundle: Path) -> None:
    """By precision; a missing one is told at loading."""
    with PocketModel.load(pristine_bundle, precision="half", runtime="onnx") as other:
        assert other.variant.precision == "half"
        assert other.generate(TEXTS[0]).token_logprobs != model.generate(TEXTS[0]).token_logprobs
    with pytest.raises(VariantNotFoundError, match="found onnx/fp32, onnx/half"):
        PocketModel.load(pristine_bundle, runtime="coreml")


def test_a_damaged_variant_is_refused_at_loading(bundle_directory: Path) -> None:
    """Before the first question; the other variant still answers."""
    (bundle_directory / "onnx/fp32/weights.bin").write_bytes(b"short")
    with pytest.raises(BundleCorruptError, match=r"onnx/fp32/weights\.bin: expected \d+ bytes, found 5"):
        PocketModel.load(bundle_directory)
    with PocketModel.load(bundle_directory, precision="half") as model:
        assert model.generate("x").tokens


def test_a_damaged_tokenizer_is_refused_at_loading(bundle_directory: Path) -> None:
    """The tokenizer is pinned like the weights."""
    tokenizer = json.loads((bundle_directory / "tokenizer.json").read_text())
    (bundle_directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(BundleCorruptError, match=r"tokenizer\.json"):
        PocketModel.load(bundle_directory)


BAD: list[tuple[Any, str]] = [
    ("", "expected text in the field 'text', found none"),
    (" \n\t", "expected text in the field 'text', found none"),
    (None, "expected a string or a mapping of .* found NoneType"),
    (b"bytes", "expected a string or a mapping of .* found bytes"),
    ({"text": 3}, "field 'text': expected a string, found int"),
    ({"txet": "x"}, r"expected fields among \['text'\], found also \['txet'\]"),
    ({}, "expected text in the field 'text', found none"),
    ("half a pair \ud83d", "field 'text': expected Unicode text, found a lone surrogate at character 12"),
]


@pytest.mark.parametrize(("source", "message"), BAD)
@pytest.mark.parametrize(
    "ask",
    [lambda model, source: model.generate(source), lambda model, source: model.stream(source)],
    ids=["generate", "stream"],
)
def test_bad_input_is_a_typed_error(model: PocketModel, ask: Callable[..., Any], source: Any, message: str) -> None:
    """At the call, before the model runs."""
    with pytest.raises(InputError, match=message):
        ask(model, source)


@pytest.mark.parametrize(("source", "message"), BAD)
def test_bad_input_in_a_batch_is_named_by_its_number(model: PocketModel, source: Any, message: str) -> None:
    """The caller learns which of many it is."""
    with pytest.raises(InputError, match=f"input 1: {message}"):
        model.generate_batch(["fine", source])


def test_one_input_instead_of_many_is_refused(model: PocketModel) -> None:
    """A string is a sequence too, and would be answered letter by letter."""
    for source in ("text", {"text": "x"}):
        with pytest.raises(InputError, match="expected a sequence of inputs, found one"):
            model.generate_batch(source)  # type: ignore[arg-type]


def test_an_over_long_text_is_cut_and_the_result_says_so(model: PocketModel) -> None:
    """On the left: its end answers as if it had come alone."""
    long = "x y " * 5000 + "for i in rnage(10)"
    result = model.generate(long)
    assert result.truncated == ("text",)
    tokenizer = model._opened().tokenizer
    end = tokenizer.decode(tokenizer.text_ids(long)[-model.template.fields[0].max_tokens :])
    assert result.tokens == model.generate(end).tokens


def test_literals_may_take_many_tokens(model: PocketModel) -> None:
    """Before a field that is full: an input is answered alone as among others."""
    field = replace(model.template.fields[0], prefix="translate English to German: " * 4)
    wordy = PocketModel(
        replace(model.manifest, template=replace(model.template, fields=(field,))),
        model.variant,
        open_tokenizer=lambda: model._opened().tokenizer,
        open_runtime=lambda: model._opened().runtime,
    )
    texts = ["x y " * 50, "z"]
    assert [wordy.generate(text).tokens for text in texts] == [result.tokens for result in wordy.generate_batch(texts)]


def test_an_over_long_text_is_refused_where_the_caller_asks_for_it(model: PocketModel) -> None:
    """With the budget and the remedy, in every way of asking."""
    long = "x y " * 50
    message = "field 'text': expected at most 24 tokens, found more in its 200 characters; shorten it"
    for ask in (
        lambda: model.generate(long, overflow="refuse"),
        lambda: model.stream(long, overflow="refuse"),
        lambda: model.generate_batch([long], overflow="refuse"),
    ):
        with pytest.raises(InputTooLongError, match=message):
            ask()
    assert model.generate("x y", overflow="refuse").truncated == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number from 1 to 32, found 0"),
        ({"max_new_tokens": 33}, "from 1 to 32, found 33"),
        ({"max_new_tokens": 2.0}, r"found 2\.0"),
        ({"overflow": "ignore"}, "overflow: expected 'truncate' or 'refuse', found 'ignore'"),
    ],
)
def test_arguments_out_of_range_are_refused(model: PocketModel, arguments: dict[str, Any], message: str) -> None:
    """By name."""
    with pytest.raises(InputError, match=message):
        model.generate("x", **arguments)


def test_a_limit_cuts_the_answer(model: PocketModel) -> None:
    """And the reason of the end says so."""
    result = model.generate(TEXTS[0], max_new_tokens=3)
    assert len(result.tokens) == 3
    assert result.finish_reason == "length"


def test_a_later_answer_is_not_changed_by_bad_input(model: PocketModel) -> None:
    """A refused input leaves nothing behind."""
    before = same(model.generate(TEXTS[0]))
    for source, _ in BAD:
        with pytest.raises(InputError):
            model.generate(source)
    assert same(model.generate(TEXTS[0])) == before


def test_any_unicode_gives_an_answer(model: PocketModel, edits_bundle: Path) -> None:
    """Random characters of every plane, control characters and the names of special tokens."""
    rng = np.random.default_rng(3)
    planes = [range(1, 32), range(32, 127), range(0x80, 0x800), range(0xE000, 0xFFFE), range(0x1F300, 0x1F700)]
    with PocketModel.load(edits_bundle) as editing:
        for number in range(200):
            plane = planes[number % len(planes)]
            text = "".join(chr(plane[i]) for i in rng.integers(len(plane), size=rng.integers(1, 40))) + "<m1></s>a"
            assert isinstance(model.generate(text).text, str)
            assert "".join(editing.stream(text)) == editing.generate(text).text


def test_a_calibration_of_these_files_counts(bundle_directory: Path) -> None:
    """Its scorer gives the confidence."""
    _calibrated(bundle_directory, scorer="chow_minimum")
    with PocketModel.load(bundle_directory) as model:
        assert model.calibration is not None
        assert model.calibration_problem is None
        result = model.generate(TEXTS[0])
        assert result.confidence == confidence(Evidence(result.token_logprobs), SCORERS["chow_minimum"])


def test_a_calibration_of_other_files_does_not_count(bundle_directory: Path) -> None:
    """It promises nothing about these, and the model says why it has none."""
    _calibrated(bundle_directory, variant="0" * 16)
    with PocketModel.load(bundle_directory) as model:
        assert model.calibration is None
        assert "found one of 0000000000000000: it was made on other files" in (model.calibration_problem or "")
        result = model.generate(TEXTS[0])
        assert result.confidence == confidence(Evidence(result.token_logprobs))


def test_a_calibration_with_an_unknown_scorer_does_not_count(bundle_directory: Path) -> None:
    """As a newer version may write."""
    _calibrated(bundle_directory, scorer="oracle")
    with PocketModel.load(bundle_directory) as model:
        assert model.calibration is None
        assert "found 'oracle'; upgrade pocketseq" in (model.calibration_problem or "")


def test_without_calibration_the_model_says_how_to_get_one(model: PocketModel) -> None:
    """Instead of inventing a threshold."""
    assert model.calibration is None
    assert "pocketseq calibrate BUNDLE" in (model.calibration_problem or "")


def _calibrated(directory: Path, **changes: Any) -> None:
    with open_bundle(directory) as bundle:
        manifest = bundle.manifest
    variant = manifest.variants[0]
    write_manifest(directory, manifest.replacing(replace(variant, calibration=calibration(**{"variant": variant.hash, **changes}))))
