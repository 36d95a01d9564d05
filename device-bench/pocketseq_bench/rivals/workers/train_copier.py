"""Train a model for a task that copies: some lines of Python, one with a slip, answered with the same lines, the slip repaired.

    python train_copier.py DATA CHECKPOINT COPIER [MINUTES]

DATA is the folder ``data`` of a run of ``python-fix`` (``pocketseq run python-fix -o RUN --until corpus``), CHECKPOINT has its
tokenizer. COPIER becomes a checkpoint for ``pocketseq export``, with held-out rows beside it in ``rows.jsonl``. It is born
copying (``write_copier.py``), which would take an hour to learn, and trained on the task from there: what is measured on it is
what drafts bring (``python -m pocketseq_bench.drafts``), so that it need be no good corrector.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import BartForConditionalGeneration
from write_copier import build

from pocketseq.checkpoint import CheckpointCard
from pocketseq.examples import Example, read_examples, write_examples
from pocketseq.template import Field, Template
from pocketseq.tokenizer import TextTokenizer

WIDTH, LAYERS, LONGEST, RATE = 512, 3, 128, 2e-4
ROWS, BATCH, HELD_OUT = 40_000, 8, 200
PAD, END = 0, 1
TEMPLATE = Template(
    fields=(Field(name="text", max_tokens=LONGEST - 2, truncate="right"),),
    primary="text",
    end="</s>",
    instruction="Answer with these lines of Python, the slip in them repaired, and nothing else.",
)


def blocks(path: Path) -> Iterator[Example]:
    """Each row's line between up to three of the lines before it and those behind it."""
    for number, row in enumerate(read_examples(path)):
        fields, target = row.fields, row.target
        before = fields["before"].split("\n")[-3:] if fields["before"] else []
        after = fields["after"].split("\n")[:2] if fields["after"] else []
        given, wanted = ("\n".join([*before, line, *after]) for line in (fields["line"], target))
        yield Example(id=str(number), fields={"text": given}, target=wanted)


def encoded(tokenizer: TextTokenizer, rows: Iterator[Example]) -> Iterator[tuple[list[int], list[int]]]:
    """Source and target of the rows that fit."""
    for row in rows:
        source = TEMPLATE.encode(tokenizer, row.fields)
        target = [*tokenizer.text_ids(row.target), END]
        if not source.truncated and len(target) < LONGEST:
            yield source.ids, target


def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    """int64 [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])


def train(model: BartForConditionalGeneration, pairs: list[tuple[list[int], list[int]]], minutes: float) -> dict[str, Any]:
    """Train for so long, the rate falling to nothing at the end."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    # Without instructions for it, bfloat16 takes many times as long.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # earlier releases of PyTorch tell none
    has_bf16 = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    rng, began, steps, shown = random.Random(0), time.monotonic(), 0, 0.0
    model.train()
    while (passed := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (steps + 1) / 50) * (1 - passed)
        batch = rng.sample(pairs, BATCH)
        source, target = (padded([pair[side] for pair in batch], PAD) for side in (0, 1))
        # The padding token is the start token and no other, so that a target's padding is what is not to be learnt.
        given = functional.pad(target, (1, 0), value=PAD)[:, :-1]
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16):
            logits = model(input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=given).logits
        loss = functional.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
        if time.monotonic() - shown > 15:
            right = (logits.argmax(-1) == target)[target != PAD].float().mean().item()
            print(f"{passed:4.0%}  step {steps}  loss {loss.item():.3f}  tokens right {right:.1%}", flush=True)
            shown = time.monotonic()
    return {"steps": steps, "minutes": minutes, "threads": torch.get_num_threads()}


def main(data: Path, checkpoint: Path, directory: Path, minutes: float = 8.0) -> None:
    """Train, and write the checkpoint with its card and the held-out rows."""
    tokenizer = TextTokenizer.from_file(checkpoint / "tokenizer.json")
    model = build(tokenizer.size, {}, width=WIDTH, layers=LAYERS)
    training = train(model, list(encoded(tokenizer, islice(blocks(data / "train.jsonl"), ROWS))), minutes)
    model.eval().save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, directory)
    fingerprint = json.loads((data / "corpus.json").read_text(encoding="utf-8"))["fingerprint"]
    card = CheckpointCard(
        task="python-lines",
        template=TEMPLATE,
        max_new_tokens=LONGEST,
        data={"fingerprint": fingerprint},
        training=training,
        license="Apache-2.0",
    )
    card.write(directory)
    fitting = (row for row in blocks(data / "test.jsonl") if len(tokenizer.text_ids(row.fields["text"])) < LONGEST - 2)
    write_examples(directory / "rows.jsonl", islice(fitting, HELD_OUT))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *map(float, sys.argv[4:]))
