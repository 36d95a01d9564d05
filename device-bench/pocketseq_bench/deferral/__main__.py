"""Measure how much scorers gain over Chow-Average on the answers of finished runs, and how often a promise is kept.

    python -m pocketseq_bench.deferral RUN [RUN …] [--data FOLDER] [-o device-bench/results/deferral.json]

A run is what ``pocketseq run`` leaves: its validation and calibration splits choose, its test split measures, and rows of its
training split may help to fit. The clouds are the run's teacher, whose answers are written down beside the run where they are not
yet, and one that is always right. Runs of other names in the file stay; a file of another kind or format is refused.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketseq.files import write_json
from pocketseq_bench.deferral.document import FORMAT, read_runs
from pocketseq_bench.deferral.runs import measure_run


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure runs, one after the other, and put each into the result file as soon as it is done."""
    parser = ArgumentParser(
        prog="python -m pocketseq_bench.deferral", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="directory of a run, up to its stage 'calibrate'")
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="other splits of the same task, such as larger ones")
    parser.add_argument("--rows", metavar="N", type=int, help="use the first N rows of each split only")
    parser.add_argument(
        "--seen", metavar="N", type=int, default=0, help="N rows of the training split help to fit what is learnt (%(default)s)"
    )
    parser.add_argument("--runtime", help="such as onnx; the bundle's first if not given")
    parser.add_argument("--precision", help="such as int8; the bundle's first if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstraps and of the resamplings (%(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, default=Path("device-bench/results/deferral.json"))
    args = parser.parse_args(arguments)
    _kept(args.output)  # a file that cannot be added to is refused before anything is measured
    for run in args.runs:
        found = measure_run(
            run,
            data=args.data,
            rows=args.rows,
            seen=args.seen,
            runtime=args.runtime,
            precision=args.precision,
            seed=args.seed,
        )
        write_json(args.output, {"format": FORMAT, "runs": {**_kept(args.output), found["name"]: _rounded(found)}})
        for cloud, study in found["clouds"].items():
            print(f"{found['name']}, the cloud {cloud}: {_sentence(study)}")


def _sentence(study: Mapping[str, Any]) -> str:
    """What came of the choice, in words."""
    name, rows = study["chosen"], study["rows"]["tested"]
    if (gain := study["gain_over_chow_average"].get(name)) is None:
        return f"{name} stands, measured on {rows} rows"
    if gain["low"] is None or gain["value"] is None:
        more = gain["difference"]["value"]
        return f"{name} gains {more:+.4f} of area over Chow-Average, which gains next to nothing, on {rows} rows"
    span = f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
    return f"{name} gains {100 * gain['value']:+.1f}% over Chow-Average ({span}) on {rows} rows"


def _kept(output: Path) -> dict[str, Any]:
    """What the file holds of other runs; nothing where there is none."""
    return read_runs(output) if output.exists() else {}


def _rounded(value: Any) -> Any:
    """Numbers with as many digits as they are worth."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
