"""OpenTelemetry: all names, spans and metrics in one place, by the GenAI conventions where they have a name.

Needs the extra ``[telemetry]``; without it, or without an SDK that listens, it costs next to nothing. The spans of a suggestion are
made when it has been answered, from the times in its receipt: ``suggest`` with ``tokenize``, ``encode``, ``decode``, ``route`` and
one ``chat`` for each request to the cloud. No text is recorded unless it is switched on, and then it is sampled and redacted.
"""

from pocketseq.telemetry.names import DURATION_BUCKETS_S, SCOPE
from pocketseq.telemetry.telemetry import Telemetry, TextRecording

__all__ = ["DURATION_BUCKETS_S", "SCOPE", "Telemetry", "TextRecording"]
