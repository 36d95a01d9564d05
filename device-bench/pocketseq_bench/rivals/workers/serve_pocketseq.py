"""This SDK with the bundle's int8 variant: the fields of an input in, result out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from serving import Answer, serve

from pocketseq import PocketModel

settings = json.loads(sys.argv[1])
options = {"precision": settings["precision"], "threads": settings["threads"]}
model = PocketModel.load(settings["bundle"], **options)


@cache
def endless() -> PocketModel:
    """The model without an end token; opened once, and only where a length is forced."""
    from pocketseq_bench.endless import open_endless

    return open_endless(settings["bundle"], **options)


def answer(inputs: Sequence[Any], request: dict[str, Any]) -> list[Answer]:
    """Generate."""
    if request["tokens"]:
        results = [endless().generate(row["fields"], max_new_tokens=request["tokens"]) for row in inputs]
    elif request["beam"] > 1:
        from pocketseq.decoding import Beams

        beams = Beams(count=request["beam"], early_stopping=True)  # CTranslate2 has no other rule
        results = [model.generate(row["fields"], beams=beams) for row in inputs]
    elif len(inputs) > 1:
        results = model.generate_batch([row["fields"] for row in inputs])
    else:
        results = [model.generate(inputs[0]["fields"], draft=request["draft"])]
    return [(list(result.tokens), list(result.token_logprobs)) for result in results]


serve(answer)
