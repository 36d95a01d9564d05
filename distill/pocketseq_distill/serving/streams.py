"""Server-sent events: tokens from the worker's thread become chunks for one client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from pocketseq.streaming import TextStream, text_stream
from pocketseq_distill.generation import Answer, Request, TeacherModel
from pocketseq_distill.serving.batcher import Batcher, Job
from pocketseq_distill.serving.problems import ApiError
from pocketseq_distill.serving.questions import Question
from pocketseq_distill.serving.replies import Choice, Reply, usage
from pocketseq_distill.serving.tokens import TokenLogprob, TokenNames

_News: TypeAlias = tuple[int, float] | Future[Answer]
"""A token with its log-probability, or the end of an answer."""


@dataclass(slots=True)
class _Row:
    """One choice on its way."""

    text: TextStream
    names: TokenNames
    """Gives its tokens their texts."""
    untold: list[TokenLogprob] = field(default_factory=list)
    """Tokens that no chunk has told yet."""


class EventStream:
    """The answers to one request as server-sent events."""

    def __init__(
        self, model: TeacherModel, batcher: Batcher, requests: Sequence[Request], question: Question, reply: Reply
    ) -> None:
        """Hand the requests to the batcher; to be called in an event loop.

        Args:
            model: What answers.
            batcher: What batches.
            requests: The encoded prompts.
            question: What the client asked for.
            reply: The form of the chunks.

        Raises:
            queue.Full: too many requests are waiting.
        """
        self._model = model
        self._question = question
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[tuple[int, _News]] = asyncio.Queue()
        self._rows = [
            _Row(text_stream(model.card.template, model.tokenizer, request.encoded), TokenNames(model.tokenizer))
            for request in requests
        ]
        self._jobs: list[Job] = batcher.submit_all(requests, self._hear_token)
        for index, job in enumerate(self._jobs):
            job.future.add_done_callback(partial(self._hear_end, index))

    async def events(self) -> AsyncIterator[bytes]:
        """Give the events, the last of them ``[DONE]``; closing the iterator stops the model."""
        try:
            for index in range(len(self._rows)):
                if opening := self._reply.opening(index):
                    yield _event(opening)
            answers: list[Answer] = []
            while len(answers) < len(self._jobs):
                index, news = await self._news.get()
                row = self._rows[index]
                if isinstance(news, Future):
                    answers.append(news.result())
                    yield self._chunk(index, row.text.finish(), answers[-1])
                    continue
                token, logprob = news
                if self._question.logprobs:
                    row.untold.append(row.names.name(token, logprob))
                if token not in self._model.decoder.end_ids and (piece := row.text.push(token)):
                    yield self._chunk(index, piece)
            if self._question.include_usage:
                yield _event(self._reply.closing(usage(answers)))
            yield b"data: [DONE]\n\n"
        except Exception:  # the status is sent already: an event is all that can still be said; the batcher has logged why
            yield _event(ApiError(500, "the server failed to answer; its log says why").body)
        finally:
            for job in self._jobs:
                job.future.cancel()

    def _chunk(self, index: int, piece: str, answer: Answer | None = None) -> bytes:
        row = self._rows[index]
        tokens, row.untold = row.untold, []
        told = tokens if self._question.logprobs else None
        return _event(self._reply.chunk(Choice(index, piece, told, answer.finish_reason if answer else None)))

    def _hear_token(self, index: int, token: int, logprob: float) -> None:
        self._tell(index, (token, logprob))

    def _hear_end(self, index: int, future: Future[Answer]) -> None:
        self._tell(index, future)

    def _tell(self, index: int, news: _News) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has ended, and nobody listens any more
            self._loop.call_soon_threadsafe(self._news.put_nowait, (index, news))


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n\n"
