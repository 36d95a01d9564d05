"""Reverse models judge answers by the inputs that they tell."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tests.distill.models import make_checkpoint, repair_examples
from tests.distill.weights import loud

from pocketseq.errors import RecipeError
from pocketseq.files import write_json
from pocketseq.template import Field, Template
from pocketseq_distill.checkpoints import save_checkpoint
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.filters import FilterSettings, filter_rows
from pocketseq_distill.labelling.function import FunctionTeacher
from pocketseq_distill.labelling.labels import LabelSettings, label_rows, read_labels
from pocketseq_distill.labelling.reverse import ReverseModel
from pocketseq_distill.tokenizer import read_tokenizer

EXAMPLES = repair_examples(20)
LINES = [example.fields["line"] for example in EXAMPLES]
TEMPLATE = Template(fields=(Field("text", max_tokens=30),), primary="text")


@pytest.fixture(scope="module")
def reverse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of unlike opinions about unlike inputs."""
    path = make_checkpoint(tmp_path_factory.mktemp("reverse") / "model", template=TEMPLATE)
    model = TeacherModel.load(path)
    save_checkpoint(loud(model.model), path.with_name("loud"), card=model.card, tokenizer=path)
    return path.with_name("loud")


def by_hand(path: Path, source: str, answer: str, *, given: Sequence[int] = ()) -> float:
    """Mean −log p of the source's tokens and the end token, one after the other."""
    model = TeacherModel.load(path)
    ids, prefix, total = model.encode(answer).ids, [0, *given], 0.0
    wanted = [*model.tokenizer.text_ids(source), 1]
    for token in wanted:
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([prefix])).logits[0, -1]
        total -= float(logits.log_softmax(-1)[token])
        prefix.append(token)
    return total / len(wanted)


def test_the_cross_entropy_is_that_of_the_source(reverse: Path) -> None:
    """In batches of unlike lengths as token by token; an answer of nothing tells nothing."""
    sources, answers = [*LINES[:3], "for"], ["print", "value of the index", "x", " "]
    found = ReverseModel(reverse).cross_entropies(sources, answers)
    for source, answer, value in zip(sources[:3], answers, found, strict=False):
        assert value == pytest.approx(by_hand(reverse, source, answer), abs=1e-4)
    assert found[3] == math.inf


def test_a_reverse_model_that_is_made_to_say_something_first_is_asked_behind_it(reverse: Path, tmp_path: Path) -> None:
    """As a model of many languages is; that token is none of the source. Of several end tokens the first ends a source."""
    path = Path(shutil.copytree(reverse, tmp_path / "made"))
    for name, change in (("generation_config.json", {"forced_bos_token_id": 9}), ("config.json", {"eos_token_id": [1, 2]})):
        write_json(path / name, {**json.loads((path / name).read_text()), **change})
    (found,) = ReverseModel(path).cross_entropies(LINES[:1], ["print"])
    assert found == pytest.approx(by_hand(path, LINES[0], "print", given=[9]), abs=1e-4)
    assert found != pytest.approx(by_hand(path, LINES[0], "print"), abs=1e-2)


def two(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    return [["print total", f"{row['line']} name"] for row in rows]


def test_where_there_is_no_reference_the_reverse_model_chooses(reverse: Path, tmp_path: Path) -> None:
    """A teacher without log-probabilities leaves the choice to it alone; labels tell what it said."""
    settings = LabelSettings(candidates=2, choose="reverse", reverse=str(reverse))
    label_rows(EXAMPLES, FunctionTeacher(two), tmp_path / "labels.jsonl", settings, source_field="line")
    labels, model = read_labels(tmp_path / "labels.jsonl", EXAMPLES), ReverseModel(reverse)
    chosen = set()
    for example, line in zip(EXAMPLES, LINES, strict=True):
        answers = ["print total", f"{line} name"]
        apart = model.cross_entropies([line, line], answers)
        best = min(range(2), key=lambda place: apart[place])
        chosen.add(best)
        assert labels[example.id].text == answers[best]
        assert labels[example.id].reverse == pytest.approx(apart[best], abs=1e-3)
    assert chosen == {0, 1}


def test_the_worst_answers_by_the_reverse_model_are_removed(reverse: Path, tmp_path: Path) -> None:
    """A tenth of twenty are the two with the highest cross-entropy, counted and with samples; labels without are refused."""
    path, tokenizer = tmp_path / "labels.jsonl", read_tokenizer(reverse, TEMPLATE)
    teacher = FunctionTeacher(lambda rows: [f"{row['line']} {number}" for number, row in enumerate(rows)])
    label_rows(EXAMPLES, teacher, path, LabelSettings(reverse=str(reverse)), source_field="line")
    labels = read_labels(path, EXAMPLES)
    rows = [example for example in EXAMPLES if labels[example.id].reverse is not None]
    plain = Template(fields=(Field("line", max_tokens=30), Field("after", max_tokens=8)), primary="line")
    found = filter_rows(rows, labels, plain, tokenizer, FilterSettings(reverse_worst=0.1))
    worst = sorted(rows, key=lambda row: labels[row.id].reverse or 0.0)[-2:]
    assert {row.id for row in rows} - {row.id for row in found.rows} == {row.id for row in worst}
    assert found.removed == {"unlikely": 2}
    assert len(found.samples["unlikely"]) == 2
    assert not filter_rows(rows, labels, plain, tokenizer, FilterSettings(reverse_worst=0.0)).removed
    with pytest.raises(RecipeError, match="expected reverse_worst from 0 to below 1, found 1"):
        FilterSettings(reverse_worst=1.0)
    label_rows(EXAMPLES, teacher, tmp_path / "without.jsonl", LabelSettings())
    with pytest.raises(RecipeError, match=r"expected labels with .* a reverse model .* name one as reverse in \[label\]"):
        filter_rows(rows, read_labels(tmp_path / "without.jsonl", EXAMPLES), plain, tokenizer, FilterSettings(reverse_worst=0.1))


def test_threads_that_wait_for_an_endpoint_share_a_reverse_model(reverse: Path) -> None:
    """Each gets the scores of its own answers, as many threads as ask at once."""
    answers = [[f"{line} {number}" for number in range(3)] for line in LINES]
    alone = ReverseModel(reverse)
    expected = [alone.cross_entropies([line] * 3, texts) for line, texts in zip(LINES, answers, strict=True)]
    shared = ReverseModel(reverse)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda line, texts: shared.cross_entropies([line] * 3, texts), LINES, answers))
    assert found == expected
