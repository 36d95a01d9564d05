"""A checkpoint behind real HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketseq import CloudEndpoint
from pocketseq.errors import EndpointUnavailableError
from pocketseq_bench.served import served


def test_a_served_checkpoint_answers_until_the_block_ends(exported: Path, tmp_path: Path) -> None:
    """The server runs in a process of its own, on a free port, and is gone afterwards."""
    with (
        served(exported / "teacher", log=tmp_path / "serve.log") as server,
        CloudEndpoint(server.url, model=server.model) as endpoint,
    ):
        assert endpoint.complete("for valu in range").finish_reason in {"stop", "length"}
    with CloudEndpoint(server.url, model=server.model) as endpoint, pytest.raises(EndpointUnavailableError):
        endpoint.complete("for valu in range")


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The end of its log is in the error."""
    with (
        pytest.raises(EndpointUnavailableError, match=r"(?s)ended with exit code 2: .*expected"),
        served(tmp_path / "nothing", log=tmp_path / "serve.log"),
    ):
        pass
