"""Black-box teachers over real HTTP on loopback: what they cost, where they stop, and what is said when they do not answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.distill.models import TEMPLATE, make_checkpoint, repair_examples
from tests.distill.serving.conftest import Served, serving
from tests.distill.weights import loud

from pocketseq.budget import Price
from pocketseq.cli import main
from pocketseq.errors import (
    BudgetSpentError,
    DataError,
    EndpointAuthError,
    EndpointServerError,
    EndpointUnavailableError,
    RecipeError,
    TeacherError,
)
from pocketseq.examples import write_examples
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.endpoint import EndpointSettings, EndpointTeacher
from pocketseq_distill.labelling.labels import LabelSettings, label_rows, read_labels
from pocketseq_distill.labelling.spending import LabelBudget, Spending, estimate
from pocketseq_distill.labelling.teacher import Asking

EXAMPLES = repair_examples(12)
SETTINGS = LabelSettings()
PRICE = Price(per_million_prompt_tokens=1.0, per_million_completion_tokens=10.0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``pocketseq serve``'s own server before a tiny checkpoint."""
    model = TeacherModel.load(make_checkpoint(tmp_path_factory.mktemp("served") / "tiny"))
    loud(model.model)
    with serving(model) as found:
        yield found


def of(served: Served, *, spent: Path | None = None, **more: Any) -> EndpointTeacher:
    settings = EndpointSettings(**{"url": served.url, "model": "tiny", "concurrency": 4, "price": PRICE, **more})
    return EndpointTeacher(settings, TEMPLATE, spent=spent)


