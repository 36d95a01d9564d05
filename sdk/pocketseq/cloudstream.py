"""A streamed answer of an OpenAI-compatible API."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any

from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointError, EndpointResponseError, EndpointTimeoutError, EndpointUnavailableError
from pocketseq.eventloop import BackgroundLoop
from pocketseq.exchange import Exchange, completion_of, failure_of


class CloudStream:
    """A ``CompletionStream``; its request begins at once."""

    def __init__(
        self, background: BackgroundLoop, completions: Any, exchange: Exchange, body: dict[str, Any], *, limit_s: float
    ) -> None:
        """Begin the request.

        Args:
            background: Where it runs.
            completions: The client's chat completions.
            exchange: What is kept of it.
            body: Arguments of the client's ``create``.
            limit_s: Seconds from now to the last piece.
        """
        self._exchange = exchange
        self._completions = completions
        self._until_s = time.monotonic() + limit_s
        self._limit_s = limit_s
        self._news: queue.SimpleQueue[str | Completion | EndpointError] = queue.SimpleQueue()
        self._completion: Completion | None = None
        try:
            self._future = background.start(self._pour(body))
        except CancelledError:
            raise self._closed() from None

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                news = self._news.get(timeout=max(0.0, self._until_s - time.monotonic()))
            except queue.Empty:
                self.close()
                news = EndpointTimeoutError(
                    f"{self._exchange.url}: expected a whole answer within {self._limit_s * 1000:.0f} ms, found none",
                    request_bytes=self._exchange.request_bytes,
                    response_bytes=self._exchange.response_bytes,
                )
            if isinstance(news, EndpointError):
                raise news
            if isinstance(news, Completion):
                self._completion = news
                return
            yield news

    @property
    def completion(self) -> Completion:
        """The whole answer, once the pieces have ended."""
        if self._completion is None:
            raise EndpointResponseError(f"{self._exchange.url}: expected the pieces to be read to their end first")
        return self._completion

    def close(self) -> None:
        """Give it up; from any thread."""
        self._future.cancel()

    async def _pour(self, body: dict[str, Any]) -> None:
        news: Completion | EndpointError = self._closed()
        with self._exchange:
            try:
                news = await self._read(await self._completions.create(**body, timeout=self._limit_s))
            except Exception as error:
                news = failure_of(error, self._exchange)
            finally:  # also where the future was cancelled
                if isinstance(news, EndpointError):
                    news.request_bytes = self._exchange.request_bytes
                self._news.put(news)

    async def _read(self, chunks: Any) -> Completion:
        """Pass the pieces on, and put the whole answer together."""
        async with chunks:
            if "json" in self._exchange.response.headers.get("content-type", ""):
                return self._whole(await self._exchange.response.aread())
            pieces: list[str] = []
            refusal = ""
            reason = usage = model = None
            logprobs: list[Any] = []
            async for chunk in chunks:
                model, usage = getattr(chunk, "model", None) or model, getattr(chunk, "usage", None) or usage
                choices = getattr(chunk, "choices", None)
                for choice in choices if isinstance(choices, list) else []:
                    reason = getattr(choice, "finish_reason", None) or reason
                    logprobs += getattr(getattr(choice, "logprobs", None), "content", None) or []
                    delta = getattr(choice, "delta", None)
                    piece, words = getattr(delta, "content", None), getattr(delta, "refusal", None)
                    refusal += words if isinstance(words, str) else ""
                    if isinstance(piece, str) and piece:
                        pieces.append(piece)
                        self._news.put(piece)
        if not isinstance(reason, str):
            raise EndpointResponseError(
                "expected a stream that tells why it ends, found one that just ended; half an answer is none"
            )
        # As a server that answers whole says it: no text where its filter let none through, rather than an empty one.
        content = "".join(pieces) if pieces or reason != "content_filter" else None
        message = SimpleNamespace(content=content, refusal=refusal or None)
        choice = SimpleNamespace(message=message, finish_reason=reason, logprobs=SimpleNamespace(content=logprobs))
        return completion_of(SimpleNamespace(choices=[choice], usage=usage, model=model), self._exchange)

    def _whole(self, content: bytes) -> Completion:
        """The answer of a server that does not stream."""
        answer = json.loads(content, object_hook=lambda fields: SimpleNamespace(**fields))
        completion = completion_of(answer, self._exchange)
        self._news.put(completion.text)
        return completion

    def _closed(self) -> EndpointUnavailableError:
        return EndpointUnavailableError(
            f"{self._exchange.url}: expected an open endpoint, found one that was closed", retryable=False
        )
