"""What a client asks: the bodies of ``/v1/completions`` and ``/v1/chat/completions``, checked field by field.

Fields that this server does not know are refused rather than ignored: most would change the answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pocketseq_distill.serving.problems import ApiError, bad_request

T = TypeVar("T")

MAX_PROMPTS: Final = 128
"""Prompts in one request at most."""

_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "min_p": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "stop": ([],),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
    "top_k": (-1, 0),
    "top_logprobs": (0,),
    "top_p": (1,),
    "verbosity": ("medium",),
}
"""Fields that an answer of this server does not heed, with the values at which that makes no difference."""

_COMPLETION: Final = frozenset(("logprobs", "max_tokens", "model", "prompt", "seed", "stream", "stream_options", "temperature"))
_CHAT: Final = _COMPLETION - {"prompt"} | {"max_completion_tokens", "messages"}
"""Fields that are heeded."""

_HARMLESS: Final = frozenset(
    (
        "cache_prompt",
        "keep_alive",
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    )
)
"""Fields that are about who asks, what is kept and what it costs: whatever stands in them, the answer is the same."""

_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is understood."""

    prompts: tuple[str, ...]
    """Texts to answer, one choice each."""
    max_tokens: int | None
    """Bound on each answer; None takes the checkpoint's own."""
    temperature: float
    """0 is greedy, which is what these models are made for, and the default."""
    seed: int
    """Fixes what is sampled; drawn at random where the client names none."""
    logprobs: bool
    """Whether to tell the log-probability of each token."""
    stream: bool
    """Whether to answer piece by piece."""
    include_usage: bool
    """Whether a stream ends in a count of tokens."""


def read_completion(body: object, *, model: str) -> Question:
    """Read the body of ``/v1/completions``.

    Args:
        body: Decoded JSON.
        model: Name of the model served.

    Raises:
        ApiError: status 400, or 404 for another model.
    """
    fields = _fields(body, model, _COMPLETION)
    prompt = fields.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not prompts or not all(isinstance(text, str) for text in prompts):
        raise bad_request("prompt: expected a string or a list of strings, found neither", param="prompt")
    if len(prompts) > MAX_PROMPTS:
        raise bad_request(f"prompt: expected at most {MAX_PROMPTS} prompts, found {len(prompts)}", param="prompt")
    logprobs = _number(fields, "logprobs", int, 0, 5)
    if logprobs is not None and logprobs > 1:
        raise bad_request("logprobs: expected 0 or 1: alternatives to the chosen tokens are not kept", param="logprobs")
    return _question(fields, tuple(prompts), logprobs=logprobs is not None, max_tokens=_number(fields, "max_tokens", int, 1))


def read_chat(body: object, *, model: str) -> Question:
    """Read the body of ``/v1/chat/completions``: the last message of the user is the prompt, the others are not heeded.

    Args:
        body: Decoded JSON.
        model: Name of the model served.

    Raises:
        ApiError: status 400, or 404 for another model.
    """
    fields = _fields(body, model, _CHAT)
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages: expected a list of messages, found none", param="messages")
    prompts = [text for place, message in enumerate(messages) if (text := _user_text(message, f"messages[{place}]")) is not None]
    if not prompts:
        raise bad_request("messages: expected a message of the role 'user', found none", param="messages")
    newer = _number(fields, "max_completion_tokens", int, 1)
    older = _number(fields, "max_tokens", int, 1)
    return _question(fields, (prompts[-1],), logprobs=_flag(fields, "logprobs"), max_tokens=newer if newer is not None else older)


def _question(fields: Mapping[str, Any], prompts: tuple[str, ...], *, logprobs: bool, max_tokens: int | None) -> Question:
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad_request("stream_options: expected an object", param="stream_options")
    temperature = _number(fields, "temperature", float, 0, 2)
    seed = _number(fields, "seed", int, -(2**63), 2**63 - 1)
    return Question(
        prompts=prompts,
        max_tokens=max_tokens,
        temperature=temperature or 0.0,
        seed=secrets.randbits(31) if seed is None else seed,
        logprobs=logprobs,
        stream=_flag(fields, "stream"),
        include_usage=_flag(options or {}, "include_usage"),
    )


def _fields(body: object, model: str, known: frozenset[str]) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise bad_request(f"expected a JSON object as body, found {type(body).__name__}")
    wanted = body.get("model")
    if not isinstance(wanted, str):
        raise bad_request(f"model: expected a string such as {model!r}, found {type(wanted).__name__}", param="model")
    if wanted != model:
        raise ApiError(404, f"model: expected {model!r}, found {wanted!r}", param="model", code="model_not_found")
    for name, value in body.items():
        if name not in known | _HARMLESS and value is not None and value not in _NEUTRAL.get(name, ()):
            shown = ascii(name[:40])[1:-1]  # what no answer could hold, such as a lone surrogate, is escaped
            raise bad_request(f"{shown}: this server does not know it; leave it out", param=shown, code="unsupported_parameter")
    return body


def _user_text(message: object, where: str) -> str | None:
    """Text of a user's message; None for a message of another role."""
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise bad_request(f"{where}: expected an object with a role among {list(_ROLES)}", param=where)
    if message["role"] != "user":
        return None
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise bad_request(f"{where}.content: expected a string or a list of text parts", param=f"{where}.content")
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise bad_request(f"{where}.content: expected parts of the type 'text' only", param=f"{where}.content")
    return "".join(part["text"] for part in parts)


def _number(fields: Mapping[str, Any], name: str, kind: type[T], least: float, most: float = float("inf")) -> T | None:
    value = fields.get(name)
    if value is None:
        return None
    fits = isinstance(value, int) or (kind is float and isinstance(value, float))
    if isinstance(value, bool) or not fits or not least <= value <= most:
        noun = "a whole number" if kind is int else "a number"
        bound = f"of at least {least}" if most == float("inf") else f"from {least} to {most}"
        raise bad_request(f"{name}: expected {noun} {bound}, found {str(value)[:40]!r}", param=name)
    return kind(value)  # type: ignore[call-arg]


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"{name}: expected true or false, found {type(value).__name__}", param=name)
    return bool(value)
