"""Python functions as teachers, and what is said of those that give something else than answers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from pocketseq.errors import TeacherError
from pocketseq_distill.labelling.function import FunctionTeacher, check_given
from pocketseq_distill.labelling.teacher import Asking, Candidate, Question

QUESTIONS = [Question({"line": text}) for text in ("a", "b", "c")]
NAME = "tests.distill.labelling.answers:upper"


def several(rows: Sequence[Mapping[str, str]]) -> list[str | Candidate | list[str] | None]:
    assert len(rows) <= 2
    return [["x", "y"], None][: len(rows)]


def test_a_function_is_asked_in_batches() -> None:
    """Of a string one answer comes, of a list several, and of None a refusal."""
    replies = FunctionTeacher(several).ask(QUESTIONS, Asking(batch_size=2))
    assert [[one.text for one in reply.candidates] for reply in replies] == [["x", "y"], [], ["x", "y"]]
    assert [reply.failure for reply in replies] == [None, "refused", None]


def test_a_function_is_not_asked_for_beams() -> None:
    """It would hear nothing of them, and the labels would say that there were some."""
    with pytest.raises(TeacherError, match=r"several: expected one beam of a function, .* found 8; leave beams out"):
        FunctionTeacher(several).ask(QUESTIONS, Asking(beams=8, candidates=8))


def test_a_function_can_be_named() -> None:
    """As package.module:function; its name and its source are its fingerprint."""
    teacher = FunctionTeacher(NAME)
    rows = [Question({"line": "abc", "after": ""})]
    assert teacher.ask(rows, Asking())[0].candidates[0].text == "ABC"
    assert teacher.id == FunctionTeacher(NAME).id
    assert teacher.id != FunctionTeacher(NAME.replace("upper", "slow")).id


def say(rows: Sequence[Mapping[str, str]], which: str) -> list[str]:
    return [which] * len(rows)


def saying(which: object) -> Callable[[Sequence[Mapping[str, str]]], list[str]]:
    def answer(rows: Sequence[Mapping[str, str]]) -> list[str]:
        return [str(which)] * len(rows)

    return answer


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


class Sayer:
    def __init__(self, which: str) -> None:
        self.which = which

    def __call__(self, rows: Sequence[Mapping[str, str]]) -> list[str]:
        return [self.which] * len(rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda which: partial(say, which=which),
        lambda which: partial(partial(say), which=which),
        saying,
        lambda which: saying((which, {"twice": Candidate(text=which)})),
        lambda which: saying(saying(which)),
        lambda which: lambda rows, which=which: [which] * len(rows),
    ],
    ids=["partial", "partial of a partial", "closure", "closure over records", "closure over a function", "default"],
)
def test_what_a_function_holds_is_part_of_its_fingerprint(make: Callable[[str], Any]) -> None:
    """Arguments bound to it, values from around it and defaults: the same are one teacher, others another."""
    assert FunctionTeacher(make("p")).id == FunctionTeacher(make("p")).id
    assert FunctionTeacher(make("p")).id != FunctionTeacher(make("q")).id


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (Sayer("p"), "test_function:Sayer, which belongs to an object with a state of its own"),
        (Sayer("p").__call__, r"test_function:Sayer\.__call__, which belongs to an object with a state of its own"),
        (partial(say, which=Sayer("p")), "test_function:Sayer, which belongs to an object with a state of its own"),
        (saying(object()), "a value of type object in .*answer"),
        (saying(ENDLESS), "a value in .*answer that cannot be written down: maximum recursion depth exceeded"),
        (saying({"half": "\ud800"}), "a value in .*answer that cannot be written down: .*surrogates not allowed"),
    ],
)
def test_what_cannot_be_told_apart_needs_a_fingerprint_of_its_own(function: Any, found: str) -> None:
    """Two objects of one class answer unlike; labels of both would share a file."""
    words = rf"expected a function that its source and plain values tell from others, found .*{found}; name it as .*a fingerprint"
    with pytest.raises(TeacherError, match=words):
        _ = FunctionTeacher(function).id
    assert FunctionTeacher(function, fingerprint="p").id != FunctionTeacher(function, fingerprint="q").id


def test_a_function_travels_with_what_it_holds() -> None:
    """To other processes: bound arguments, state and fingerprint; one that was named is imported there by its name."""
    for teacher in (FunctionTeacher(partial(say, which="p")), FunctionTeacher(Sayer("p"), fingerprint="p"), FunctionTeacher(NAME)):
        there = pickle.loads(pickle.dumps(teacher))
        rows = [Question({"line": "abc", "after": ""})]
        assert there.id == teacher.id
        assert there.ask(rows, Asking()) == teacher.ask(rows, Asking())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("upper", "expected a function as 'package.module:function', found 'upper'"),
        ("nowhere.at.all:f", "expected a function at 'nowhere.at.all:f', found none: No module named 'nowhere'"),
        ("tests.distill.labelling.answers:lower", "has no attribute 'lower'"),
        ("tests.distill.labelling.answers:LOG", "expected a function at .*LOG', found str"),
    ],
)
def test_a_name_that_leads_nowhere_is_said(name: str, words: str) -> None:
    """At once, before rows are read."""
    with pytest.raises(TeacherError, match=words):
        FunctionTeacher(name)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("answer", "expected a list of 2 answers, one for each row, found str: 'answer'"),
        ({"a": "b"}, "expected a list of 2 answers, one for each row, found dict"),
        (None, "expected a list of 2 answers, one for each row, found NoneType"),
        (["one"], "expected 2 answers, one for each row, found 1; give None where there is none"),
        (["one", "two", "three"], "expected 2 answers, one for each row, found 3"),
        (["one", 2], "answer 1: expected a string, a list of strings, or None, found int: 2"),
        (["one", []], r"answer 1: expected a string, a list of strings, or None, found list: \[\]"),
        ([b"one", "two"], "answer 0: expected a string, a list of strings, or None, found bytes"),
        (["one", ["two", 3]], "answer 1: expected a string, a list of strings, or None, found list"),
        (["one", Candidate(text=3)], "answer 1: expected a string as the text of a Candidate, found int: 3"),
        ([["one", Candidate(text=None)], "two"], "answer 0: expected a string as the text of a Candidate, found NoneType: None"),
    ],
)
def test_what_is_no_answer_is_named(given: object, words: str) -> None:
    """By its place; the check stands alone, for whoever writes such a function."""
    with pytest.raises(TeacherError, match=f"mine: {words}"):
        check_given(given, 2, name="mine")
    with pytest.raises(TeacherError, match=words):
        FunctionTeacher(lambda rows: given).ask(QUESTIONS[:2], Asking())


def test_an_error_of_the_function_keeps_its_words() -> None:
    """And its traceback as the cause."""
    with pytest.raises(TeacherError, match=r"expected answers to 3 rows, found KeyError: 'lin'") as found:
        FunctionTeacher(lambda rows: [row["lin"] for row in rows]).ask(QUESTIONS, Asking())
    assert isinstance(found.value.__cause__, KeyError)
