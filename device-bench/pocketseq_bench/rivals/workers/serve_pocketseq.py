"""This SDK with the bundle's int8 variant: the fields of an input in, result out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from serving import Answer, serve

from pocketseq import PocketModel

settings = json.loads(sys.argv[1])
model = PocketModel.load(settings["bundle"], precision=settings["precision"], threads=settings["threads"])


def answer(inputs: Sequence[Any], request: dict[str, Any]) -> list[Answer]:
    """Generate, or run the decoder for a number of tokens whatever it says."""
    if request["tokens"]:
        return [decode(row["ids"], request["tokens"]) for row in inputs]
    if request["beam"] > 1:
        from pocketseq.decoding import Beams

        beams = Beams(count=request["beam"], early_stopping=True)  # CTranslate2 has no other rule
        results = [model.generate(row["fields"], beams=beams) for row in inputs]
    elif len(inputs) > 1:
        results = model.generate_batch([row["fields"] for row in inputs])
    else:
        results = [model.generate(inputs[0]["fields"], draft=request["draft"])]
    return [(list(result.tokens), list(result.token_logprobs)) for result in results]


def decode(ids: list[int], count: int) -> Answer:
    """The loop below ``generate``, with no end token to stop it."""
    import numpy as np

    global runtime  # noqa: PLW0603 opened once, and only where it is asked for
    if runtime is None:
        from pocketseq.bundle import open_bundle
        from pocketseq.runtimes import open_runtime

        bundle = open_bundle(settings["bundle"])
        variant = bundle.manifest.variant(precision=settings["precision"])
        runtime = open_runtime(bundle, variant, threads=settings["threads"])
    source = np.array([ids], dtype=np.int64)
    memory = runtime.encode(source, np.ones_like(source))
    start = np.array([[settings["start_id"]]], dtype=np.int64)
    run = runtime.greedy(start, memory, runtime.start(1), end_id=-1, limit=count)
    return run.ids[0].tolist(), run.logprobs[0].tolist()


runtime: Any = None
serve(answer)
