"""A run whose teacher answers through text is served by that teacher."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType

import openai
import pytest
from starlette.requests import Request
from starlette.responses import Response

from pocketseq import CloudEndpoint
from pocketseq.errors import PocketSeqError
from pocketseq_distill.labelling.function import FunctionTeacher
from pocketseq_distill.serving.app import Api
from pocketseq_distill.serving.problems import ApiError
from pocketseq_distill.serving.questions import read_completion
from pocketseq_distill.serving.replies import CompletionReply
from pocketseq_distill.serving.server import open_answering
from pocketseq_distill.serving.through_text import ThroughText

from .conftest import TEMPLATE, listening

HEAD = '[recipe]\nname = "own"\ntask = "own"\nformat = 1\n'
TEACHER = """
from threading import Event

seen, entered, gate = [], Event(), Event()
gate.set()


def answer(rows):
    seen.append([row["text"] for row in rows])
    entered.set()
    assert gate.wait(30)
    return [None if row["text"] == "no" else row["text"].upper() for row in rows]
"""


@pytest.fixture
def run(plain_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory in which a function labelled."""
    shutil.copytree(plain_path, tmp_path / "run/teacher")
    (tmp_path / "teacher_of_capitals.py").write_text(TEACHER)
    (tmp_path / "run/recipe.toml").write_text(f'{HEAD}[teacher]\nfunction = "teacher_of_capitals:answer"\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "teacher_of_capitals", raising=False)
    return tmp_path / "run"


@pytest.fixture
def teacher(url: str) -> Iterator[ModuleType]:
    """The module of the function that is served."""
    yield sys.modules["teacher_of_capitals"]
    sys.modules["teacher_of_capitals"].gate.set()


@pytest.fixture
def url(run: Path) -> Iterator[str]:
    with open_answering(run / "teacher", run, max_batch=4) as answering, listening(Api(answering, name="run")) as port:
        yield f"http://127.0.0.1:{port}/v1"


def test_its_own_answers_come_back(url: str) -> None:
    """To OpenAI's client in both forms, several prompts at once, and to the endpoint that a hybrid asks; no tokens are made up."""
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        completion = client.completions.create(model="run", prompt=["ab", "c d"])
        chat = client.chat.completions.create(model="run", messages=[{"role": "user", "content": "ab"}])
    assert [choice.text for choice in completion.choices] == ["AB", "C D"]
    assert completion.usage is None
    assert chat.choices[0].message.content == "AB"
    with CloudEndpoint(url, model="run") as endpoint:
        assert endpoint.complete("xyz").text == "XYZ"


def test_what_it_cannot_tell_is_refused(url: str) -> None:
    """Streams and log-probabilities would need its tokens; a row that it declines has no answer to give."""
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        for options in ({"stream": True}, {"logprobs": 1}):
            with pytest.raises(openai.BadRequestError, match="a teacher through text gives whole answers without their tokens"):
                client.completions.create(model="run", prompt="ab", **options)
        with pytest.raises(openai.InternalServerError, match="expected an answer of the teacher, found none: refused"):
            client.completions.create(model="run", prompt="no")


def test_what_is_no_prompt_is_refused(url: str) -> None:
    """A prompt without text is the client's mistake, in both forms."""
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="prompt 1: expected text in the field 'text'"):
            client.completions.create(model="run", prompt=["ab", " "])
        with pytest.raises(openai.BadRequestError, match="prompt 0: expected text in the field 'text'"):
            client.chat.completions.create(model="run", messages=[{"role": "user", "content": ""}])


def test_it_is_asked_no_more_at_once_than_allowed(url: str, teacher: ModuleType) -> None:
    """The prompts of one request go through it in batches of the server's bound."""
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        completion = client.completions.create(model="run", prompt=["ab"] * 10)
    assert [choice.text for choice in completion.choices] == ["AB"] * 10
    assert [len(rows) for rows in teacher.seen] == [4, 4, 2]


