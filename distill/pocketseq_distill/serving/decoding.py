"""Answers decoded here: an encoder-decoder's, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse

from pocketseq.errors import InputError
from pocketseq_distill.generation import Answer, Request, TeacherModel
from pocketseq_distill.serving.batcher import Batcher, Job
from pocketseq_distill.serving.problems import bad_request, client_gone
from pocketseq_distill.serving.questions import Question
from pocketseq_distill.serving.replies import Choice, Reply, usage
from pocketseq_distill.serving.streams import EventStream
from pocketseq_distill.serving.tokens import TokenNames


class Decoding:
    """What an encoder-decoder answers; see ``Answering``."""

    def __init__(self, model: TeacherModel, batcher: Batcher) -> None:
        """Put both together.

        Args:
            model: What is served.
            batcher: What answers.
        """
        self._model = model
        self._batcher = batcher

    async def respond(self, http: HttpRequest, question: Question, reply: Reply) -> Response:
        """See ``Answering``."""
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
                raise client_gone() from None
            raise
        finally:
            gone.cancel()
            for job in jobs:
                job.future.cancel()

    def _choice(self, index: int, answer: Answer, question: Question) -> Choice:
        names = TokenNames(self._model.tokenizer)
        tokens = list(map(names.name, answer.tokens, answer.token_logprobs)) if question.logprobs else None
        return Choice(index, answer.text, tokens, answer.finish_reason)


async def _cancel_when_gone(http: HttpRequest, jobs: Sequence[Job]) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
    for job in jobs:
        job.future.cancel()
