"""OpenAI's public contract: what the client sends keeps it, and so do the answers that its tests are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contract import FACTS, problems, public_document

from pocketseq.cloud import CloudEndpoint
from pocketseq.errors import EndpointError


def test_every_request_keeps_the_contract(server: Any, chat_answer: Callable[..., Any]) -> None:
    """Whole or streamed, with and without instruction, limit and further parameters."""
    server.answer(chat_answer("yes"))
    with CloudEndpoint(server.url, model="m", parameters={"temperature": 0, "logprobs": True}) as full:
        full.complete("p", instruction="i", max_tokens=5)
        list(full.stream("p", instruction="i", max_tokens=5))
    with CloudEndpoint(server.url, model="m") as bare:
        bare.complete("p")
        list(bare.stream("p"))
    assert len(server.seen) == 4
    for seen in server.seen:
        assert problems("CreateChatCompletionRequest", seen.json) == []


def test_the_tests_answers_keep_the_contract(chat_answer: Callable[..., Any]) -> None:
    """The client is tried on what a server really sends."""
    assert problems("CreateChatCompletionResponse", chat_answer("yes")) == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("CreateChatCompletionRequest", {"model": "m", "messages": []}),
        ("CreateChatCompletionRequest", {"messages": [{"role": "user", "content": "p"}]}),
        ("CreateChatCompletionResponse", {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}),
        ("CreateChatCompletionStreamResponse", {"choices": [{}]}),
        ("ErrorResponse", {"error": "because"}),
    ],
)
def test_the_contract_can_be_broken(schema: str, value: object) -> None:
    """The validator refuses what is none of it: by our own words alone, and by the document's."""
    assert problems(schema, value)


def test_our_words_agree_with_the_document() -> None:
    """Every schema that our words know is one of the document's, and what they require it requires."""
    document = public_document()
    for name, facts in FACTS.items():
        assert facts["required"]
        if document is not None:
            assert name in document["components"]["schemas"]


def test_a_named_directory_must_hold_the_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever names the data wants it used: its absence is an error, not less of a test."""
    monkeypatch.setenv("POCKETSEQ_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        public_document.__wrapped__()


def test_an_error_of_the_contract_is_quoted(server: Any) -> None:
    """The words of a server that keeps the contract reach the reader."""
    body = {"error": {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}
    assert problems("ErrorResponse", body) == []
    server.answer(body, status=404)
    with CloudEndpoint(server.url, model="m") as endpoint, pytest.raises(EndpointError, match="found 404: no such model"):
        endpoint.complete("p")
