"""Black-box teachers over real HTTP on loopback: what they cost, where they stop, and what is said when they do not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.distill.models import repair_examples

from pocketseq.errors import (
    BudgetSpentError,
    EndpointAuthError,
    EndpointServerError,
    EndpointUnavailableError,
    TeacherError,
)
from pocketseq_distill.labelling.labels import LabelSettings, label_rows, read_labels
from pocketseq_distill.labelling.spending import LabelBudget
from pocketseq_distill.labelling.teacher import Asking, Question, Reply

from .conftest import Scripted, Served, of, said

EXAMPLES = repair_examples(12)
SETTINGS = LabelSettings()


def test_a_served_checkpoint_labels_as_it_would_here(served: Served, tmp_path: Path) -> None:
    """Text, finish reason and log-probability over HTTP are those of the model itself."""
    path = tmp_path / "labels.jsonl"
    report = label_rows(EXAMPLES, of(served, parameters={"logprobs": True}), path, SETTINGS)
    assert report.now == 12
    labels = read_labels(path, EXAMPLES)
    for example, answer in zip(EXAMPLES, served.model.answer([example.fields for example in EXAMPLES]), strict=True):
        label = labels[example.id]
        assert (label.text, label.finish_reason) == (answer.text, answer.finish_reason)
        assert label.logprob == pytest.approx(sum(answer.token_logprobs), abs=1e-3)


def test_what_a_model_thinks_is_no_part_of_its_answers_probability(script: Callable[..., Scripted]) -> None:
    """Its tokens are counted and paid for: 402 here, of which the answer is two, of −0.5 each."""
    status, value = said("hi you", written=402)
    value["choices"][0]["logprobs"] = {"content": [{"token": token, "logprob": -0.5} for token in ("hi", " you")]}
    teacher = script(lambda body, number: (status, value)).teacher(parameters={"logprobs": True})
    (candidate,) = teacher.ask([Question(EXAMPLES[0].fields)], Asking())[0].candidates
    assert (candidate.logprob, candidate.mean_logprob) == (-1.0, -0.5)
    teacher.close()


def test_so_many_requests_are_under_way_at_a_time(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """Each row alone, as many as the concurrency says."""
    together = threading.Barrier(4, timeout=10)

    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
        together.wait()
        return said("x")

    server = script(answer)
    label_rows(EXAMPLES, server.teacher(concurrency=4), tmp_path / "labels.jsonl", SETTINGS)
    assert server.most == 4
    assert len(server.bodies) == 12
    alone = script(lambda body, number: said("x"))
    label_rows(EXAMPLES, alone.teacher(concurrency=1), tmp_path / "alone.jsonl", SETTINGS)
    assert alone.most == 1


def test_what_passes_is_tried_again(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """Overload passes: one more request, counted. What is wrong stays wrong: the row is left for another time."""

    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
        prompt = body["messages"][-1]["content"]
        if prompt == EXAMPLES[3].fields["line"]:
            return 400, {"error": {"message": "too odd"}}
        tries = sum(seen["messages"][-1]["content"] == prompt for seen in server.bodies)
        return (429, {"error": {"message": "slowly"}}) if prompt == EXAMPLES[1].fields["line"] and tries == 1 else said("x")

    server = script(answer)
    teacher = server.teacher(prompt="{line}", spent=tmp_path / "spent.json")
    report = label_rows(EXAMPLES, teacher, tmp_path / "labels.jsonl", SETTINGS)
    assert (report.now, report.odd) == (11, {"unavailable": 1})
    assert "too odd" in report.samples["unavailable"][0]["why"]
    assert len(server.bodies) == teacher.spending.spent.requests == 13


def test_empties_refusals_and_timeouts_are_counted_and_visible(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """A refusal in either form is final and never paid for again; what did not answer in time is asked by the next call."""
    odd = {
        EXAMPLES[0].fields["line"]: said(""),
        EXAMPLES[1].fields["line"]: said(None, refusal="I would rather not."),
        EXAMPLES[2].fields["line"]: said("half of", finish="content_filter"),
        EXAMPLES[3].fields["line"]: None,
        EXAMPLES[4].fields["line"]: said("cut", finish="length"),
        EXAMPLES[5].fields["line"]: (200, {"choices": []}),
    }
    server = script(lambda body, number: odd.get(body["messages"][-1]["content"], said("fine")))
    path = tmp_path / "labels.jsonl"
    teacher = server.teacher(prompt="{line}", timeout_s=4.0, retries=0)
    report = label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert report.odd == {"empty": 1, "refused": 2, "timeout": 1, "cut": 1, "malformed": 1}
    assert (report.total, report.missed) == (10, 2)
    labels = read_labels(path, EXAMPLES)
    assert {labels[EXAMPLES[place].id].finish_reason for place in (1, 2)} == {"refused"}
    odd[EXAMPLES[3].fields["line"]] = odd[EXAMPLES[5].fields["line"]] = said("at last")
    asked = len(server.bodies)
    again = label_rows(EXAMPLES, server.teacher(prompt="{line}", timeout_s=4.0, retries=0), path, SETTINGS)
    assert (again.now, again.missed) == (2, 0)
    assert again.odd == {"empty": 1, "refused": 2, "cut": 1}
    assert len(server.bodies) == asked + 2


def test_an_endpoint_that_is_down_is_left_alone(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """After twenty answers in a row that could not be had, with the endpoint's words; a key that is refused ends it at once."""
    server = script(lambda body, number: (503, {"error": {"message": "resting"}}))
    with pytest.raises(EndpointServerError, match=r"503: resting; .* \(20 answers in a row could not be had; .* goes on"):
        label_rows(repair_examples(200), server.teacher(retries=0), tmp_path / "labels.jsonl", SETTINGS)
    assert len(server.bodies) < 40
    server = script(lambda body, number: (401, {"error": {"message": "who are you"}}))
    with pytest.raises(EndpointAuthError, match="who are you"):
        label_rows(EXAMPLES, server.teacher(concurrency=2), tmp_path / "other.jsonl", SETTINGS)
    assert len(server.bodies) < 12
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(EndpointUnavailableError):
        label_rows(repair_examples(50), server.teacher(retries=0), tmp_path / "gone.jsonl", SETTINGS)


