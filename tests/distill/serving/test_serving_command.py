"""``pocketseq serve`` as a person or a supervisor starts and ends it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from pocketseq.cli import main
from pocketseq.errors import PocketSeqError
from pocketseq_distill.serving.server import open_listener, url_of


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pocketseq", "serve", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serves_until_told_to_end(plain_path: Path, ending: signal.Signals, code: int) -> None:
    """The ready line names the model and the real URL; pages of other sites are kept out; SIGTERM and Ctrl-C end it cleanly."""
    process = start(str(plain_path), "--port", "0")
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        assert words[:4] == ["ready:", "model", "tiny", "at"]
        assert words[4].startswith("http://127.0.0.1:")
        with openai.OpenAI(base_url=words[4], api_key="none", max_retries=0) as client:
            assert client.completions.create(model="tiny", prompt="x").object == "text_completion"
            with pytest.raises(openai.PermissionDeniedError, match="another site"):
                client.completions.create(model="tiny", prompt="x", extra_headers={"Origin": "https://far.example"})
        process.send_signal(ending)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in errors


def test_a_port_in_use_is_said_at_once(plain_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is taken is one line on standard error, before any model is loaded."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", str(plain_path), "--port", port]) == 2
    errors = capsys.readouterr().err
    assert f"expected to listen on 127.0.0.1 port {port}, found: Address already in use; choose another --port" in errors


def test_a_port_is_taken_before_the_model_is_loaded() -> None:
    """Of two servers that start on one port the second is told so, though the first does not answer yet."""
    with open_listener("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}/v1"
        with pytest.raises(PocketSeqError, match=f"port {port}, found: Address already in use"), open_listener("127.0.0.1", port):
            pass


def test_a_host_that_is_not_here(plain_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An address of another machine cannot be listened on, and the message says so."""
    assert main(["serve", str(plain_path), "--host", "192.0.2.1", "--port", "0", "--api-key-env", "PATH"]) == 2
    assert "expected to listen on 192.0.2.1" in capsys.readouterr().err


def test_a_missing_key_is_refused(plain_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is asked for but not there must not become an open server; what was given may be the key, and is not repeated."""
    monkeypatch.delenv("POCKETSEQ_TEST_KEY", raising=False)
    assert main(["serve", str(plain_path), "--api-key-env", "POCKETSEQ_TEST_KEY"]) == 2
    told = capsys.readouterr().err
    assert "expected a key in the environment variable that --api-key-env names, found none" in told
    assert "POCKETSEQ_TEST_KEY" not in told


@pytest.mark.parametrize("key", ["schl\u00fcssel", "s3\ncret"])
def test_a_key_that_no_header_can_carry_is_refused(
    key: str, plain_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could ever give it; it is not repeated."""
    monkeypatch.setenv("POCKETSEQ_TEST_KEY", key)
    assert main(["serve", str(plain_path), "--host", "192.0.2.1", "--port", "0", "--api-key-env", "POCKETSEQ_TEST_KEY"]) == 2
    told = capsys.readouterr().err
    assert "expected a key of printable ASCII characters" in told
    assert key not in told


def test_an_open_server_is_pointed_out(plain_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Listening beyond this machine without a key is allowed, and said."""
    assert main(["serve", str(plain_path), "--host", "192.0.2.1", "--port", "0"]) == 2
    assert "everybody who reaches 192.0.2.1 can use this model" in capsys.readouterr().err


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without an encoder-decoder is one line on standard error."""
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["uvicorn", "torch"])
def test_a_missing_extra_is_named(module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the libraries of the distill extra the message ends in the line that installs them."""
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["serve", "anything"]) == 2
    assert capsys.readouterr().err.endswith('pip install "pocketseq[distill]"\n')


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--port", "x"], ["--max-batch", "0"]])
def test_numbers_out_of_range_are_usage_errors(plain_path: Path, arguments: list[str]) -> None:
    """A port or a batch size that cannot be is a usage error."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", str(plain_path), *arguments])
    assert ended.value.code == 2
