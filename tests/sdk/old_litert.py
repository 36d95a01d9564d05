"""TFLite variants on an old device: run by ``.ci/run``, since no environment can hold tflite-runtime and what the other tests need.

python tests/sdk/old_litert.py write DIRECTORY     # where everything is installed
python tests/sdk/old_litert.py check DIRECTORY     # beside tflite-runtime 2.14, with the wheel alone
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from pocketseq import PocketModel
from pocketseq.errors import RuntimeUnavailableError

SOUND = ("fp32", "fp16", "int8w")
"""Precisions that an old runtime computes as a new one does."""
WORDS = ["for", "while", "return x", "def", "a == b", "Zebra", "lambda: 0", "x1"]


def write(directory: Path) -> None:
    """Export a tiny model in every precision, and record what LiteRT makes of it."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.export.models import t5, write_checkpoint

    from pocketseq_export import export_checkpoint

    checkpoint = write_checkpoint(directory / "checkpoint", t5())
    export_checkpoint(checkpoint, directory / "bundle", runtimes=["tflite"], precisions=[*SOUND, "int8"])
    found = {precision: answers(directory, precision) for precision in SOUND}
    (directory / "answers.json").write_text(json.dumps(found), encoding="utf-8")


def check(directory: Path) -> None:
    """Hold the runtime that is installed here to the record."""
    for precision, expected in json.loads((directory / "answers.json").read_text(encoding="utf-8")).items():
        found = answers(directory, precision)
        assert found["tokens"] == expected["tokens"], f"{precision}: expected {expected['tokens']}, found {found['tokens']}"
        np.testing.assert_allclose(np.concatenate(found["logprobs"]), np.concatenate(expected["logprobs"]), atol=1e-3)
        print(f"tflite/{precision}: {len(WORDS)} answers as recorded")
    refusal = ""
    try:
        answers(directory, "int8")
    except RuntimeUnavailableError as error:
        refusal = str(error)
    assert "tflite-runtime 2.14.0 cannot run it" in refusal, refusal or "expected tflite/int8 to be refused, found that it answers"
    assert 'pip install --upgrade "pocketseq[litert]"' in refusal, refusal
    print(f"tflite/int8 is refused: {refusal}")


def answers(directory: Path, precision: str) -> dict[str, list[tuple[float, ...]]]:
    """Tokens and log-probabilities of one variant."""
    with PocketModel.load(directory / "bundle", runtime="tflite", precision=precision) as model:
        results = [model.generate(word) for word in WORDS]
    return {"tokens": [list(result.tokens) for result in results], "logprobs": [list(result.token_logprobs) for result in results]}


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
