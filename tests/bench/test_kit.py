"""The kit: one file to carry to a device, one JSON to bring back."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.sdk.tiny import write_bundle

from pocketseq.cli import main
from pocketseq_bench.document import read_document


def test_a_kit_measures_where_only_the_sdk_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No psutil, no working tree: it carries bundle, inputs and runner, and what a device cannot tell is null with the reason."""
    write_bundle(tmp_path / "tiny", precisions=("half",))
    (tmp_path / "rows.jsonl").write_text('{"fields": {"text": "import os"}, "target": "import sys"}\n' * 3, encoding="utf-8")
    kit = tmp_path / "carried/kit.pyz"
    assert main(["bench", "kit", str(tmp_path / "tiny"), "--inputs", str(tmp_path / "rows.jsonl"), "-o", str(kit)]) == 0
    assert "tiny with its inputs" in capsys.readouterr().out
    names = zipfile.ZipFile(kit).namelist()
    assert {"__main__.py", "bundle.pocketseq", "inputs.jsonl", "pocketseq_bench/worker.py"} <= set(names)
    assert not any("__pycache__" in name for name in names)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "psutil.py").write_text("raise ImportError('not on this device')\n", encoding="utf-8")
    code = (
        "import sys, runpy, dataclasses\n"
        f"sys.argv = [{str(kit)!r}, '--quick', '-o', {str(tmp_path / 'back')!r}]\n"
        f"sys.path.insert(0, {str(kit)!r})\n"
        "import pocketseq_bench.measuring as measuring\n"
        f"assert {str(kit)!r} in measuring.__file__, measuring.__file__\n"
        "brief = {'starts': 1, 'cold_starts': 0, 'least_rounds': 1, 'tolerance': 9.0, 'repeats': 1, 'batches': (1,)}\n"
        "measuring.QUICK = dataclasses.replace(measuring.QUICK, **brief)\n"
        f"runpy.run_path({str(kit)!r}, run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(bare)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "carried", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = read_document(tmp_path / "back/bench.json")
    assert document.rows[0].status == "measured"
    assert document.rows[0].quality["exact_match"] == 0.0
    assert document.conduct.others.value is None
    assert 'pip install "pocketseq[bench]"' in document.conduct.others.reason


def test_a_kit_says_what_it_needs(tmp_path: Path) -> None:
    """Without the SDK it ends in the pip line."""
    write_bundle(tmp_path / "tiny", precisions=("half",))
    (tmp_path / "rows.jsonl").write_text('{"fields": {"text": "import os"}}\n', encoding="utf-8")
    kit = tmp_path / "kit.pyz"
    assert main(["bench", "kit", str(tmp_path / "tiny"), "--inputs", str(tmp_path / "rows.jsonl"), "-o", str(kit)]) == 0
    done = subprocess.run([sys.executable, "-I", "-S", str(kit)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "mend it with: pip install pocketseq" in done.stderr
