"""How much a calibration's choice of scorer gains, and whether its promise holds, on a run's own answers."""

from pocketseq_bench.deferral.document import read_runs
from pocketseq_bench.deferral.markdown import deferral_markdown
from pocketseq_bench.deferral.runs import measure_run
from pocketseq_bench.deferral.study import deferral, kept

__all__ = ["deferral", "deferral_markdown", "kept", "measure_run", "read_runs"]
