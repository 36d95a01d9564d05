"""Replaying an editing session through a hybrid: who answers, how soon, how usefully, and what leaves the device for it."""

from pocketseq_bench.replay.document import ReplayDocument, read_replay
from pocketseq_bench.replay.editor import Editor, Request
from pocketseq_bench.replay.replaying import ReplaySettings, replay
from pocketseq_bench.replay.session import Keystroke, Session, read_session, write_session
from pocketseq_bench.replay.typist import Typing, type_lines

__all__ = [
    "Editor",
    "Keystroke",
    "ReplayDocument",
    "ReplaySettings",
    "Request",
    "Session",
    "Typing",
    "read_replay",
    "read_session",
    "replay",
    "type_lines",
    "write_session",
]
