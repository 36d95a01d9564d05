"""Checkpoint to bundle: one re-authored graph, written for each runtime in each precision, and held to the original."""

from pocketseq_export.packing import export_checkpoint
from pocketseq_export.verification import Verdict, Verification, verify_bundle

__all__ = ["Verdict", "Verification", "export_checkpoint", "verify_bundle"]
