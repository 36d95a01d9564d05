"""Attribution: where the quality between teacher and student is lost."""

from pocketseq_distill.attribution.attributing import attribute_gap
from pocketseq_distill.attribution.courses import Course
from pocketseq_distill.attribution.findings import Cause, Finding, Gap
from pocketseq_distill.attribution.run import GapSettings

__all__ = ["Cause", "Course", "Finding", "Gap", "GapSettings", "attribute_gap"]
