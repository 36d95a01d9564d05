"""Stand-ins for what an application's own tests should not need: no network, no model files."""

from pocketseq.testing.endpoint import Call, FakeEndpoint, FakeStreamingEndpoint, Reply
from pocketseq.testing.model import FakeModel, FixedThreshold
from pocketseq.testing.network import Network, NetworkEndpoint, Outage, SimulatedClock
from pocketseq.testing.runtime import ScriptedRuntime, byte_tokenizer, scripted_model

__all__ = [
    "Call",
    "FakeEndpoint",
    "FakeModel",
    "FakeStreamingEndpoint",
    "FixedThreshold",
    "Network",
    "NetworkEndpoint",
    "Outage",
    "Reply",
    "ScriptedRuntime",
    "SimulatedClock",
    "byte_tokenizer",
    "scripted_model",
]
