"""Local first: a model on the device, a cloud to ask, and a policy between them."""

from pocketseq.hybrid.drift import Drift
from pocketseq.hybrid.events import Draft, Event, Final, Replace
from pocketseq.hybrid.feedback import Acceptance
from pocketseq.hybrid.hybrid import Hybrid
from pocketseq.hybrid.local import LocalModel, Threshold

__all__ = ["Acceptance", "Draft", "Drift", "Event", "Final", "Hybrid", "LocalModel", "Replace", "Threshold"]
