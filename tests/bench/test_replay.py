"""Replaying an editing session: the typist, the editor, and what comes out at several thresholds."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from statistics import median

import jsonschema
import pytest
from tests.bench.test_report import Page

from pocketseq import Hybrid, Policy
from pocketseq.cli import main
from pocketseq.errors import DataError, EndpointUnavailableError
from pocketseq.testing import FakeEndpoint, Network, Outage, SimulatedClock, scripted_model
from pocketseq_bench.replay import (
    Editor,
    Keystroke,
    ReplaySettings,
    Request,
    Session,
    Typing,
    read_replay,
    read_session,
    replay,
    type_lines,
    write_session,
)
from pocketseq_bench.replay.typist import Line, lines_of_file
from pocketseq_bench.report.replay_report import replay_table, write_replay_reports

TEXTS = ["for value in range(10):", "    return self.value + 1", "import collections", "print('a', file=stream)"] * 10
LINES = [Line(text, {}) for text in TEXTS]


def keys(*entries: tuple[float, str], unit: int = 0, intended: str | None = None) -> list[Keystroke]:
    return [Keystroke(at, unit, {"text": text}, intended) for at, text in entries]


def play(
    session: list[Keystroke], answers: dict[str, str], *, sure: float = 0.9, cloud: FakeEndpoint | None = None
) -> list[Request]:
    clock = SimulatedClock()
    with scripted_model(answers, confidence=sure) as model:
        hybrid = Hybrid(model, cloud, Policy(threshold=0.5))
        return Editor(hybrid, clock, primary="text").play(Session("by hand", "recorded", tuple(session)))


def test_a_typist_ends_lines_as_meant_but_for_the_slips_that_stay() -> None:
    """With no slips left uncorrected every line ends as it was meant; every key changes something or moves towards it."""
    careful = Typing(slips=0.2, noticed=0.6, reread=0.4)
    session = type_lines(LINES, primary="text", name="careful", typing=careful)
    last = {key.unit: key.fields["text"] for key in session.keystrokes}
    assert list(last.values()) == TEXTS
    assert any(key.fields["text"] != key.intended for key in session.keystrokes)
    assert all(key.intended is not None and TEXTS[key.unit].startswith(key.intended) for key in session.keystrokes)


def test_a_careless_typist_leaves_slips() -> None:
    """What nobody corrects stays in the line."""
    session = type_lines(LINES, primary="text", name="careless", typing=Typing(slips=0.1, noticed=0.0, reread=0.0))
    last = {key.unit: key.fields["text"] for key in session.keystrokes}
    assert sum(text != meant for text, meant in zip(last.values(), TEXTS, strict=True)) > 20
    clean = type_lines(LINES, primary="text", name="clean", typing=Typing(slips=0.0))
    assert [key.fields["text"] for key in clean.keystrokes] == [key.intended for key in clean.keystrokes]


def test_gaps_follow_the_stated_distribution_and_the_seed() -> None:
    """The same seed types the same; the median gap is the one of the settings."""
    one, same, other = (type_lines(LINES, primary="text", name="x", seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    gaps = [later.at_ms - sooner.at_ms for sooner, later in zip(one.keystrokes, one.keystrokes[1:], strict=False)]
    assert 150 < median(gaps) < 200
    assert one.typing["gap_ms"] == 170.0


def test_a_session_is_written_and_read_back(tmp_path: Path) -> None:
    """Recorded ones have the same form."""
    session = type_lines(LINES[:2], primary="text", name="two lines")
    write_session(tmp_path / "session.jsonl", session)
    assert read_session(tmp_path / "session.jsonl") == session


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "session.jsonl:1: expected a head"),
        pytest.param("[" * 100_000, "expected a session with one JSON object a line", id="deep"),
        ('{"format": 2}', "found 2"),
        ('{"format": 1}\n{"at_ms": 1}', "session.jsonl:2: expected the keys"),
        ('{"format": 1}', "at least one"),
        ('{"format": 1}\n{"at_ms": 2, "unit": 0, "fields": {}}\n{"at_ms": 1, "unit": 0, "fields": {}}', "in order of time"),
    ],
)
def test_a_session_that_cannot_be_replayed_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """With the line that is at fault."""
    (tmp_path / "session.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_session(tmp_path / "session.jsonl")


@pytest.mark.parametrize("fields", [{"line": "x"}, {"text": "x", "line": "y"}, {}])
def test_a_session_of_another_bundle_is_refused(fields: dict[str, str]) -> None:
    """Before anything is asked, with the fields that there are."""
    session = Session("lines", "recorded", (Keystroke(0.0, 0, {"text": "x"}), Keystroke(1.0, 0, fields)))
    with (
        scripted_model({}) as model,
        pytest.raises(
            DataError, match=r"session 'lines': expected the bundle's fields \['text'\].*in keystroke 2; replay the bundle"
        ),
    ):
        replay(session, model)


def test_fast_typing_asks_nothing_and_a_pause_does() -> None:
    """The debounce is twice the usual gap, within 100 ms and a second; a manual trigger does not wait."""
    quick = [(100.0 * number, "x" * number) for number in range(1, 30)]
    requests = play([*keys(*quick), *keys((8_000, "done"))], {})
    assert [request.at_ms for request in requests] == [2900 + 200, 8_000 + 200]
    asked = Keystroke(150.0, 0, {"text": "xx"}, manual=True)
    first, *_ = play([*keys((100, "x")), asked, *keys((200, "xxx"))], {})
    assert first.at_ms == 150.0


def test_keys_saved_are_those_until_the_line_says_it_but_the_accepting_one() -> None:
    """Three keys later it would have stood there: two are saved, and the unit is done."""
    typed = keys((0, "pritn"), (5_000, "prit"), (5_100, "pri"), (5_200, "prin"), (5_300, "print"), (9_000, "print("))
    (request,) = play(typed, {"pritn": "print"})
    assert (request.shown, request.right, request.saved_keys, request.source) == (True, True, 3, "local")
    assert not request.asked


def test_what_stands_there_already_is_not_shown_and_may_be_right() -> None:
    """No suggestion is the right answer to a line without a slip."""
    (request,) = play(keys((0, "print"), intended="print"), {})
    assert (request.shown, request.right, request.saved_keys, request.similarity) == (False, True, 0, 1.0)


def test_a_wrong_suggestion_is_shown_and_ends_nothing() -> None:
    """The unit goes on, and the next pause asks again."""
    typed = keys((0, "pritn"), (5_000, "print"), intended="print")
    first, second = play(typed, {"pritn": "pint"})
    assert (first.shown, first.right) == (True, False)
    assert 0 < first.similarity < 1
    assert second.right


def test_an_answer_that_a_key_overtook_is_seen_by_nobody() -> None:
    """The next key comes 600 ms after the request, the cloud's answer later; what was sent was sent all the same."""
    clock = SimulatedClock()
    typed = keys((0, "pritn"), (1_600, "print"))
    with scripted_model({}, confidence=0.1) as model:
        network = NetworkFor(clock, 900)
        (first, _) = Editor(Hybrid(model, network.endpoint, Policy(threshold=0.5, deadline_ms=5_000)), clock, primary="text").play(
            Session("slow cloud", "recorded", tuple(typed))
        )
    assert first.cancelled
    assert first.asked
    assert first.bytes_sent > 0
    assert first.took_ms >= 900