class Scripted:
    """A server that answers by a function of the body, and counts."""

    def __init__(self, answer: Callable[[dict[str, Any], int], tuple[int, dict[str, Any]] | None]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.most = self.now = 0
        self.late = threading.Event()
        lock, script = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    script.bodies.append(body)
                    number = len(script.bodies)
                    script.now += 1
                    script.most = max(script.most, script.now)
                found = answer(body, number)
                with lock:
                    script.now -= 1
                if found is None:
                    script.late.wait(30)
                    self.close_connection = True
                    return
                status, value = found
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def teacher(self, *, spent: Path | None = None, **more: Any) -> EndpointTeacher:
        url = f"http://127.0.0.1:{self.server.server_port}/v1"
        return EndpointTeacher(EndpointSettings(**{"url": url, "model": "m", "timeout_s": 5.0, **more}), TEMPLATE, spent=spent)


@pytest.fixture
def script() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def start(answer: Callable[[dict[str, Any], int], tuple[int, dict[str, Any]] | None]) -> Scripted:
        servers.append(Scripted(answer))
        return servers[-1]

    yield start
    for one in servers:
        one.late.set()
        one.server.shutdown()
        one.server.server_close()


def said(
    text: str | None, *, finish: str = "stop", prompt: int = 10, written: int = 5, **message: object
) -> tuple[int, dict[str, Any]]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
    return 200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


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


def test_a_budget_stops_the_labelling_and_a_larger_one_goes_on(served: Served, tmp_path: Path) -> None:
    """Requests are counted over both calls, and no row is asked twice."""
    path, spent = tmp_path / "labels.jsonl", tmp_path / "labels.spent.json"
    with pytest.raises(
        BudgetSpentError, match=r"the budget is spent \(5 requests.*5 rows labelled now, 5 in all .*7 budget\); raise it"
    ):
        label_rows(EXAMPLES, of(served, spent=spent, budget=LabelBudget(requests=5)), path, SETTINGS)
    assert json.loads(spent.read_text())["requests"] == 5
    report = label_rows(EXAMPLES, of(served, spent=spent, budget=LabelBudget(requests=12)), path, SETTINGS)
    assert (report.now, report.total) == (7, 12)
    counted = json.loads(spent.read_text())
    assert counted["requests"] == 12
    assert len(path.read_text().splitlines()) == 12


@pytest.mark.parametrize("budget", [LabelBudget(tokens=1000), LabelBudget(cost=0.006)])
def test_tokens_and_money_are_counted_as_the_endpoint_counts_them(
    script: Callable[..., Scripted], tmp_path: Path, budget: LabelBudget
) -> None:
    """100 tokens read and 50 written at 1 and 10 a million are 0.0006. What is under way counts as expected: none goes over."""
    server = script(lambda body, number: said("x", prompt=100, written=50))
    teacher = server.teacher(spent=tmp_path / "spent.json", price=PRICE, budget=budget, max_tokens=60, concurrency=2)
    with pytest.raises(BudgetSpentError):
        label_rows(EXAMPLES, teacher, tmp_path / "labels.jsonl", SETTINGS)
    spent = json.loads((tmp_path / "spent.json").read_text())
    requests = len(server.bodies)
    assert spent == {"requests": requests, "tokens": 150 * requests, "cost": pytest.approx(0.0006 * requests)}
    assert spent["tokens"] <= (budget.tokens or spent["tokens"])
    assert spent["cost"] <= (budget.cost or spent["cost"])
    assert 5 <= requests < 12


def test_the_cost_is_told_before_anything_is_sent(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """By a tokenizer where one is named: what is read, what the references have, and what the longest answers would cost."""
    folder = make_checkpoint(tmp_path / "teacher")
    tokenizer = TeacherModel.load(folder).tokenizer
    server = script(lambda body, number: said("x"))
    teacher = server.teacher(price=PRICE, max_tokens=40, prompt="Mend: {line}", tokenizer=str(folder / "tokenizer.json"))
    found = teacher.estimate(EXAMPLES, Asking(candidates=2, temperature=1.0))
    read = 2 * sum(len(tokenizer.text_ids(f"Mend: {row.fields['line']}")) for row in EXAMPLES)
    written = 2 * sum(len(tokenizer.text_ids(row.target)) for row in EXAMPLES)
    assert (found.rows, found.requests, found.prompt_tokens, found.completion_tokens) == (12, 24, read, written)
    assert found.cost == pytest.approx((read + 10 * written) / 1e6)
    assert found.most == pytest.approx((read + 10 * 24 * 40) / 1e6)
    assert server.bodies == []


def test_an_estimate_without_tokenizer_and_reference_is_rather_high() -> None:
    """A third of the bytes, and the longest answer each."""
    found = estimate(["a" * 30], [""], candidates=1, max_tokens=7, price=None)
    assert (found.prompt_tokens, found.completion_tokens, found.cost, found.most) == (11, 7, None, None)
    assert str(found) == "1 rows to label: 1 requests, about 11 tokens to read and 7 to write; no price given"


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
    assert report.total == 10
    labels = read_labels(path, EXAMPLES)
    assert {labels[EXAMPLES[place].id].finish_reason for place in (1, 2)} == {"refused"}
    odd[EXAMPLES[3].fields["line"]] = odd[EXAMPLES[5].fields["line"]] = said("at last")
    asked = len(server.bodies)
    assert label_rows(EXAMPLES, server.teacher(prompt="{line}", timeout_s=4.0, retries=0), path, SETTINGS).now == 2
    assert len(server.bodies) == asked + 2


def test_an_endpoint_that_is_down_is_left_alone(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """After twenty questions in a row without an answer, with the endpoint's words; a key that is refused ends it at once."""
    server = script(lambda body, number: (503, {"error": {"message": "resting"}}))
    with pytest.raises(EndpointServerError, match=r"503: resting \(20 questions in a row found no answer; .* goes on"):
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


def test_the_command_estimates_then_labels(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run says what it would cost and sends nothing; the real one keeps what was spent beside the labels."""
    recipe, rows, labels = tmp_path / "teacher.toml", tmp_path / "rows.jsonl", tmp_path / "labels.jsonl"
    write_examples(rows, EXAMPLES)
    recipe.write_text(
        '[recipe]\nname = "t"\ntask = "t"\nformat = 1\n'
        f'[teacher.endpoint]\nurl = "{served.url}"\nmodel = "tiny"\nprompt = "{{line}}"\n'
        "price = { per_million_prompt_tokens = 1, per_million_completion_tokens = 2 }\nbudget = { requests = 7 }\n"
        "[label]\nmax_new_tokens = 6\n"
    )
    command = ["label", str(recipe), str(rows), "-o", str(labels)]
    assert main([*command, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "12 rows to label: 12 requests, about" in shown.err
    assert "; budget: 7 requests" in shown.err
    assert "nothing was asked" in shown.out
    assert not labels.exists()
    assert main([*command, "--try", "1"]) == 0
    assert f"input      {EXAMPLES[0].fields['line']!r}" in capsys.readouterr().out
    assert main([*command, "--rows", "4"]) == 0
    assert "4 rows labelled now, 4 in all" in capsys.readouterr().out
    assert main(command) == 2
    assert "the budget is spent (7 requests" in capsys.readouterr().err
    assert json.loads((tmp_path / "labels.spent.json").read_text())["requests"] <= 8


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: EndpointSettings(url="u", model="m", concurrency=0), "expected concurrency of 1 or more, found 0"),
        (lambda path: LabelBudget(cost=-1), "expected cost of 0 or more, found -1"),
        (lambda path: Spending(LabelBudget(cost=1), None, None), "expected a price to keep a cost of 1 by, found none"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(make: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    """Before anything is sent."""
    with pytest.raises(RecipeError, match=words):
        make(tmp_path)


def test_a_damaged_account_is_no_licence_to_spend(tmp_path: Path) -> None:
    """It is named rather than begun anew."""
    (tmp_path / "spent.json").write_text("{}\n{")
    with pytest.raises(DataError, match=r"spent\.json: expected what was spent so far, found"):
        Spending(LabelBudget(), None, tmp_path / "spent.json")
