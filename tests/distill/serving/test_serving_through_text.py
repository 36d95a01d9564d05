"""A run whose teacher answers through text is served by that teacher."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from pocketseq import CloudEndpoint
from pocketseq.errors import PocketSeqError
from pocketseq_distill.serving.app import Api
from pocketseq_distill.serving.server import open_answering

from .conftest import listening

HEAD = '[recipe]\nname = "own"\ntask = "own"\nformat = 1\n'
TEACHER = """
def answer(rows):
    return [None if row["text"] == "no" else row["text"].upper() for row in rows]
"""


@pytest.fixture
def run(plain_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory in which a function labelled."""
    shutil.copytree(plain_path, tmp_path / "run/teacher")
    (tmp_path / "teacher_of_capitals.py").write_text(TEACHER)
    (tmp_path / "run/recipe.toml").write_text(f'{HEAD}[teacher]\nfunction = "teacher_of_capitals:answer"\n')
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "run"


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
