"""What grammars cost: each library and form on its own, and what could not be measured says why."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pocketseq.errors import DataError
from pocketseq_bench import grammars


def test_masks_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    """In this process: time to the first mask, and percentiles over the masks of some answers."""
    assert grammars.main(["python-fix", "--one", "llguidance", "date"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ready_ms"] > 0
    assert 0 < found["mask_us"]["p50"] <= found["mask_us"]["p99"]
    assert found["masks"] > 40  # more than one for each answer


def test_each_form_has_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there, or not ready in time, is told, and the others go on."""
    monkeypatch.setattr(grammars, "LIBRARIES", ("llguidance", "no-such-library"))
    monkeypatch.setattr(grammars, "FORMS", {"date": grammars.FORMS["date"]})
    path = tmp_path / "grammars.json"
    assert grammars.main(["python-fix", "-o", str(path)]) == 0
    found = json.loads(path.read_text())
    assert "ready_ms" in found["libraries"]["llguidance"]["forms"]["date"]
    assert found["libraries"]["no-such-library"] == {"version": None, "forms": {}}
    table = grammars.grammars_markdown(found)
    assert "no-such-library (not installed)" in table
    assert table.splitlines()[2].endswith("| – |")
    late = grammars.grammars("python-fix", limit_s=0.001)
    assert late["libraries"]["llguidance"]["forms"]["date"] == {"failed": "not ready within 0.001 s"}


def test_without_llguidance_the_other_library_says_that_it_needs_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It spells the tokens for both; the line is what a table shows in the place of times."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    assert grammars.main(["python-fix", "--one", "outlines-core", "date"]) == 1
    assert capsys.readouterr().err.endswith(
        "'llguidance', which is not installed; mend it with: pip install \"pocketseq[grammar]\"\n"
    )


def test_a_result_of_another_format_is_refused() -> None:
    """With what to do."""
    with pytest.raises(DataError, match="expected format 1, found 2; measure again"):
        grammars.grammars_markdown({"format": 2})
