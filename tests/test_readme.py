"""READMEs: their code runs, and their numbers are those of the result file."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from tests.distill.models import make_checkpoint, repair_examples

from pocketseq import write_examples
from pocketseq_bench.readme import blocks

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md"))]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name resolves but loopback, as on a plane; what the README promises must hold there too."""
    resolve = socket.getaddrinfo

    def loopback_only(host: str | bytes | None, *args: object, **options: object) -> object:
        if host in {"localhost", "127.0.0.1", "::1", b"localhost", b"127.0.0.1", None}:
            return resolve(host, *args, **options)  # type: ignore[arg-type]
        raise socket.gaierror(socket.EAI_NONAME, f"offline: {host!r}")

    monkeypatch.setattr(socket, "getaddrinfo", loopback_only)


@pytest.mark.parametrize("path", READMES, ids=name)
@pytest.mark.usefixtures("offline")
def test_the_code_in_a_readme_runs_without_a_network(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever pastes a block gets an answer, block after block in one directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLM_API_KEY", "not-a-key")
    if path.parent.name == "export":
        make_checkpoint(tmp_path / "student")
        write_examples(tmp_path / "data/validation.jsonl", repair_examples(8))
    for number, block in enumerate(python_blocks(path), start=1):
        exec(compile(block, f"{path.name}, block {number}", "exec"), {"__name__": "__main__"})
    capsys.readouterr()


def test_the_first_readme_shows_code() -> None:
    """The pattern above really finds the blocks."""
    assert len(python_blocks(ROOT / "README.md")) == 2


def test_the_measured_blocks_are_those_of_the_result_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are generated, never typed: mend a difference with ``python -m pocketseq_bench.readme``."""
    monkeypatch.chdir(ROOT)
    for path, parts in blocks().items():
        for block in parts:
            assert block in path.read_text(encoding="utf-8")


def test_the_test_command_is_what_ci_runs() -> None:
    """The command that newcomers read is the one that is known to work."""
    command = 'pip install -e ".[all,test]" && pytest'
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
    assert command in (ROOT / ".ci/run").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*READMES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    """A relative link names a file that is there."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"
