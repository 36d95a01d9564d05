"""``pocketseq calibrate``: a threshold with a promise in the manifest, or a refusal and a page all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketseq.cli import main
from pocketseq.cli.entry import FAILED
from pocketseq.examples import Example, write_examples
from pocketseq.model import PocketModel


def pocketseq(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_calibrate_writes_a_threshold_that_the_model_then_uses(capsys: pytest.CaptureFixture[str], bundle_directory: Path) -> None:
    """Bound to the variant; here the model is always right by construction."""
    rows = bundle_directory.parent / "rows.jsonl"
    with PocketModel.load(bundle_directory) as model:
        answers = {f"x = {number}": model.generate(f"x = {number}").text for number in range(120)}
    write_examples(rows, (Example(id=text, fields={"text": text}, target=answer) for text, answer in answers.items()))
    code, out, _ = pocketseq(capsys, "calibrate", bundle_directory, "--data", rows, "--risk", "0.2", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["coverage"], found["accuracy"], found["n"], found["risk"]) == (1.0, 1.0, 48, 0.2)
    with PocketModel.load(bundle_directory) as model:
        assert model.calibration is not None
        assert model.calibration.threshold == found["threshold"]
    _, out, _ = pocketseq(capsys, "inspect", bundle_directory)
    assert "of the answers served locally at most 20% are wrong, with probability 95%; coverage 100.0% of 48 rows" in out


def test_calibrate_refuses_a_risk_that_cannot_be_kept(capsys: pytest.CaptureFixture[str], bundle_directory: Path) -> None:
    """A model that is always wrong: the manifest stays as it was, and the page still shows what was found."""
    rows, page = bundle_directory.parent / "rows.jsonl", bundle_directory.parent / "page.html"
    write_examples(rows, (Example(id=str(number), fields={"text": f"x = {number}"}, target="never this") for number in range(60)))
    code, _, err = pocketseq(capsys, "calibrate", bundle_directory, "--data", rows, "--report", page)
    assert code == FAILED
    assert "found none on 24 rows (base risk 100.0%, scorer chow_sum), nor for any other risk; give more rows, or a better" in err
    assert "No threshold keeps the promise that of the answers served locally at most 10% are wrong" in page.read_text("utf-8")
    _, out, _ = pocketseq(capsys, "inspect", bundle_directory)
    assert "calibration  none" in out


def test_calibrate_takes_a_teachers_answers_for_the_truth(capsys: pytest.CaptureFixture[str], bundle_directory: Path) -> None:
    """No labels needed, and rows that the teacher was not asked about are left out; with any other loss labels are."""
    rows, answers, page = (bundle_directory.parent / name for name in ("rows.jsonl", "labels.jsonl", "page.html"))
    with PocketModel.load(bundle_directory) as model:
        texts = [f"x = {number}" for number in range(130)]
        said = {text: model.generate(text).text if number % 9 else "other" for number, text in enumerate(texts[:120])}
    rows.write_text("".join(json.dumps({"id": text, "fields": {"text": text}}) + "\n" for text in texts), encoding="utf-8")
    answers.write_text("".join(json.dumps({"id": text, "text": said[text]}) + "\n" for text in said), encoding="utf-8")
    command = ("calibrate", bundle_directory, "--data", rows, "--risk", "0.4")
    code, out, _ = pocketseq(
        capsys, *command, "--loss", "teacher", "--teacher-answers", answers, "--report", page, "--cloud-ms", "300"
    )
    assert code == 0
    assert "at most 40% are unlike the teacher's answer, with probability 95%" in out
    assert "of 48 rows" in out
    assert "with a cloud of 300 ms behind it" in page.read_text("utf-8")
    code, _, err = pocketseq(capsys, *command, "--loss", "teacher")
    assert (code, "expected --teacher-answers with --loss teacher" in err) == (FAILED, True)
    code, _, err = pocketseq(capsys, *command, "--teacher-answers", answers)
    assert (code, "expected the keys" in err or "target" in err) == (FAILED, True)


def test_calibrate_lets_rows_help_that_the_model_learnt_from(capsys: pytest.CaptureFixture[str], bundle_directory: Path) -> None:
    """The same teacher's answers may stand for both; the promise is tested on the other rows, and a file must be there."""
    rows, seen, answers, page = (bundle_directory.parent / name for name in ("r.jsonl", "s.jsonl", "labels.jsonl", "page.html"))
    with PocketModel.load(bundle_directory) as model:
        said = {f"x = {number}": model.generate(f"x = {number}").text if number % 5 else "other" for number in range(300)}
    examples = [Example(id=text, fields={"text": text}, target=answer) for text, answer in said.items()]
    write_examples(rows, examples[:200])
    write_examples(seen, examples[200:])
    answers.write_text("".join(json.dumps({"id": text, "text": "other"}) + "\n" for text in said), encoding="utf-8")
    command = ("calibrate", bundle_directory, "--data", rows, "--risk", "0.4", "--teacher-answers", answers, "--report", page)
    code, out, _ = pocketseq(capsys, *command, "--seen", seen)
    assert code == 0
    assert "of 80 rows" in out
    assert "120 fitted and chose, 80 tested" in page.read_text("utf-8")
    code, _, err = pocketseq(capsys, *command, "--seen", bundle_directory.parent / "none.jsonl")
    assert (code, "none.jsonl: expected a file of rows, found none" in err) == (FAILED, True)


def test_a_named_bundle_is_to_be_written_out_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A calibration is written into a bundle; one inside the package stays as it is."""
    code, _, err = pocketseq(capsys, "calibrate", "python-fix", "--data", tmp_path / "rows.jsonl")
    assert code == FAILED
    assert "`pocketseq pack python-fix -o DIRECTORY` makes one" in err
