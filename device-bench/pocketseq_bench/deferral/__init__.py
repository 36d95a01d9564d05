"""How much a calibration's choice of scorer gains, and whether its promise holds, on a run's own answers."""

from pocketseq_bench.deferral.runs import measure_run
from pocketseq_bench.deferral.study import deferral, kept

__all__ = ["deferral", "kept", "measure_run"]
