"""The HTTP API, asked by OpenAI's own client with strict validation, and by raw requests where that client is too polite."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import openai
import pytest

from pocketseq.cloud import CloudEndpoint
from pocketseq.hybrid import Hybrid
from pocketseq.policy import Policy
from pocketseq.testing import FakeModel
from pocketseq_distill.generation import Answer, Request, TeacherModel

from .conftest import TEMPLATE, Served

TEXTS = ["for name in range", "retur value", "while total", "print self", "index"]


def chat(client: openai.OpenAI, text: str, **more: Any) -> Any:
    return client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": text}], **more)


def expected(served: Served, text: str, **more: Any) -> Answer:
    return served.model.answer([served.model.card.template.parse_prompt(text)], **more)[0]


def test_models(served: Served) -> None:
    """The served model is listed under its directory's name and described by it; another name is unknown."""
    with served.client() as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").object == "model"
        with pytest.raises(openai.NotFoundError, match="expected the model 'tiny'") as caught:
            client.models.retrieve("other/model")
    assert caught.value.code == "model_not_found"


def test_health(served: Served) -> None:
    """A supervisor can ask whether the server lives."""
    connection = HTTPConnection("127.0.0.1", served.port)
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read()) == {"status": "ok"}
    connection.close()


@pytest.mark.parametrize("text", TEXTS)
def test_a_completion_is_the_model_s_greedy_answer(served: Served, text: str) -> None:
    """Both APIs answer with the checkpoint's own greedy answer, its reason to end and the counts of its tokens."""
    answer = expected(served, text)
    with served.client() as client:
        completion = client.completions.create(model="tiny", prompt=text)
        message = chat(client, text)
    assert completion.choices[0].text == message.choices[0].message.content == answer.text
    assert completion.choices[0].finish_reason == message.choices[0].finish_reason == answer.finish_reason
    for usage in (completion.usage, message.usage):
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (answer.prompt_tokens, len(answer.tokens))


def test_fields_come_as_the_template_writes_them(served: Served) -> None:
    """A prompt that the template rendered from several fields is read as those fields."""
    source = {"before": "value", "text": "retur"}
    with served.client() as client:
        completion = client.completions.create(model="tiny", prompt=TEMPLATE.render_prompt(source))
    assert completion.choices[0].text == served.model.answer([source])[0].text


def test_edits_are_served_as_whole_lines(served_edits: Served) -> None:
    """A checkpoint that answers with edits serves the whole text, streamed or not."""
    with served_edits.lenient_client() as client:
        for text in TEXTS:
            answer = expected(served_edits, text)
            completion = client.completions.create(model="tiny", prompt=text)
            pieces = [chunk.choices[0].text for chunk in client.completions.create(model="tiny", prompt=text, stream=True)]
            assert completion.choices[0].text == "".join(pieces) == answer.text


def test_many_prompts_in_one_request(served: Served) -> None:
    """A list of prompts is answered with one choice each, in order."""
    with served.client() as client:
        completion = client.completions.create(model="tiny", prompt=TEXTS)
    assert [choice.index for choice in completion.choices] == list(range(len(TEXTS)))
    assert [choice.text for choice in completion.choices] == [expected(served, text).text for text in TEXTS]


