"""The HTTP application: routes, checks, and answers whole or streamed."""

from __future__ import annotations

import asyncio
import hmac
import json
import queue
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pocketseq.errors import InputError
from pocketseq_distill.generation import Answer, Request, TeacherModel
from pocketseq_distill.serving.batcher import Batcher, Job
from pocketseq_distill.serving.problems import ApiError, bad_request
from pocketseq_distill.serving.questions import Question, read_chat, read_completion
from pocketseq_distill.serving.replies import ChatReply, Choice, CompletionReply, Reply, name_tokens, usage
from pocketseq_distill.serving.streams import EventStream

MAX_BODY_BYTES: Final = 1 << 20
"""Largest request body."""

Handler: TypeAlias = Callable[[HttpRequest], Awaitable[Response]]


class Api:
    """The endpoints over one model."""

    def __init__(self, model: TeacherModel, batcher: Batcher, *, name: str, api_key: str | None = None) -> None:
        """Put the application together.

        Args:
            model: What is served.
            batcher: What answers.
            name: The model's name in requests.
            api_key: Bearer key that every request under ``/v1`` must carry; None lets everybody in who reaches the server.
        """
        self._model = model
        self._batcher = batcher
        self._name = name
        self._api_key = api_key
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
        return await self._respond(http, read_completion(await _body(http), model=self._name), CompletionReply(self._name))

    async def _chat(self, http: HttpRequest) -> Response:
        return await self._respond(http, read_chat(await _body(http), model=self._name), ChatReply(self._name))

    def _description(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": self._created, "owned_by": "pocketseq"}

    def _keyed(self, handler: Handler) -> Handler:
        async def checked(http: HttpRequest) -> Response:
            scheme, _, given = http.headers.get("authorization", "").partition(" ")
            if self._api_key is not None and not (
                scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._api_key.encode())
            ):
                raise ApiError(401, "expected the header 'Authorization: Bearer …' with this server's key", code="invalid_api_key")
            return await handler(http)

        return checked

    async def _respond(self, http: HttpRequest, question: Question, reply: Reply) -> Response:
        requests = await asyncio.to_thread(self._requests, question)
        if question.stream:
            stream = EventStream(self._model, self._batcher, requests, question, reply)
            return StreamingResponse(stream.events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        answers = await self._answers(http, requests)
        choices = [self._choice(index, answer, question) for index, answer in enumerate(answers)]
        return JSONResponse(reply.whole(choices, usage(answers)))

    def _requests(self, question: Question) -> list[Request]:
        """Encode the prompts; context around the primary field is cut as the template says, the primary field never."""
        limit = self._model.max_new_tokens_limit
        budget = self._model.card.max_new_tokens if question.max_tokens is None else question.max_tokens
        if budget > limit:
            raise bad_request(
                f"expected at most {limit} tokens for an answer, found {budget}", param="max_tokens", code="context_length_exceeded"
            )
        template = self._model.card.template
        requests = []
        for index, prompt in enumerate(question.prompts):
            try:
                encoded = self._model.encode(template.parse_prompt(prompt))
            except InputError as error:
                raise bad_request(f"prompt {index}: {error}", param="prompt") from None
            if template.primary in encoded.truncated:
                most = next(field.max_tokens for field in template.fields if field.name == template.primary)
                raise bad_request(
                    f"prompt {index}: expected at most {most} tokens in {template.primary!r}, found more; shorten it",
                    param="prompt",
                    code="context_length_exceeded",
                )
            requests.append(Request(encoded, budget, question.temperature, question.seed + index))
        return requests

    async def _answers(self, http: HttpRequest, requests: Sequence[Request]) -> list[Answer]:
        """Wait for the answers; a client that goes away takes its requests out of the batcher."""
        jobs = self._batcher.submit_all(requests)
        gone = asyncio.create_task(_cancel_when_gone(http, jobs))
        try:
            return await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        except asyncio.CancelledError:
            if gone.done():
                raise ApiError(499, "the client closed the connection") from None
            raise
        finally:
            gone.cancel()
            for job in jobs:
                job.future.cancel()

    def _choice(self, index: int, answer: Answer, question: Question) -> Choice:
        tokens = name_tokens(self._model.tokenizer, answer.tokens, answer.token_logprobs) if question.logprobs else None
        return Choice(index, answer.text, tokens, answer.finish_reason)


async def _cancel_when_gone(http: HttpRequest, jobs: Sequence[Job]) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
    for job in jobs:
        job.future.cancel()


async def _body(http: HttpRequest) -> object:
    content = bytearray()
    async for chunk in http.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise ApiError(413, f"expected a body of at most {MAX_BODY_BYTES} bytes, found more")
    try:
        return json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise bad_request(f"expected JSON as body: {error}") from None


async def _refuse(_: HttpRequest, error: Exception) -> Response:
    if isinstance(error, queue.Full):
        error = ApiError(503, "expected a free place, found too many requests waiting; try again later")
    elif isinstance(error, HTTPException):
        error = ApiError(
            error.status_code, f"{error.detail}: expected /health, or models, completions or chat/completions under /v1"
        )
    elif not isinstance(error, ApiError):
        error = ApiError(500, "the server failed to answer; its log says why")
    return JSONResponse(error.body, status_code=error.status)
