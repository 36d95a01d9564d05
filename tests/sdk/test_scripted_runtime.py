"""The public fake: the whole machine above a runtime that answers from a table."""

from __future__ import annotations

import numpy as np
import pytest

from pocketseq.testing import ScriptedRuntime, byte_tokenizer, scripted_model


def test_a_scripted_model_answers_from_its_table() -> None:
    """And what is not in it with itself."""
    model = scripted_model({"rnage": "range 😀"})
    assert [result.text for result in model.generate_batch(["rnage", "other"])] == ["range 😀", "other"]
    assert "".join(model.stream("rnage")) == "range 😀"


def test_its_confidence_is_the_one_asked_for() -> None:
    """The same for all, or input by input."""
    assert scripted_model({}, confidence=0.25).generate("x").confidence == pytest.approx(0.25)
    model = scripted_model({}, confidence={"sure": 1.0, "not sure": 0.1})
    found = [result.confidence for result in model.generate_batch(["sure", "not sure", "else"])]
    assert found == pytest.approx([1.0, 0.1, 0.9])


def test_it_is_calibrated_where_a_threshold_is_given() -> None:
    """As far as those who read the calibration can tell."""
    calibrated = scripted_model({}, threshold=0.7)
    assert calibrated.calibration is not None
    assert calibrated.calibration.threshold == 0.7
    assert scripted_model({}).calibration is None


def test_a_long_input_is_truncated_on_the_left() -> None:
    """And the result says so."""
    result = scripted_model({}, max_input_bytes=4).generate("abcdef")
    assert (result.text, result.truncated) == ("cdef", ("text",))


def test_the_byte_tokenizer_keeps_every_text() -> None:
    """One token a byte, special tokens apart."""
    tokenizer = byte_tokenizer(["<line>"])
    for text in ("a</s>é€😀\x00\n", " ", "\u2028"):
        assert len(tokenizer.text_ids(text)) == len(text.encode())
        assert tokenizer.decode(tokenizer.text_ids(text)) == text
    assert tokenizer.special_id("<line>") == 3


def test_a_script_goes_back_to_an_earlier_place() -> None:
    """As a runtime takes tokens back that proved wrong."""
    runtime = ScriptedRuntime(lambda ids: [(5, 1.0), (6, 1.0), (7, 1.0)], vocab_size=8, end_id=1)
    ids = np.array([[3]], dtype=np.int64)
    memory = runtime.encode(ids, np.ones_like(ids))
    longer = runtime.step(np.array([[2, 5]], dtype=np.int64), memory, runtime.start(1)).cache
    again = runtime.step(np.array([[5, 6]], dtype=np.int64), memory, runtime.keep(longer, 1))
    assert again.logprobs[0].argmax(axis=-1).tolist() == [6, 7]
    assert (longer.length, again.cache.length) == (2, 3)
