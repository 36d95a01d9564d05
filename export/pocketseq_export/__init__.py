"""Checkpoint to bundle: one re-authored graph, written for each runtime in each precision, and held to the original."""

from pocketseq_export.packing import export_checkpoint
from pocketseq_export.selection import Limits, Selection
from pocketseq_export.verdicts import Verdict, Verification
from pocketseq_export.verification import verify_bundle

__all__ = ["Limits", "Selection", "Verdict", "Verification", "export_checkpoint", "verify_bundle"]
