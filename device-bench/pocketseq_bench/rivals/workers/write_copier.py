"""Write a checkpoint that copies its input, some words replaced, without having been trained: the copy-heavy task.

    python write_copier.py CHECKPOINT DIRECTORY

takes the tokenizer of CHECKPOINT. The model is a BART of six and six layers and a width of 512, whose weights are noise but for one
cross-attention that reads the token at its own position; what a step costs does not depend on the weights.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BartConfig, BartForConditionalGeneration

from pocketseq.checkpoint import CheckpointCard
from pocketseq.template import Field, Template

WIDTH, LAYERS, LONGEST = 512, 6, 256
SHARP, LOUD, SILENT = 4.0, 8.0, 1e-4
"""How much a position prefers itself, how much the token that is read outweighs the one before, and what other layers may say."""


def build(vocabulary: int, replaced: dict[int, int], *, width: int = WIDTH, layers: int = LAYERS) -> BartForConditionalGeneration:
    """Build the model: tokens live in the first half of a state, positions in the second."""
    torch.manual_seed(0)
    half, heads = width // 2, width // 64
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=vocabulary,
            d_model=width,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * width,
            decoder_ffn_dim=4 * width,
            max_position_embeddings=LONGEST,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            forced_eos_token_id=None,
        )
    )
    tokens, positions = torch.randn(vocabulary, half).sign(), torch.randn(LONGEST + 2, half).sign()
    with torch.no_grad():
        model.model.shared.weight.zero_()[:, :half] = tokens
        for stack in (model.model.encoder, model.model.decoder):
            stack.embed_positions.weight.zero_()[:, half:] = positions
            for layer in stack.layers:
                layer.self_attn.out_proj.weight.mul_(SILENT)
                layer.fc2.weight.mul_(SILENT)
        for layer in model.model.decoder.layers:
            layer.encoder_attn.out_proj.weight.mul_(SILENT)
        reading = model.model.decoder.layers[0].encoder_attn
        same = torch.eye(half)
        for old, new in replaced.items():
            same += torch.outer(tokens[new] - tokens[old], tokens[old] / half)
        for projection in (reading.q_proj, reading.k_proj, reading.v_proj, reading.out_proj):
            projection.weight.zero_()
            projection.bias.zero_()
        reading.q_proj.weight[:half, half:] = SHARP * torch.eye(half)
        reading.q_proj.weight[half:, half:] = SHARP * torch.eye(half)
        reading.k_proj.weight[:half, half:] = torch.eye(half)
        reading.k_proj.weight[half:, half:] = torch.eye(half)
        reading.v_proj.weight[:half, :half] = same
        reading.out_proj.weight[:half, :half] = LOUD * torch.eye(half)
    return model.eval()


def main(checkpoint: Path, directory: Path) -> None:
    """Write the checkpoint with its card."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    replaced = {old: old + 1 for old in range(size // 2, size - 1, 23)}
    build(size, replaced).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, directory)
    template = Template(fields=(Field(name="line", max_tokens=LONGEST // 2, truncate="right"),), primary="line", end="</s>")
    CheckpointCard(task="copying", template=template, max_new_tokens=LONGEST // 2).write(directory)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