def test_what_was_under_way_beside_an_error_is_kept(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """It is paid for: an answer that comes after the key was refused for another row is written, and no further row is begun."""
    refused = threading.Event()

    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
        if body["messages"][-1]["content"] == EXAMPLES[1].fields["line"]:
            refused.set()
            return 401, {"error": {"message": "who are you"}}
        refused.wait(30)
        time.sleep(0.5)  # until that has been heard of
        return said("fine")

    path, server = tmp_path / "labels.jsonl", script(answer)
    with pytest.raises(EndpointAuthError, match="who are you"):
        label_rows(EXAMPLES, server.teacher(prompt="{line}", concurrency=2), path, SETTINGS)
    assert len(server.bodies) == 2
    assert list(read_labels(path, EXAMPLES)) == [EXAMPLES[0].id]


def test_whoever_asks_while_it_is_closed_sends_no_more(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """Neither the other samples of a row nor the row behind it; nothing more is counted, and asked again it opens again."""
    asked, go_on = threading.Event(), threading.Event()

    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
        asked.set()
        go_on.wait(30)
        return said("x")

    server = script(answer)
    teacher = server.teacher(prompt="{line}", spent=tmp_path / "spent.json", timeout_s=60.0)
    questions, how = [Question(row.fields) for row in EXAMPLES[:2]], Asking(candidates=3, temperature=0.5)
    thread, replies = _asking(lambda: teacher.ask(questions, how))
    asked.wait(30)
    teacher.close()
    go_on.set()
    thread.join(30)
    assert [reply.failure for reply in replies] == ["unavailable"] * 2
    assert len(server.bodies) == teacher.spending.spent.requests == 1
    assert len(teacher.ask(questions, how)[1].candidates) == 3


def test_a_refused_key_ends_the_wait_for_a_retry(script: Callable[..., Scripted]) -> None:
    """Whoever asks beside it learns of the failure at once and sends no more; who asks later, with another key say, is let."""
    asked = threading.Event()

    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
        asked.set()
        return [(429, {"error": {"message": "slowly"}}), (401, {"error": {"message": "who are you"}}), said("x")][number - 1]

    server = script(answer)
    server.retry_after_ms = 200_000
    teacher = server.teacher()
    thread, replies = _asking(lambda: teacher.ask([Question(EXAMPLES[0].fields)], Asking()))
    asked.wait(30)
    with pytest.raises(EndpointAuthError, match="who are you"):
        teacher.ask([Question(EXAMPLES[1].fields)], Asking())
    thread.join(30)
    assert [reply.failure for reply in replies] == ["unavailable"]
    assert len(server.bodies) == 2
    assert teacher.ask([Question(EXAMPLES[0].fields)], Asking())[0].candidates[0].text == "x"
    teacher.close()


def test_closing_ends_the_wait_for_a_retry(script: Callable[..., Scripted]) -> None:
    """However long the endpoint asked to be left alone: a labelling that is stopped stops."""
    asked = threading.Event()

    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
        asked.set()
        return 429, {"error": {"message": "slowly"}}

    server = script(answer)
    server.retry_after_ms = 200_000
    teacher = server.teacher()
    thread, replies = _asking(lambda: teacher.ask([Question(EXAMPLES[0].fields)], Asking()))
    asked.wait(30)
    with teacher.spending._settled:  # the last thing before it
        teacher.spending._settled.wait_for(lambda: not teacher.spending._under_way, 30)
    teacher.close()
    thread.join(30)
    assert [reply.failure for reply in replies] == ["unavailable"]
    assert len(server.bodies) == 1


def test_an_endpoint_that_asks_to_be_left_alone_for_long_has_failed(script: Callable[..., Scripted]) -> None:
    """A quota that comes back tomorrow is not waited for: the row is left for another call, with the endpoint's words."""
    server = script(lambda body, number: (429, {"error": {"message": "tomorrow"}}))
    server.retry_after_ms = 3_600_000
    thread, replies = _asking(lambda: server.teacher().ask([Question(EXAMPLES[0].fields)], Asking()))
    thread.join(30)
    assert [reply.failure for reply in replies] == ["unavailable"]
    assert "429: tomorrow" in replies[0].why
    assert len(server.bodies) == 1


def _asking(ask: Callable[[], list[Reply]]) -> tuple[threading.Thread, list[Reply]]:
    """A thread that asks, and what it is going to find."""
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.extend(ask()), daemon=True)
    thread.start()
    return thread, replies


def test_several_samples_are_several_requests(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """At the temperature that was asked for; a budget that ends between them leaves the row for another time."""
    server = script(lambda body, number: said(f"answer {number}"))
    many = replace(SETTINGS, candidates=3, keep=3, temperature=0.7, choose="nearest")
    path = tmp_path / "labels.jsonl"
    with pytest.raises(BudgetSpentError):
        label_rows(EXAMPLES[:3], server.teacher(budget=LabelBudget(requests=5), concurrency=1), path, many)
    labels = read_labels(path, EXAMPLES)
    assert all(len(label.others) == 2 for label in labels.values())
    assert {body["temperature"] for body in server.bodies} == {0.7}
    assert len(server.bodies) == 5
    with pytest.raises(TeacherError, match="found 3 answers, 1 beams and temperature 0.0"):
        label_rows(EXAMPLES, server.teacher(), tmp_path / "x.jsonl", replace(many, temperature=0.0))
    with pytest.raises(TeacherError, match="asked by threads; raise its concurrency instead"):
        label_rows(EXAMPLES, server.teacher(), tmp_path / "x.jsonl", replace(SETTINGS, processes=2))


def test_samples_that_did_not_come_are_counted(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """One answer of four makes a label; how many are missing and why is counted, and stands in the file."""
    wrong = (400, {"error": {"message": "too odd"}})
    server = script(lambda body, number: said("fine") if number > 3 else wrong)
    path, many = tmp_path / "labels.jsonl", replace(SETTINGS, candidates=4, keep=4, temperature=0.7, choose="nearest")
    report = label_rows(EXAMPLES[:2], server.teacher(concurrency=1), path, many)
    assert (report.now, report.missed, report.odd) == (2, 0, {"fewer": 1})
    assert report.samples["fewer"][0]["id"] == EXAMPLES[0].id
    assert report.samples["fewer"][0]["why"].startswith("1 of 4 answers came (unavailable: ")
    assert "too odd" in report.samples["fewer"][0]["why"]
    assert [read_labels(path, EXAMPLES)[row.id].fewer is None for row in EXAMPLES[:2]] == [False, True]
