"""The plan of a call: its options held against the model, once for all of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pocketseq.decoding.settings import Constraints
from pocketseq.errors import InputError
from pocketseq.manifest import Manifest
from pocketseq.options import Request
from pocketseq.runtimes.protocol import Ids
from pocketseq.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from pocketseq.decoding.rules import Rules

_FREE = Constraints()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call is answered."""

    request: Request
    constraints: Constraints
    """Those of the request, or none."""
    max_new_tokens: int
    """Longest answer, end token included."""
    prompt: tuple[int, ...]
    """What the decoder is given first: the start token, the bundle's forced prefix, the caller's."""
    prompt_row: Ids
    """The same for one input, int64 [1, tokens]."""
    prefix: tuple[int, ...]
    """The caller's part of it, with which the answer begins."""
    rules: Rules | None
    """What changes the scores of tokens; None where nothing does."""
    drafts: bool
    """Whether greedy answers are verified against the input's primary field."""
    document: tuple[int, ...]
    """Token ids of the text against which they are verified instead; empty for none."""
    is_greedy: bool
    """Whether the likeliest token comes, or the likeliest beams, whatever it is."""
    is_plain: bool
    """Whether nothing but the likeliest tokens is asked for, with beams or without, until the end token or the limit."""


def make_plan(manifest: Manifest, tokenizer: TextTokenizer, request: Request) -> Plan:
    """Hold a request against a model.

    Raises:
        InputError: an option out of the model's range, or one that its answers have no place for.
    """
    wanted = request.constraints or _FREE
    geometry, forced = manifest.geometry, manifest.generation.forced_prefix
    if manifest.template.edits is not None:
        textual = ("prefix", "stop", "regex", "json_schema", "choices")
        unfit = [name for name in textual if getattr(wanted, name) not in (None, "", ())]
        if unfit:
            raise InputError(
                f"Constraints.{unfit[0]}: expected a bundle that answers with text, found one that answers with edits of the field "
                f"{manifest.template.edits!r}"
            )
    if request.draft and (wanted.adjusts or wanted.has_grammar):
        raise InputError(
            "expected a draft or constraints on tokens, found both; only the likeliest tokens can be verified together"
        )
    if request.draft and manifest.template.edits is not None:
        raise InputError(
            "draft: expected a bundle that answers with text, found one that answers with edits of the field "
            f"{manifest.template.edits!r}, which copies nothing"
        )
    prefix = tuple(tokenizer.text_ids(wanted.prefix))
    limit = _limit(manifest, request.max_new_tokens, taken=len(forced) + len(prefix))
    if wanted.min_new_tokens >= limit:
        raise InputError(
            f"Constraints.min_new_tokens: expected less than max_new_tokens={limit}, since the end token counts, "
            f"found {wanted.min_new_tokens}"
        )
    unknown = [token for token in wanted.suppressed if type(token) is not int or not 0 <= token < geometry.vocab_size]
    if unknown:
        raise InputError(f"Constraints.suppressed: expected token ids from 0 to {geometry.vocab_size - 1}, found {unknown[:8]}")
    hidden = (geometry.start_id, *forced)
    prompt = (*hidden, *prefix)
    rules = None
    if wanted.adjusts:
        from pocketseq.decoding.rules import Rules

        rules = Rules(wanted, prompt, len(hidden), geometry.end_id)
    drafts = manifest.generation.draft if request.draft is None else request.draft is True
    document = tuple(tokenizer.text_ids(request.draft)) if isinstance(request.draft, str) else ()
    is_greedy = request.sampling is None and rules is None and not wanted.has_grammar
    return Plan(
        request=request,
        constraints=wanted,
        max_new_tokens=limit,
        prompt=prompt,
        prompt_row=np.array([prompt], dtype=np.int64),
        prefix=prefix,
        rules=rules,
        drafts=drafts,
        document=document,
        is_greedy=is_greedy,
        is_plain=is_greedy and not request.alternatives and not wanted.stop,
    )


def _limit(manifest: Manifest, max_new_tokens: int | None, *, taken: int) -> int:
    longest = manifest.geometry.max_target_tokens - taken
    if longest < 1:
        raise InputError(f"Constraints.prefix: expected at most {longest + taken - 1} tokens, found {taken}")
    if max_new_tokens is None:
        return min(manifest.generation.max_new_tokens, longest)
    if type(max_new_tokens) is not int or not 1 <= max_new_tokens <= longest:
        raise InputError(f"max_new_tokens: expected a whole number from 1 to {longest}, found {max_new_tokens!r}")
    return max_new_tokens
