"""The supported families, and how a Hugging Face model becomes the re-authored graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from pocketseq.errors import CheckpointError
from pocketseq_export.graphs.bart import bart_spec, bart_weights
from pocketseq_export.graphs.model import EncoderDecoder, Reach
from pocketseq_export.graphs.spec import GraphSpec
from pocketseq_export.graphs.t5 import t5_spec, t5_weights


@dataclass(frozen=True, slots=True)
class Family:
    """How to read one architecture."""

    spec: Callable[[Any, Mapping[str, Tensor]], GraphSpec]
    """From the configuration and the weights."""
    weights: Callable[[GraphSpec, Mapping[str, Tensor]], dict[str, Tensor]]
    """From Hugging Face's names to those of ``EncoderDecoder``."""


T5: Final = Family(t5_spec, t5_weights)
BART: Final = Family(bart_spec, bart_weights)
FAMILIES: Final[Mapping[str, Family]] = {
    "bart": BART,
    "m2m_100": BART,
    "marian": BART,
    "mbart": BART,
    "mt5": T5,
    "pegasus": BART,
    "t5": T5,
}
"""By ``model_type``. FLAN, T5 v1.1, ByT5 and CodeT5 are ``t5``; OPUS-MT is ``marian``; NLLB is ``m2m_100``."""


NEVER: Final = -1e9
"""Logit bias of a token that is never said; finite, so that log-probabilities stay numbers."""


def family_of(model_type: str) -> Family:
    """Find a family.

    Raises:
        CheckpointError: the architecture is none of the supported ones.
    """
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"expected an architecture among {', '.join(FAMILIES)}, found {model_type!r}; no other can be exported"
        )
    return FAMILIES[model_type]


def banned_tokens(generation: Any) -> list[int]:
    """Tokens that a generation configuration forbids; Marian's padding has a logit of its own and must never be said.

    An end token is none of them, as in transformers: nothing else would end an answer.
    """
    ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    return [ids[0] for ids in generation.bad_words_ids or [] if len(ids) == 1 and ids[0] not in ends]


def author(model: Any, reach: Reach | None = None) -> EncoderDecoder:
    """Write a Hugging Face encoder-decoder anew as the one graph from which programs are made.

    Args:
        model: A ``…ForConditionalGeneration`` or ``MarianMTModel`` of a supported family; it is left as it is.
        reach: Longest sequences, for programs of fixed shapes; None takes a common one.

    Returns:
        The same function, in evaluation mode, float32, sharing no weight with the original.

    Raises:
        CheckpointError: an unsupported architecture or activation, or weights that are not numbers.
    """
    family = family_of(model.config.model_type)
    weights = {name: tensor.detach().float() for name, tensor in model.state_dict().items()}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"expected finite weights, found NaN or infinity in {name!r}; the training has diverged")
    banned = banned_tokens(model.generation_config)
    if banned:  # families whose logits have no bias are given one for it
        bias = weights.get("final_logits_bias", torch.zeros(1, len(weights["lm_head.weight"]))).clone()
        bias[..., banned] = NEVER
        weights["final_logits_bias"] = bias
    spec = family.spec(model.config, weights)
    graph = EncoderDecoder(spec, reach)
    with torch.no_grad():
        graph.load_state_dict(family.weights(spec, weights))
    return graph.eval().requires_grad_(requires_grad=False)
