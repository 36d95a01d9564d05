"""The HTTP application: routes and checks."""

from __future__ import annotations

import hmac
import json
import queue
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pocketseq_distill.serving.locality import check_local
from pocketseq_distill.serving.problems import ApiError, bad_request, client_gone
from pocketseq_distill.serving.questions import Question, read_chat, read_completion
from pocketseq_distill.serving.replies import ChatReply, CompletionReply, Reply

MAX_BODY_BYTES: Final = 1 << 20
"""Largest request body."""

Handler: TypeAlias = Callable[[HttpRequest], Awaitable[Response]]


class Answering(Protocol):
    """What stands behind the endpoints."""

    async def respond(self, http: HttpRequest, question: Question, reply: Reply) -> Response:
        """Answer a request that is understood, in the form of ``reply``.

        Raises:
            ApiError: it cannot answer, or not in the way that was asked for.
        """
        ...


class Api:
    """The endpoints over one model."""

    def __init__(self, answering: Answering, *, name: str, api_key: str | None = None, local: bool = False) -> None:
        """Put the application together.

        Args:
            answering: What answers.
            name: The model's name in requests.
            api_key: Bearer key that every request under ``/v1`` must carry; None lets everybody in who reaches the server.
            local: Whether it is for this machine alone: without a key, web pages of other sites are then kept out as well.
        """
        self._answering = answering
        self._name = name
        self._api_key = api_key
        self._local = local
        self._created = int(time.time())

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._keyed(self._models)),
                Route("/v1/models/{name:path}", self._keyed(self._one_model)),
                Route("/v1/completions", self._keyed(self._completions), methods=["POST"]),
                Route("/v1/chat/completions", self._keyed(self._chat), methods=["POST"]),
            ],
            exception_handlers=dict.fromkeys((ApiError, HTTPException, queue.Full, Exception), _refuse),
        )

    async def _health(self, _: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def _models(self, _: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self._description()]})

    async def _one_model(self, http: HttpRequest) -> Response:
        if http.path_params["name"] != self._name:
            raise ApiError(404, f"expected the model {self._name!r}, found {http.path_params['name']!r}", code="model_not_found")
        return JSONResponse(self._description())

    async def _completions(self, http: HttpRequest) -> Response:
        return await self._answering.respond(
            http, read_completion(await _body(http), model=self._name), CompletionReply(self._name)
        )

    async def _chat(self, http: HttpRequest) -> Response:
        question = read_chat(await _body(http), model=self._name)
        return await self._answering.respond(http, question, ChatReply(self._name))

    def _description(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": self._created, "owned_by": "pocketseq"}

    def _keyed(self, handler: Handler) -> Handler:
        async def checked(http: HttpRequest) -> Response:
            if self._api_key is not None:
                scheme, _, given = http.headers.get("authorization", "").partition(" ")
                if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._api_key.encode()):
                    raise ApiError(
                        401, "expected the header 'Authorization: Bearer …' with this server's key", code="invalid_api_key"
                    )
            elif self._local:
                check_local(http.headers)
            return await handler(http)

        return checked


async def _body(http: HttpRequest) -> object:
    content = bytearray()
    try:
        async for chunk in http.stream():
            content += chunk
            if len(content) > MAX_BODY_BYTES:
                raise ApiError(413, f"expected a body of at most {MAX_BODY_BYTES} bytes, found more")
    except ClientDisconnect:
        raise client_gone() from None
    try:
        return json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise bad_request(f"expected JSON as body: {error}") from None


async def _refuse(_: HttpRequest, error: Exception) -> Response:
    headers = None
    if isinstance(error, queue.Full):
        error = ApiError(503, "expected a free place, found too many requests waiting; try again later")
    elif isinstance(error, HTTPException):
        headers = error.headers
        allowed = sorted((headers or {}).get("Allow", "").split(", "))  # as the framework gives them, in no order
        expected = ", ".join(filter(None, allowed)) or "/health, or models, completions or chat/completions under /v1"
        error = ApiError(error.status_code, f"{error.detail}: expected {expected}")
    elif not isinstance(error, ApiError):
        error = ApiError(500, "the server failed to answer; its log says why")
    return JSONResponse(error.body, status_code=error.status, headers=headers)
