"""transformers in float32, eager or compiled: prompt in, answer and log-probabilities out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import torch
from serving import Answer, serve
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

settings = json.loads(sys.argv[1])
end = settings["end_id"]
torch.set_num_threads(settings["threads"])
tokenizer = AutoTokenizer.from_pretrained(settings["checkpoint"])
model = AutoModelForSeq2SeqLM.from_pretrained(settings["checkpoint"]).eval()
if settings["compiled"]:
    # Inputs and answers are of another length in every call: a shape that were fixed would be compiled anew each time. A static
    # cache would fix that of the decoder's past alone, and goes over all its places, empty or not, at every token.
    for part in (model.get_encoder(), model.get_decoder()):
        part.forward = torch.compile(part.forward, dynamic=True)


def answer(prompts: Sequence[str], request: dict[str, Any]) -> list[Answer]:
    """Generate."""
    forced = request["tokens"]
    encoded = tokenizer(list(prompts), add_special_tokens=False, padding=True, return_tensors="pt")
    config = GenerationConfig(
        num_beams=request["beam"],
        do_sample=False,
        max_new_tokens=forced or settings["max_new_tokens"],
        min_new_tokens=forced,
        decoder_start_token_id=settings["start_id"],
        eos_token_id=end,
        pad_token_id=settings["pad_id"],
        length_penalty=1.0,
        early_stopping=request["beam"] > 1,  # CTranslate2 has no other rule
        return_dict_in_generate=True,
        output_scores=True,
    )
    with torch.inference_mode():
        found = model.generate(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], generation_config=config)
        scores = model.compute_transition_scores(
            found.sequences, found.scores, getattr(found, "beam_indices", None), normalize_logits=request["beam"] == 1
        )
    answers = []
    for row, line in zip(found.sequences[:, 1:].tolist(), scores.tolist(), strict=True):
        ids = row[: row.index(end) + 1] if end in row else row
        tokenizer.decode(ids, skip_special_tokens=True)
        answers.append((ids, line[: len(ids)]))
    return answers


def compiling() -> dict[str, float]:
    """Seconds that went into compiling so far; the first run of a task, which is not timed, is where new shapes are met."""
    if not settings["compiled"]:
        return {}
    from torch._dynamo.utils import calculate_time_spent

    return {"compile_s": round(calculate_time_spent().get("total_wall_time", 0.0), 2)}


serve(answer, also=compiling)
