"""Attribution: where the quality between teacher and student is lost."""

from pocketseq_distill.attribution.attributing import GapSettings, attribute_gap
from pocketseq_distill.attribution.findings import Cause, Finding, Gap

__all__ = ["Cause", "Finding", "Gap", "GapSettings", "attribute_gap"]
