"""How a checkpoint's Core ML variants answer, by the interpreter: ``python -m tests.coreml.measure CHECKPOINT ROWS.jsonl``.

Prints JSON: for each variant its size, the share of generations that are the checkpoint's own, exact match against the truth, and
the largest difference of a log-probability along the checkpoint's answers. Results are rounded to float16 after every operator.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from tests.coreml.mac import pretend_mac

from pocketseq.bundle import open_bundle
from pocketseq.examples import read_examples
from pocketseq.metrics import evaluate_rows
from pocketseq.model import PocketModel
from pocketseq.runtimes import open_runtime
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export import export_checkpoint
from pocketseq_export.coreml import PRECISIONS
from pocketseq_export.reference import Reference

COMPARED = 20
"""Rows whose log-probabilities are compared too."""


def measure(checkpoint: Path, rows: Path, *, count: int, precisions: list[str], folder: Path) -> dict[str, Any]:
    reference = Reference.load(checkpoint)
    started = time.perf_counter()
    manifest = export_checkpoint(checkpoint, folder / "bundle", runtimes=["coreml"], precisions=precisions)
    seconds = time.perf_counter() - started
    examples = list(islice(read_examples(rows), count))
    with open_bundle(folder / "bundle") as bundle:
        template, tokenizer = manifest.template, TextTokenizer.from_file(bundle.path(manifest.tokenizer))
        encoded = [template.encode(tokenizer, row.fields) for row in examples]
        answers = reference.generate([source.ids for source in encoded])
        texts = [
            template.decode(tokenizer, ids[:-1] if ids[-1] == reference.special.end_id else ids, source)
            for ids, source in zip(answers, encoded, strict=True)
        ]
        parameters = manifest.provenance["parameters"]
        found: dict[str, Any] = {"rows": count, "parameters": parameters, "export_seconds": round(seconds, 1)}
        found["checkpoint"] = evaluate_rows(examples, texts, primary=template.primary).exact_match
        for variant in manifest.variants:
            with PocketModel.load(folder / "bundle", runtime="coreml", precision=variant.precision) as model:
                results = [model.generate(row.fields) for row in examples]
            said = [tuple(result.tokens) for result in results]
            runtime, largest = open_runtime(bundle, variant), 0.0
            for source, ids in list(zip(encoded, answers, strict=True))[:COMPARED]:
                given = np.array([source.ids]), np.array([[reference.special.start_id, *ids[:-1]]])
                step = runtime.step(given[1], runtime.encode(given[0], np.ones_like(given[0])), runtime.start(1))
                largest = max(largest, float(np.abs(step.logprobs[0] - reference.logprobs(source.ids, ids).numpy()).max()))
            found[variant.label] = {
                "size_bytes": variant.size_bytes,
                "bytes_per_parameter": round(variant.size_bytes / parameters, 4),
                "identical_generations": sum(a == tuple(b) for a, b in zip(said, answers, strict=True)) / count,
                "exact_match": evaluate_rows(examples, [result.text for result in results], primary=template.primary).exact_match,
                "max_abs_logit_difference": largest,
            }
            print(variant.label, found[variant.label], file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--rows", type=int, default=300, dest="count")
    parser.add_argument("--precision", default=",".join(PRECISIONS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        pretend_mac(patch, Path(folder))
        print(
            json.dumps(
                measure(args.checkpoint, args.rows, count=args.count, precisions=args.precision.split(","), folder=Path(folder)),
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
