"""What a client is answered: OpenAI's response objects and the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pocketseq_distill.generation import Answer, FinishReason
from pocketseq_distill.serving.tokens import TokenLogprob


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer, or a piece of one."""

    index: int
    """Which of the prompts it answers."""
    text: str
    """The text, or the piece that is new."""
    tokens: Sequence[TokenLogprob] | None
    """Its tokens; None where the client did not ask."""
    finish_reason: FinishReason | None
    """None in a piece that is not the last."""


def usage(answers: Sequence[Answer]) -> dict[str, int]:
    """Tokens read and written."""
    read, written = sum(answer.prompt_tokens for answer in answers), sum(len(answer.tokens) for answer in answers)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class Reply(Protocol):
    """One of the two forms of response."""

    def whole(self, choices: Sequence[Choice], counts: dict[str, int] | None) -> dict[str, Any]:
        """The response to a request that wants no stream; without counts of tokens where nobody knows them."""

    def opening(self, index: int, /) -> dict[str, Any] | None:
        """The chunk before a choice's first text, where the form has one."""

    def chunk(self, choice: Choice) -> dict[str, Any]:
        """A chunk with a piece of text."""

    def closing(self, counts: dict[str, int]) -> dict[str, Any]:
        """The chunk after all choices, which counts the tokens."""


class CompletionReply:
    """The form of ``/v1/completions``."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()), "model": model}

    def whole(self, choices: Sequence[Choice], counts: dict[str, int] | None) -> dict[str, Any]:
        """See ``Reply``."""
        return {**self._head, "choices": [self._choice(choice) for choice in choices], "usage": counts}

    def opening(self, _index: int, /) -> dict[str, Any] | None:
        """See ``Reply``."""
        return None

    def chunk(self, choice: Choice) -> dict[str, Any]:
        """See ``Reply``."""
        return {**self._head, "choices": [self._choice(choice)]}

    def closing(self, counts: dict[str, int]) -> dict[str, Any]:
        """See ``Reply``."""
        return {**self._head, "choices": [], "usage": counts}

    def _choice(self, choice: Choice) -> dict[str, Any]:
        return {
            "index": choice.index,
            "text": choice.text,
            "logprobs": None if choice.tokens is None else _completion_logprobs(choice.tokens),
            "finish_reason": choice.finish_reason,
        }


class ChatReply:
    """The form of ``/v1/chat/completions``."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, choices: Sequence[Choice], counts: dict[str, int] | None) -> dict[str, Any]:
        """See ``Reply``."""
        filled = [
            self._choice(choice, "message", {"role": "assistant", "content": choice.text, "refusal": None}) for choice in choices
        ]
        return {**self._head, "object": "chat.completion", "choices": filled, "usage": counts}

    def opening(self, index: int, /) -> dict[str, Any] | None:
        """See ``Reply``."""
        return self._chunk([self._choice(Choice(index, "", None, None), "delta", {"role": "assistant", "content": ""})])

    def chunk(self, choice: Choice) -> dict[str, Any]:
        """See ``Reply``."""
        return self._chunk([self._choice(choice, "delta", {"content": choice.text} if choice.text else {})])

    def closing(self, counts: dict[str, int]) -> dict[str, Any]:
        """See ``Reply``."""
        return {**self._chunk([]), "usage": counts}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk", "choices": choices}

    def _choice(self, choice: Choice, name: str, content: dict[str, Any]) -> dict[str, Any]:
        logprobs = (
            None if choice.tokens is None else {"content": [_chat_logprob(token) for token in choice.tokens], "refusal": None}
        )
        return {"index": choice.index, name: content, "logprobs": logprobs, "finish_reason": choice.finish_reason}


def _completion_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{token.text: token.logprob} for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _chat_logprob(token: TokenLogprob) -> dict[str, Any]:
    spelt = None if token.spelt is None else list(token.spelt)
    return {"token": token.text, "logprob": token.logprob, "bytes": spelt, "top_logprobs": []}
