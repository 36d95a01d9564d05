"""Answers of a teacher through text: a causal language model or a function, whole answers only."""

from __future__ import annotations

import asyncio

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from pocketseq.template import Template
from pocketseq_distill.labelling.teacher import Asking, Teacher
from pocketseq_distill.labelling.teacher import Question as Input
from pocketseq_distill.serving.problems import ApiError, bad_request
from pocketseq_distill.serving.questions import Question
from pocketseq_distill.serving.replies import Choice, Reply


class ThroughText:
    """What a teacher through text answers, one request at a time; see ``Answering``.

    It tells no tokens: none are counted, none are told, and nothing is streamed.
    """

    def __init__(self, teacher: Teacher, template: Template) -> None:
        """Put both together.

        Args:
            teacher: What answers.
            template: How a prompt is read.
        """
        self._teacher = teacher
        self._template = template
        self._free = asyncio.Lock()

    async def respond(self, _http: HttpRequest, question: Question, reply: Reply) -> Response:
        """See ``Answering``."""
        for name, asked in (("stream", question.stream), ("logprobs", question.logprobs)):
            if asked:
                raise bad_request(
                    f"{name}: a teacher through text gives whole answers without their tokens; leave it out",
                    param=name,
                    code="unsupported_parameter",
                )
        async with self._free:
            choices = await asyncio.to_thread(self._choices, question)
        return JSONResponse(reply.whole(choices, None))

    def _choices(self, question: Question) -> list[Choice]:
        how = Asking(temperature=question.temperature, max_new_tokens=question.max_tokens, batch_size=len(question.prompts))
        inputs = [
            Input(self._template.parse_prompt(prompt), question.seed + place) for place, prompt in enumerate(question.prompts)
        ]
        choices = []
        for index, given in enumerate(self._teacher.ask(inputs, how)):
            if not given.candidates:
                raise ApiError(502, f"prompt {index}: expected an answer of the teacher, found none: {given.failure} {given.why}")
            best = given.candidates[0]
            choices.append(Choice(index, best.text, None, best.finish_reason))
        return choices
