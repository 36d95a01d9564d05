"""CTranslate2: prompt in, answer and log-probability out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import ctranslate2
from serving import Answer, serve

settings = json.loads(sys.argv[1])
end, limit = settings["end_id"], settings["max_new_tokens"]

encode: Any
if settings["tokenizer"] == "transformers":  # as the library's own guide for this family has it
    from transformers import AutoTokenizer

    wrapped = AutoTokenizer.from_pretrained(settings["checkpoint"])
    encode = lambda text: wrapped.convert_ids_to_tokens(wrapped.encode(text, add_special_tokens=False))  # noqa: E731
    number, decode = wrapped.convert_tokens_to_ids, wrapped.decode
else:
    from tokenizers import Tokenizer

    plain = Tokenizer.from_file(settings["checkpoint"] + "/tokenizer.json")
    plain.no_padding()
    plain.no_truncation()
    encode = lambda text: plain.encode(text, add_special_tokens=False).tokens  # noqa: E731
    number, decode = plain.token_to_id, plain.decode

kind = settings["precision"]
translator = ctranslate2.Translator(
    settings["converted"][kind], device="cpu", compute_type=kind, inter_threads=1, intra_threads=settings["threads"]
)


def answer(prompts: Sequence[str], request: dict[str, Any]) -> list[Answer]:
    """Translate, which is what it calls generating."""
    forced = request["tokens"]
    found = translator.translate_batch(
        [encode(prompt) for prompt in prompts],
        beam_size=request["beam"],
        max_batch_size=0,
        max_input_length=0,
        max_decoding_length=forced or limit,
        min_decoding_length=forced or 0,
        return_scores=True,
        length_penalty=1.0,
    )
    answers = []
    for result in found:
        ids = [number(token) for token in result.hypotheses[0]]
        decode(ids)
        # The end token is not among what it returns; it was decoded all the same.
        ids += [end] if not forced and len(ids) < limit else []
        answers.append((ids, [result.scores[0] * len(ids)]))
    return answers


serve(answer)
