"""Special ids: which tokens begin and end an answer, which comes first and which never, and no other default of a checkpoint.

A published ``generation_config.json`` holds two kinds of things. What belongs to the model, such as the language that every answer
begins with, is heeded whoever asks. What its authors like, such as four beams, a length penalty or a temperature, is not: how a
model is asked is the caller's to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import GenerationConfig

_ALSO_CONFIGURED: Final = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
SPECIAL_NAMES: Final = (*_ALSO_CONFIGURED, "forced_bos_token_id", "bad_words_ids")
"""What the configurations of Hugging Face call them."""


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that mean something to a decoder."""

    start: int
    """What the decoder reads first."""
    ends: frozenset[int]
    """Any of them ends an answer."""
    end: int
    """The first of them, with which labels end."""
    pad: int
    first: int | None
    """First token of every answer, such as a language; None leaves it to the model."""
    banned: tuple[int, ...]
    """Tokens that no answer holds."""

    @classmethod
    def of(cls, model: Any) -> SpecialIds:
        """Those that a model's configurations name.

        Args:
            model: A transformers encoder-decoder.

        Raises:
            CheckpointError: no start or no end token is configured.
        """
        settings, config = model.generation_config, model.config
        start, ends, pad = (
            getattr(settings, name) if getattr(settings, name) is not None else getattr(config, name, None)
            for name in _ALSO_CONFIGURED
        )
        if start is None or ends is None:
            raise CheckpointError(
                "expected decoder_start_token_id and eos_token_id in config.json or generation_config.json, "
                f"found {start} and {ends}"
            )
        ends = ends if isinstance(ends, list) else [ends]
        return cls(
            start=int(start),
            ends=frozenset(ends),
            end=int(ends[0]),
            pad=int(pad or 0),
            first=settings.forced_bos_token_id,
            # An end token is none of them, as in transformers: nothing else would end an answer.
            banned=tuple(words[0] for words in settings.bad_words_ids or [] if len(words) == 1 and words[0] not in ends),
        )

    @property
    def given(self) -> tuple[int, ...]:
        """What stands before every answer without the model's say, and therefore before every label that it learns."""
        return () if self.first is None else (self.first,)

    def settle(self, model: Any) -> None:
        """Write these ids into a model's configurations that leave them open, or give several: its labels end with the first.

        Args:
            model: What ``config.json`` and ``generation_config.json`` are written from.
        """
        for config in (model.config, model.generation_config):
            for name, value in zip(_ALSO_CONFIGURED, (self.start, self.end, self.pad), strict=True):
                if not isinstance(getattr(config, name, None), int):
                    setattr(config, name, value)

    def asking(self, **how: Any) -> GenerationConfig:
        """Settings of ``generate`` that keep to these ids.

        Args:
            how: What is asked for beside them, by the names of transformers.
        """
        from transformers import GenerationConfig

        return GenerationConfig(
            **how,
            decoder_start_token_id=self.start,
            eos_token_id=sorted(self.ends),
            pad_token_id=self.pad,
            forced_bos_token_id=self.first,
            bad_words_ids=[[token] for token in self.banned] or None,
        )


@contextmanager
def without_defaults(model: Any) -> Iterator[None]:
    """While the block runs, let ``generate`` follow the settings that it is given alone.

    Where they leave something open, transformers would take it from the checkpoint.

    Args:
        model: A transformers model that generates.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def said_beside_configuration(path: Path) -> dict[str, Any]:
    """Special ids that a checkpoint's ``generation_config.json`` gives otherwise than its ``config.json``, by name.

    The file as a whole tells less of the answers: every version of transformers writes it anew, and most of it is not heeded.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: one of the two is damaged.
    """
    file = path / "generation_config.json"
    if not file.is_file():
        return {}
    try:
        generation, config = (json.loads(one.read_text(encoding="utf-8")) for one in (file, path / "config.json"))
        return {name: generation.get(name) for name in SPECIAL_NAMES if generation.get(name) != config.get(name)}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: expected a JSON object that can be read, found: {error}; download it again") from None