def test_the_last_user_message_is_the_prompt(served: Served) -> None:
    """System messages and earlier turns are not heeded; a content in text parts is put together."""
    messages: Any = [
        {"role": "system", "content": "You repair lines."},
        {"role": "user", "content": "something else"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": [{"type": "text", "text": "while "}, {"type": "text", "text": "total"}]},
    ]
    with served.client() as client:
        answer = client.chat.completions.create(model="tiny", messages=messages)
    assert answer.choices[0].message.content == expected(served, "while total").text


def test_logprobs_are_raw(served: Served) -> None:
    """Each emitted token, the end token included, comes with its log-probability under the raw distribution."""
    answer = expected(served, TEXTS[0])
    with served.client() as client:
        completion = client.completions.create(model="tiny", prompt=TEXTS[0], logprobs=1).choices[0].logprobs
        message = chat(client, TEXTS[0], logprobs=True).choices[0].logprobs
    assert completion is not None
    assert completion.token_logprobs == pytest.approx(list(answer.token_logprobs), abs=1e-4)
    assert completion.tokens is not None
    assert completion.text_offset == [len("".join(completion.tokens[:place])) for place in range(len(completion.tokens))]
    assert [token.logprob for token in message.content] == pytest.approx(list(answer.token_logprobs), abs=1e-4)
    assert [token.token for token in message.content] == completion.tokens


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_tokens_are_the_content(served: Served, text: str) -> None:
    """The bytes of all tokens are the message, streamed or not, and special tokens have none."""
    drawn: Any = {"logprobs": True, "temperature": 2, "seed": 3}
    with served.lenient_client() as client:
        whole = chat(client, text, **drawn).choices[0]
        chunks = [chunk.choices[0].logprobs for chunk in chat(client, text, stream=True, **drawn)]
    streamed = [token for logprobs in chunks if logprobs for token in logprobs.content]
    assert streamed == whole.logprobs.content
    assert b"".join(bytes(token.bytes or []) for token in streamed).decode("utf-8", "replace") == whole.message.content
    special = [served.model.tokenizer.special_id(token.token) is not None for token in streamed]
    assert [token.bytes is None for token in streamed] == special


def test_no_logprobs_unless_asked(served: Served) -> None:
    """An answer holds no log-probabilities unless the client wants them."""
    with served.client() as client:
        assert client.completions.create(model="tiny", prompt="x").choices[0].logprobs is None
        assert chat(client, "x").choices[0].logprobs is None


def test_max_tokens_bounds_the_answer(served: Served) -> None:
    """A bound cuts the answer, and the reason says so."""
    whole = expected(served, TEXTS[0])
    assert len(whole.tokens) > 2
    with served.client() as client:
        completion = client.completions.create(model="tiny", prompt=TEXTS[0], max_tokens=2)
        message = chat(client, TEXTS[0], max_completion_tokens=2)
    for answer in (completion, message):
        assert answer.usage is not None
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 2)


def test_sampling_follows_its_seed(served: Served) -> None:
    """The same seed gives the same answer, beside whatever else is in the batch."""
    with served.client() as client, ThreadPoolExecutor(4) as pool:
        alone = client.completions.create(model="tiny", prompt=TEXTS[0], temperature=1.5, seed=3).choices[0].text
        crowd = list(
            pool.map(
                lambda seed: client.completions.create(model="tiny", prompt=TEXTS[0], temperature=1.5, seed=seed).choices[0].text,
                [3, 4, 3, 5, 3, 6],
            )
        )
    assert crowd[0] == crowd[2] == crowd[4] == alone
    assert len(set(crowd)) > 1


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_tells_the_same_piece_by_piece(served: Served, text: str) -> None:
    """Chunks concatenate to the whole answer, tokens are told once, and the last chunks hold reason and usage."""
    answer = expected(served, text)
    with served.lenient_client() as client:
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        completions = list(client.completions.create(model="tiny", prompt=text, logprobs=0, **options))
        messages = list(chat(client, text, logprobs=True, **options))
    assert "".join(chunk.choices[0].text for chunk in completions[:-1]) == answer.text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in messages[:-1]) == answer.text
    assert messages[0].choices[0].delta.role == "assistant"
    told = [logprob for chunk in completions[:-1] for logprob in chunk.choices[0].logprobs.token_logprobs]
    assert told == pytest.approx(list(answer.token_logprobs), abs=1e-4)
    told = [token.logprob for chunk in messages[1:-1] for token in chunk.choices[0].logprobs.content]
    assert told == pytest.approx(list(answer.token_logprobs), abs=1e-4)
    for chunks in (completions, messages):
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == answer.finish_reason
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == len(answer.tokens)
        assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_of_many_prompts(served: Served) -> None:
    """Chunks of several prompts name the prompt that they belong to."""
    texts = dict.fromkeys(range(len(TEXTS)), "")
    with served.lenient_client() as client:
        for chunk in client.completions.create(model="tiny", prompt=TEXTS, stream=True):
            texts[chunk.choices[0].index] += chunk.choices[0].text
    assert list(texts.values()) == [expected(served, text).text for text in TEXTS]