class NetworkFor:
    """A cloud that is so far away on a simulated clock."""

    def __init__(self, clock: SimulatedClock, latency_ms: float) -> None:
        from pocketseq.testing import NetworkEndpoint

        network = Network(latency_ms=latency_ms, spread=0.0)
        self.endpoint = NetworkEndpoint(FakeEndpoint("print"), network, clock=clock, wait=clock.wait)


def test_a_cloud_that_is_down_is_counted_and_the_local_answer_stands() -> None:
    """The error is named, and nothing is shown from nowhere."""
    (request,) = play(keys((0, "pritn")), {"pritn": "print"}, sure=0.1, cloud=FakeEndpoint(EndpointUnavailableError("down")))
    assert (request.source, request.error, request.asked) == ("local", "EndpointUnavailableError", True)


def test_repetitions_and_blanks_are_not_worth_showing() -> None:
    """A suggestion that says what the line above says has nothing to say."""
    typed = [Keystroke(0, 0, {"text": "x"})]
    assert not play(typed, {"x": " "})[0].shown
    assert play(typed, {"x": "y"})[0].shown


def test_thresholds_move_answers_from_the_device_to_the_cloud(tmp_path: Path) -> None:
    """At 0 all stay, above 1 all go; minutes of typing are replayed at once, and the document says what was simulated."""
    session = type_lines(LINES[:8], primary="text", name="lines", typing=Typing(slips=0.1))
    settings = ReplaySettings(
        thresholds=(0.0, 1.01), network=Network(latency_ms=100, spread=0.0), accuracy=1.0, prompt_price=1.0, completion_price=2.0
    )
    with scripted_model({}, confidence=0.6, threshold=0.5) as model:
        document = replay(session, model, settings=settings)
    calibrated, local, cloud = document.rows
    assert (calibrated.threshold, calibrated.cloud, calibrated.bytes_sent, calibrated.cost) == (None, 0.0, 0, 0.0)
    assert (local.cloud, local.asked, local.saved_keys) == (0.0, 0, 0)
    assert (cloud.local, cloud.failures, cloud.exact_match) == (0.0, 0, 1.0)
    for row in document.rows:
        assert row.local + row.cloud + row.cache == pytest.approx(1.0, abs=1e-4)
    assert cloud.bytes_sent > 0
    assert cloud.cost is not None
    assert cloud.cost > 0
    assert cloud.saved_keys > 0
    assert cloud.p50_ms >= 100 > local.p50_ms
    assert "simulated" in document.simulated
    assert replay_table(document).splitlines()[2].startswith("calibrated")
    write_replay_reports(tmp_path, document)
    assert read_replay(tmp_path / "replay.json") == document
    schema = json.loads(files("pocketseq_bench").joinpath("schema/replay-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads((tmp_path / "replay.json").read_text(encoding="utf-8")))
    page = Page()
    page.feed((tmp_path / "replay.html").read_text(encoding="utf-8"))
    assert page.open == page.loads == []


def test_losses_and_outages_are_failures_that_leave_the_local_answer() -> None:
    """Whatever the network does, every request is answered."""
    session = type_lines(LINES[:8], primary="text", name="lines")
    end = session.keystrokes[-1].at_ms / 1000
    for network in (Network(loss=1.0), Network(outages=(Outage(0, end + 60),))):
        with scripted_model({}, confidence=0.6) as model:
            (row,) = replay(session, model, settings=ReplaySettings(thresholds=(1.01,), network=network)).rows
        assert row.local == 1.0
        assert row.failures == row.asked > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 9, "session": {}}', "expected a replay of format 1, found 9"),
        pytest.param("[" * 100_000, "expected the JSON of a replay, found none", id="deep"),
    ],
)
def test_a_replay_of_another_version_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """Numbers are never guessed, nor out of what is no replay."""
    (tmp_path / "replay.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_replay(tmp_path / "replay.json")


def test_lines_of_a_file_are_written_between_their_neighbours(tmp_path: Path) -> None:
    """Blank lines are not written, but stand around."""
    (tmp_path / "code.py").write_text("import os\n\nprint(os)\n", encoding="utf-8")
    first, second = lines_of_file(tmp_path / "code.py", count=9)
    assert (first.text, first.around) == ("import os", {"before": "", "after": "\nprint(os)"})
    assert second.around == {"before": "import os\n", "after": ""}


def test_the_command_replays_the_packaged_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A synthetic typist by default; its session can be kept and replayed as a recorded one."""
    kept = str(tmp_path / "session.jsonl")
    options = ["--thresholds", "0.7", "--outage", "1-4", "--loss", "0.1", "-o", str(tmp_path)]
    assert main(["bench", "replay", "python-fix", "--lines", "2", "--save-session", kept, *options]) == 0
    first = capsys.readouterr().out
    assert "calibrated" in first
    assert main(["bench", "replay", "python-fix", "--session", kept, "--thresholds", "0.7", "--prices", "1"]) == 2
    assert "--prices: expected two numbers" in capsys.readouterr().err
    assert main(["bench", "replay", "python-fix", "--session", kept, "--thresholds", "0.7"]) == 0
    assert "synthetic" in capsys.readouterr().out
