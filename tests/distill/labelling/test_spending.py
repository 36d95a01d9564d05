"""What a black-box teacher costs: told before anything is sent, counted, and stopped by a budget."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.distill.disk import room_for
from tests.distill.models import make_checkpoint, repair_examples

from pocketseq.cli import main
from pocketseq.errors import (
    BudgetSpentError,
    DataError,
    LabellingError,
    RecipeError,
)
from pocketseq.examples import write_examples
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.endpoint import EndpointSettings
from pocketseq_distill.labelling.labels import LabelSettings, label_rows
from pocketseq_distill.labelling.spending import LabelBudget, Spending, Spent, estimate
from pocketseq_distill.labelling.teacher import Asking

from .conftest import PRICE, Scripted, Served, of, said

EXAMPLES = repair_examples(12)
SETTINGS = LabelSettings()


def test_a_budget_stops_the_labelling_and_a_larger_one_goes_on(served: Served, tmp_path: Path) -> None:
    """Requests are counted over both calls, and no row is asked twice."""
    path, spent = tmp_path / "labels.jsonl", tmp_path / "labels.spent.json"
    words = (
        r"no room for another request in requests 5; so far 5 requests, .*: 5 rows labelled now, 5 in all .*7 budget\); raise it"
    )
    with pytest.raises(BudgetSpentError, match=words):
        label_rows(EXAMPLES, of(served, spent=spent, budget=LabelBudget(requests=5)), path, SETTINGS)
    assert json.loads(spent.read_text())["requests"] == 5
    report = label_rows(EXAMPLES, of(served, spent=spent, budget=LabelBudget(requests=12)), path, SETTINGS)
    assert (report.now, report.total) == (7, 12)
    counted = json.loads(spent.read_text())
    assert counted["requests"] == 12
    assert len(path.read_text().splitlines()) == 12


def test_what_is_under_way_does_not_end_a_labelling_that_has_money_left(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """Four answers that may be long leave no room for a fifth until they are there, and short: all rows are labelled."""
    server = script(lambda body, number: said("x", prompt=5, written=5))
    teacher = server.teacher(spent=tmp_path / "spent.json", budget=LabelBudget(tokens=450), max_tokens=200, concurrency=4)
    assert label_rows(EXAMPLES, teacher, tmp_path / "labels.jsonl", SETTINGS).now == 12
    assert json.loads((tmp_path / "spent.json").read_text())["tokens"] == 120


def test_a_full_disk_ends_a_labelling_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    """A request that could not be counted is not made: no later one waits for it. One that was made stays counted in the file."""
    file = tmp_path / "spent.json"
    spending, expected = Spending(LabelBudget(tokens=10), None, file), Spent(1, 8)
    words = r"spent\.json: expected a place for what was spent that can be written, found: .*File too large; make room"
    with room_for(1), pytest.raises(LabellingError, match=words):
        spending.reserve(expected)
    assert spending.spent == Spent()
    assert spending.reserve(expected) is None
    with room_for(1), pytest.raises(LabellingError, match=words):
        spending.settle(expected, Spent(1, 4))
    assert json.loads(file.read_text())["tokens"] == 8
    assert spending.spent == Spent(1, 4)
    assert not spending._under_way
    assert spending.reserve(expected) == "tokens 10"


def test_a_limit_waits_for_what_is_under_way() -> None:
    """What is expected of it leaves no room for another request; what it comes to use does."""
    spending = Spending(LabelBudget(tokens=10), None, None)
    expected, answers = Spent(1, 8), []
    assert spending.reserve(expected) is None
    other = threading.Thread(target=lambda: answers.append(spending.reserve(expected)))
    other.start()
    other.join(0.2)  # long enough to refuse, were it not to wait
    spending.settle(expected, Spent(1, 2))
    other.join()
    assert answers == [None]
    assert spending.spent == Spent(2, 10)


def test_one_file_counts_for_several_processes(tmp_path: Path) -> None:
    """What one reserves the other has no room for any more; what it does not use comes back to both."""
    ours, theirs = (Spending(LabelBudget(tokens=10), None, tmp_path / "spent.json") for _ in range(2))
    assert ours.reserve(Spent(1, 8)) is None
    assert theirs.reserve(Spent(1, 8)) == "tokens 10"
    ours.settle(Spent(1, 8), Spent(1, 2))
    assert theirs.reserve(Spent(1, 8)) is None
    theirs.settle(Spent(1, 8), Spent(1, 8))
    assert ours.reserve(Spent(1, 1)) == "tokens 10"
    assert json.loads((tmp_path / "spent.json").read_text()) == {"requests": 2, "tokens": 10, "cost": 0.0}


def test_no_request_of_two_at_the_same_moment_is_lost(tmp_path: Path) -> None:
    """Each process reads, counts and writes as one step."""
    program = (
        "import sys; from pathlib import Path; from pocketseq_distill.labelling.spending import *\n"
        "spending = Spending(LabelBudget(), None, Path(sys.argv[1]))\n"
        "for _ in range(100):\n    spending.reserve(Spent(1, 8))\n    spending.settle(Spent(1, 8), Spent(1, 2))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "spent.json")]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert json.loads((tmp_path / "spent.json").read_text()) == {"requests": 200, "tokens": 400, "cost": 0.0}


def test_the_limit_that_ended_a_labelling_is_named_whatever_fails_after_it(script: Callable[..., Scripted], tmp_path: Path) -> None:
    """A long row finds no room; a short one behind it still does, and fails for a reason of its own, which is counted apart."""
    rows = [replace(EXAMPLES[number], fields={"line": line, "after": ""}) for number, line in enumerate(["x" * 3000, "short"])]
    server = script(lambda body, number: (500, {"error": {"message": "broken"}}))
    teacher = server.teacher(prompt="{line}", budget=LabelBudget(tokens=500), concurrency=1, retries=0)
    with pytest.raises(BudgetSpentError, match=r"another request in tokens 500; so far 0 requests, .*1 budget, 1 unavailable"):
        label_rows(rows, teacher, tmp_path / "labels.jsonl", SETTINGS)


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


@pytest.mark.parametrize("content", [None, "{}"], ids=["missing", "damaged"])
def test_a_tokenizer_that_cannot_be_read_is_named(script: Callable[..., Scripted], tmp_path: Path, content: str | None) -> None:
    """With the key that names it."""
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content)
    teacher = script(lambda body, number: said("x")).teacher(tokenizer=str(file))
    with pytest.raises(DataError, match=r"endpoint\]: expected a tokenizer\.json at .*tokenizer\.json, found: .*; mend tokenizer"):
        teacher.estimate(EXAMPLES, Asking())


def test_an_estimate_without_tokenizer_and_reference_is_rather_high() -> None:
    """A third of the bytes, and the longest answer each."""
    found = estimate(["a" * 30], [""], candidates=1, max_tokens=7, price=None)
    assert (found.prompt_tokens, found.completion_tokens, found.cost, found.most) == (11, 7, None, None)
    assert str(found) == "1 rows to label: 1 requests, about 11 tokens to read and 7 to write; no price given"


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
    assert "; budget: requests 7" in shown.err
    assert "nothing was asked" in shown.out
    assert not labels.exists()
    assert main([*command, "--try", "1"]) == 0
    shown = capsys.readouterr()
    assert "1 rows to label: 1 requests, about" in shown.err  # which are paid for too
    assert f"input      {EXAMPLES[0].fields['line']!r}" in shown.out
    assert main([*command, "--rows", "4"]) == 0
    assert "4 rows labelled now, 4 in all" in capsys.readouterr().out
    assert main(command) == 2
    assert "another request in requests 7" in capsys.readouterr().err
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