def test_a_stream_ends_in_done(served: Served) -> None:
    """The wire format is server-sent events that end in [DONE]."""
    connection = HTTPConnection("127.0.0.1", served.port)
    connection.request("POST", "/v1/completions", json.dumps({"model": "tiny", "prompt": "x", "stream": True}))
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    assert response.getheader("content-type", "").startswith("text/event-stream")
    assert content.endswith("\n\ndata: [DONE]\n\n")
    assert all(line.startswith("data: ") for line in content.split("\n\n")[:-1])


def test_context_is_cut_to_its_budget(served: Served) -> None:
    """Context around the primary field is cut as the template says, not refused."""
    status, _ = served.post("/v1/completions", {"model": "tiny", "prompt": json.dumps({"before": "name " * 500, "text": "x"})})
    assert status == 200


def test_fields_that_change_nothing_pass(served: Served) -> None:
    """Clients that spell out the defaults of fields that this server does not heed are served; so are those that say who asks."""
    neutral = {"n": 1, "top_p": 1, "presence_penalty": 0, "stop": None, "best_of": 1, "echo": False}
    neutral.update(min_p=0.0, repetition_penalty=1.0, reasoning_effort="none", verbosity="medium", modalities=["text"])
    neutral.update(user="somebody", store=False, metadata={"job": "1"}, safety_identifier="a", prompt_cache_key="b")
    neutral.update(cache_prompt=True, keep_alive="5m")
    for top_k in (None, 0, -1):
        assert served.post("/v1/completions", {"model": "tiny", "prompt": "x", **neutral, "top_k": top_k})[0] == 200


def test_concurrent_requests_share_batches(model: TeacherModel, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that arrive together are decoded together, and each gets its own answer."""
    batches: list[int] = []
    decode = model.decode

    def counted(requests: list[Request], *more: Any) -> list[Answer]:
        batches.append(len(requests))
        return decode(requests, *more)

    texts = [f"{text} {number}" for number in range(6) for text in TEXTS]
    answers = [model.answer([text])[0].text for text in texts]
    monkeypatch.setattr(model, "decode", counted)
    start = threading.Barrier(len(texts))
    with serve(model) as served, served.client() as client, ThreadPoolExecutor(len(texts)) as pool:

        def ask(text: str) -> str:
            start.wait()
            return client.completions.create(model="tiny", prompt=text).choices[0].text

        found = list(pool.map(ask, texts))
    assert found == answers
    assert sum(batches) == len(texts)
    assert len(batches) < len(texts)
    assert max(batches) <= 16


def test_a_hybrid_over_the_server(served: Served) -> None:
    """The SDK's hybrid takes the server as its cloud: unsure answers come from there, with a receipt."""
    local = FakeModel("local", confidence=0.1, threshold=0.5, template=TEMPLATE)
    source = {"before": "value", "text": "retur"}
    with CloudEndpoint(served.url, model="tiny", parameters={"logprobs": True}) as cloud:
        suggestion = Hybrid(local, cloud, Policy(deadline_ms=None)).suggest(source)
        completion = cloud.complete("retur")
    answer = served.model.answer([source])[0]
    if answer.finish_reason == "stop":
        assert (suggestion.text, suggestion.source) == (answer.text, "cloud")
    else:
        assert "cut at its token limit" in suggestion.reason
    assert suggestion.receipt.completion_tokens == len(answer.tokens)
    logprobs = expected(served, "retur").token_logprobs
    assert completion.mean_logprob == pytest.approx(sum(logprobs) / len(logprobs), abs=1e-4)