def test_who_went_away_is_not_answered(url: str, teacher: ModuleType) -> None:
    """A client that leaves while another is answered costs the teacher nothing."""
    port = int(url.split(":")[2].split("/")[0])
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client, ThreadPoolExecutor(1) as pool:
        teacher.gate.clear()
        first = pool.submit(client.completions.create, model="run", prompt="first")
        assert teacher.entered.wait(30)
        with socket.create_connection(("127.0.0.1", port)) as leaving:
            leaving.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert leaving.recv(9999)
            body = json.dumps({"model": "run", "prompt": "left"}).encode()
            leaving.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        later = HTTPConnection("127.0.0.1", port)  # answered, it proves that the server has read what was sent before
        later.request("GET", "/health")
        assert later.getresponse().status == 200
        later.close()
        teacher.gate.set()
        assert first.result(30).choices[0].text == "FIRST"
        assert client.completions.create(model="run", prompt="last").choices[0].text == "LAST"
    assert teacher.seen == [["first"], ["last"]]


def test_who_went_away_makes_room_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the teacher is at work on another's prompt: a client that left takes no place of those that wait."""
    monkeypatch.setattr("pocketseq_distill.serving.through_text.MAX_WAITING", 2)
    seen: list[str] = []
    entered, gate = threading.Event(), threading.Event()

    def answer(rows: Sequence[Mapping[str, str]]) -> list[str]:
        seen.extend(row["text"] for row in rows)
        entered.set()
        assert gate.wait(60)
        return ["x"] * len(rows)

    async def serve() -> None:
        served, leaving = ThroughText(FunctionTeacher(answer), TEMPLATE, max_batch=4), asyncio.Event()

        def ask(prompt: str, leaving: asyncio.Event) -> asyncio.Task[Response]:
            async def receive() -> dict[str, str]:
                await leaving.wait()
                return {"type": "http.disconnect"}

            question = read_completion({"model": "run", "prompt": prompt}, model="run")
            return asyncio.create_task(served.respond(Request({"type": "http"}, receive), question, CompletionReply("run")))

        answered = [ask("first", asyncio.Event())]
        assert await asyncio.to_thread(entered.wait, 30)
        left = ask("left", leaving)
        await asyncio.sleep(0)
        leaving.set()
        try:
            with pytest.raises(ApiError, match="the client closed the connection"):
                await asyncio.wait_for(left, 30)
            answered.append(ask("last", asyncio.Event()))
        finally:
            gate.set()
        assert [response.status_code for response in await asyncio.gather(*answered)] == [200, 200]

    asyncio.run(serve())
    assert seen == ["first", "last"]


def test_too_many_waiting_prompts_are_a_503(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound a request is refused at once, and what it would have taken is free for the next."""
    monkeypatch.setattr("pocketseq_distill.serving.through_text.MAX_WAITING", 2)
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError, match="too many requests waiting"):
            client.completions.create(model="run", prompt=["ab"] * 3)
        assert len(client.completions.create(model="run", prompt=["ab"] * 2).choices) == 2


def test_a_teacher_at_work_does_not_keep_the_server(run: Path) -> None:
    """SIGTERM ends the process once the grace is over, though a function never comes back."""
    (run.parent / "endless.py").write_text(
        "from threading import Event\n\n\ndef answer(rows):\n    print('asked', flush=True)\n    Event().wait()\n"
    )
    (run / "recipe.toml").write_text(f'{HEAD}[teacher]\nfunction = "endless:answer"\n')
    code = (
        f"import sys; sys.path.insert(0, {str(run.parent)!r}); from pocketseq.cli import main; "
        "from pocketseq_distill.serving import server; server._GRACE_S = 1; "
        f"sys.exit(main(['serve', {str(run)!r}, '--port', '0']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[4]
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client, ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.completions.create, model="run", prompt="ab")
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            with pytest.raises(openai.APIError):
                asked.result(30)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_an_endpoint_is_not_served_again(run: Path) -> None:
    """Who asks would not know that it costs; the message says where it is, and what could be served in its place."""
    (run / "recipe.toml").write_text(
        f'{HEAD}[teacher.endpoint]\nurl = "https://far.example/v1"\nmodel = "m"\nprompt = "{{text}}"\n'
    )
    with (
        pytest.raises(PocketSeqError, match=r"found an endpoint; ask it at https://far\.example/v1, or serve .*teacher"),
        open_answering(run / "teacher", run, max_batch=4),
    ):
        pass
