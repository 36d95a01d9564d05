"""Answers of a teacher through text: a causal language model or a function, whole answers only."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from pocketseq.errors import InputError
from pocketseq.template import Template
from pocketseq_distill.labelling.teacher import Asking, Teacher
from pocketseq_distill.labelling.teacher import Question as Input
from pocketseq_distill.serving.batcher import MAX_WAITING
from pocketseq_distill.serving.problems import ApiError, bad_request, client_gone
from pocketseq_distill.serving.questions import Question
from pocketseq_distill.serving.replies import Choice, Reply

T = TypeVar("T")


class ThroughText:
    """What a teacher through text answers, one request at a time; see ``Answering``.

    It tells no tokens: none are counted, none are told, and nothing is streamed.
    """

    def __init__(self, teacher: Teacher, template: Template, *, max_batch: int) -> None:
        """Put both together.

        Args:
            teacher: What answers.
            template: How a prompt is read.
            max_batch: Prompts that go through the teacher together at most.
        """
        self._teacher = teacher
        self._template = template
        self._max_batch = max_batch
        self._free = asyncio.Lock()
        self._taken = 0

    async def respond(self, http: HttpRequest, question: Question, reply: Reply) -> Response:
        """See ``Answering``."""
        for name, asked in (("stream", question.stream), ("logprobs", question.logprobs)):
            if asked:
                raise bad_request(
                    f"{name}: a teacher through text gives whole answers without their tokens; leave it out",
                    param=name,
                    code="unsupported_parameter",
                )
        inputs = self._inputs(question)
        if self._taken + len(inputs) > MAX_WAITING:
            raise queue.Full
        self._taken += len(inputs)
        try:
            await self._turn(http)
            try:
                if await http.is_disconnected():
                    raise client_gone()
                choices = await _apart(lambda: self._choices(inputs, question))
            finally:
                self._free.release()
        finally:
            self._taken -= len(inputs)
        return JSONResponse(reply.whole(choices, None))

    async def _turn(self, http: HttpRequest) -> None:
        """Wait until the teacher is free, and take it; a client that goes away meanwhile waits no longer."""
        waiting = asyncio.timeout(None)  # ends when the client goes, at no time of its own
        gone = asyncio.create_task(_end_when_gone(http, waiting))
        try:
            async with waiting:
                await self._free.acquire()
        except TimeoutError:
            raise client_gone() from None
        finally:
            gone.cancel()

    def _inputs(self, question: Question) -> list[Input]:
        inputs = []
        for index, prompt in enumerate(question.prompts):
            try:
                inputs.append(Input(self._template.parse_prompt(prompt), question.seed + index))
            except InputError as error:
                raise bad_request(f"prompt {index}: {error}", param="prompt") from None
        return inputs

    def _choices(self, inputs: Sequence[Input], question: Question) -> list[Choice]:
        how = Asking(temperature=question.temperature, max_new_tokens=question.max_tokens, batch_size=self._max_batch)
        choices = []
        for index, given in enumerate(self._teacher.ask(inputs, how)):
            if not given.candidates:
                raise ApiError(502, f"prompt {index}: expected an answer of the teacher, found none: {given.failure} {given.why}")
            best = given.candidates[0]
            choices.append(Choice(index, best.text, None, best.finish_reason))
        return choices


async def _end_when_gone(http: HttpRequest, waiting: asyncio.Timeout) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
    waiting.reschedule(asyncio.get_running_loop().time())


async def _apart(work: Callable[[], T]) -> T:
    """Do what may take long in a thread of its own: those of a pool would keep the process from ending before it is done."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # it cannot be called off, so that its end always has somewhere to go

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="pocketseq-teacher", daemon=True).start()
    return await asyncio.wrap_future(done)
