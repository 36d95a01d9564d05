"""The cache: the same input, and a user who types along."""

from __future__ import annotations

import pytest

from pocketseq.errors import EndpointServerError
from pocketseq.hybrid import Draft, Final, Hybrid
from pocketseq.policy import Policy
from pocketseq.template import Field, Template
from pocketseq.testing import FakeEndpoint, FakeModel

SURE = {"confidence": 0.9, "threshold": 0.8}
UNSURE = {"confidence": 0.3, "threshold": 0.8}
FIELDS = (Field("before", max_tokens=8), Field("line", max_tokens=8))
EDITS = Template(fields=FIELDS, primary="line", edits="line")
PLAIN = Template(fields=FIELDS, primary="line")


def test_the_same_input_is_answered_from_the_cache() -> None:
    """Nothing is decoded and nothing leaves again; the answer says that it was given before."""
    model, cloud = FakeModel("local", **UNSURE), FakeEndpoint("cloud")
    hybrid = Hybrid(model, cloud)
    first, again = hybrid.suggest("text"), hybrid.suggest("text")
    assert (first.source, again.source, again.text, again.confidence) == ("cloud", "cache", "cloud", 0.3)
    assert again.reason == f"answered before: {first.reason}"
    assert (again.receipt.decision, again.receipt.attempts, again.receipt.sent) == ("cache", (), None)
    assert (len(model.inputs), len(cloud.calls)) == (1, 1)
    assert next(hybrid.stream("text")) == Draft("cloud")


def test_other_fields_and_modes_are_other_inputs() -> None:
    """An answer of one mode is not given in another, nor for another context."""
    model = FakeModel("local", template=PLAIN, **SURE)
    hybrid = Hybrid(model, FakeEndpoint("cloud"))
    hybrid.suggest({"line": "x"})
    assert hybrid.suggest({"line": "x", "before": "y"}).source == "local"
    assert hybrid.suggest({"line": "x"}, mode="only_cloud").source == "cloud"
    assert hybrid.suggest({"line": "x"}, mode="only_local").source == "local"
    assert hybrid.suggest("x").source == "cache"  # the same fields, given as a string


def test_a_fallback_is_not_kept() -> None:
    """A local answer that stood only because the cloud failed gives the cloud another chance."""
    hybrid = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint(EndpointServerError("x", retryable=False), "cloud"))
    assert [hybrid.suggest("text").text for _ in range(2)] == ["local", "cloud"]


def test_typing_along_an_edit() -> None:
    """Where the answer repeats the field, it stays while the user types what it suggests, and goes when he types something else."""
    model = FakeModel("for i in range(10):", template=EDITS, **SURE)
    hybrid = Hybrid(model)
    hybrid.suggest("for i in ra")
    along = hybrid.suggest("for i in rang")
    assert (along.source, along.text) == ("cache", "for i in range(10):")
    assert hybrid.suggest("for i in range(10):").source == "cache"
    assert hybrid.suggest("for i in rax").source == "local"
    assert len(model.inputs) == 2


def test_typing_along_a_continuation() -> None:
    """Where the answer continues the field, its rest is given."""
    hybrid = Hybrid(FakeModel(" in range(10):", template=PLAIN, **SURE), policy=Policy(continues=True))
    hybrid.suggest("for i")
    along = hybrid.suggest("for i in ra")
    assert (along.source, along.text) == ("cache", "nge(10):")
    assert hybrid.suggest("for i of").source == "local"


def test_an_answer_of_another_kind_is_not_typed_along() -> None:
    """A translation that happens to begin as the user types on is not mistaken for a continuation."""
    hybrid = Hybrid(FakeModel("a b", template=PLAIN, **SURE))
    hybrid.suggest("x")
    assert hybrid.suggest("xa").source == "local"


@pytest.mark.parametrize(
    ("size", "sources"), [(0, ["local"] * 3), (2, ["cache", "cache", "local"]), (3, ["cache", "cache", "cache"])]
)
def test_the_least_recently_used_answer_goes(size: int, sources: list[str]) -> None:
    """Where there is no room; an answer that was used is younger than one that was only made."""
    hybrid = Hybrid(FakeModel("local", **SURE), policy=Policy(cache_size=size))
    for text in ("a", "b", "a", "c"):
        hybrid.suggest(text)
    assert [hybrid.suggest(text).source for text in ("a", "c", "b")] == sources


def test_a_cached_stream_is_one_draft_and_the_end() -> None:
    """As short as it can be."""
    hybrid = Hybrid(FakeModel("local", **SURE))
    hybrid.suggest("text")
    draft, final = hybrid.stream("text")
    assert draft == Draft("local")
    assert isinstance(final, Final)
    assert final.suggestion.source == "cache"
