"""OpenAI's public contract as a validator: the whole OpenAPI document where it lies at hand, else the facts that matter here.

The document is looked for in the directory that ``POCKETSEQ_DATA`` names, then beside the checkout in ``../shared/data``. It is
large and not ours, so that the facts are kept in our own words as well and hold everywhere.
"""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

_DOCUMENT: Final = Path("openai_openapi") / "openapi.json.gz"

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_COUNT: Final = {"type": "integer", "minimum": 0}
_FINISH: Final = {"enum": ["stop", "length", "tool_calls", "content_filter", "function_call"]}
_USAGE: Final = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT},
}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": sorted(required), "properties": {**required, **optional}}


def _answer(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    head = {"id": _TEXT, "object": {"const": kind}, "created": {"type": "integer"}, "model": _TEXT}
    usage = {"anyOf": [_USAGE, {"type": "null"}]}
    return _object({**head, "choices": {"type": "array", "items": choice}}, usage=usage)


FACTS: Final[dict[str, dict[str, Any]]] = {
    "CreateChatCompletionRequest": _object(
        {
            "model": _TEXT,
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": _object({"role": {"enum": ["system", "user", "assistant"]}, "content": _TEXT}),
            },
        },
        max_completion_tokens={"anyOf": [_COUNT, {"type": "null"}]},
        temperature={"type": "number", "minimum": 0, "maximum": 2},
        stream={"type": "boolean"},
        stream_options={"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
        logprobs={"type": "boolean"},
    ),
    "CreateChatCompletionResponse": _answer(
        "chat.completion",
        _object(
            {
                "index": _COUNT,
                "finish_reason": _FINISH,
                "message": _object({"role": {"const": "assistant"}, "content": _TEXT_OR_NULL, "refusal": _TEXT_OR_NULL}),
            }
        ),
    ),
    "CreateChatCompletionStreamResponse": _answer(
        "chat.completion.chunk",
        _object(
            {
                "index": _COUNT,
                "delta": _object({}, content=_TEXT_OR_NULL, role=_TEXT),
                "finish_reason": {"anyOf": [_FINISH, {"type": "null"}]},
            }
        ),
    ),
    "ErrorResponse": _object({"error": _object({"message": _TEXT, "type": _TEXT, "param": _TEXT_OR_NULL, "code": _TEXT_OR_NULL})}),
}
"""What the document says of the parts that this project uses."""


def problems(schema: str, value: object) -> list[str]:
    """How a value breaks a schema of the contract; empty where it keeps it.

    Args:
        schema: A key of ``FACTS``, and of the document's schemas.
        value: JSON values.
    """
    validators = [Draft202012Validator(FACTS[schema])]
    if (document := public_document()) is not None:
        components = {"components": document["components"]}
        validators.append(Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **components}))
    return [f"{error.json_path}: {error.message[:200]}" for validator in validators for error in validator.iter_errors(value)]


@cache
def public_document() -> dict[str, Any] | None:
    """The OpenAPI document; None where it does not lie at hand.

    Raises:
        FileNotFoundError: ``POCKETSEQ_DATA`` names a directory without it.
    """
    named = os.environ.get("POCKETSEQ_DATA")
    path = (Path(named) if named else Path(__file__).parents[2] / "shared" / "data") / _DOCUMENT
    if not named and not path.exists():
        return None
    document: dict[str, Any] = _nullable(json.loads(gzip.decompress(path.read_bytes())))
    return document


def _nullable(value: Any) -> Any:
    """The older way to allow null, which the document still uses, in the words of today's JSON Schema."""
    if isinstance(value, list):
        return [_nullable(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _nullable(item) for key, item in value.items() if key != "nullable"}
    return {"anyOf": [found, {"type": "null"}]} if value.get("nullable") is True else found
