"""The sub-commands ``pocketseq export`` and ``pocketseq verify``."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.commands import Command
from pocketseq.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from pocketseq.examples import Example

NEEDS: Final = ("torch", "transformers")


def configure_export(parser: ArgumentParser) -> None:
    """Declare the arguments of ``export``."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a Hugging Face encoder-decoder directory")
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", required=True, help="directory to write")
    parser.add_argument(
        "--to", default="onnx", metavar="RUNTIME[,…]", help="onnx, tflite, coreml, the one to prefer first (default: onnx)"
    )
    parser.add_argument(
        "--precision",
        default="fp32,int8",
        metavar="P[,…]",
        help="precisions for each runtime, or RUNTIME/PRECISION for one (default: fp32,int8)",
    )
    parser.add_argument("--name", help="name of the bundle (default: that of the directory)")
    parser.add_argument(
        "--data", type=Path, metavar="ROWS.jsonl", help="held-out rows: only variants that hold on them are written"
    )
    _configure_judging(parser)
    parser.add_argument("--max-quality-drop", type=float, metavar="SHARE", help="exact match that may be lost; choose a variant")
    parser.add_argument("--max-size-mb", type=float, metavar="MB", help="size of a variant; choose one for each runtime")
    parser.add_argument(
        "--max-latency-ms", type=float, metavar="MS", help="median of one answer, here; choose one for each runtime"
    )
    parser.add_argument("--prefer", choices=("size", "speed"), help="choose the smallest or the fastest within the limits")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run_export(args: Namespace) -> int:
    """Write a bundle and say what is in it."""
    _require()
    from pocketseq_export.packing import export_checkpoint, replacing
    from pocketseq_export.selection import Limits, table_lines
    from pocketseq_export.verification import verify_bundle

    asked = {"max_quality_drop": args.max_quality_drop, "max_size_mb": args.max_size_mb, "max_latency_ms": args.max_latency_ms}
    limits = Limits(**asked, prefer=args.prefer or "size") if args.prefer or any(v is not None for v in asked.values()) else None
    if limits is not None and args.data is None:
        raise DataError("expected --data with held-out rows, found none; a variant is chosen by what is measured on them")
    rows = None if args.data is None else _rows(args)
    name = args.name or args.output.resolve().name
    with replacing(args.output) as aside:
        manifest = export_checkpoint(
            args.checkpoint, aside, runtimes=args.to.split(","), precisions=args.precision.split(","), name=name
        )
        found = None
        if rows is not None:
            found = verify_bundle(
                aside,
                args.checkpoint,
                rows,
                tolerance=args.tolerance,
                allow_degraded=args.allow_degraded,
                mend=True,
                limits=limits,
                report=None if args.json else print,
            )
    if args.json:
        _print_json(manifest.to_json() if found is None else found.to_json())
    elif found is None:
        for variant in manifest.variants:
            print(f"{variant.label}: {variant.size_bytes / 1e6:.1f} MB")
    elif found.selection is not None:
        print("\n".join(table_lines(found.selection)))
    return 0


def configure_verify(parser: ArgumentParser) -> None:
    """Declare the arguments of ``verify``."""
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        help="a bundle; with --checkpoint a directory, into whose manifest goes what is found where every variant holds",
    )
    parser.add_argument("--checkpoint", type=Path, help="what it was exported from: its generations are compared too")
    parser.add_argument("--data", type=Path, metavar="ROWS.jsonl", help="held-out rows to compare on")
    _configure_judging(parser)
    parser.add_argument("--drop", action="store_true", help="delete the files of every variant that falls short")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")


def run_verify(args: Namespace) -> int:
    """Check hashes and, given the checkpoint and rows, generations; 1 where a variant falls short."""
    from pocketseq.bundle import open_bundle
    from pocketseq_export.verification import check_files, verify_bundle

    if (args.checkpoint is None) != (args.data is None):
        raise DataError("expected --checkpoint and --data together, found one of them; generations need both")
    if args.checkpoint is None:
        with open_bundle(args.bundle) as bundle:
            check_files(bundle)
            labels = [variant.label for variant in bundle.manifest.variants]
        print(json.dumps({"files": "as the manifest says", "variants": labels}) if args.json else _files_line(labels))
        return 0
    _require()
    found = verify_bundle(
        Path(args.bundle),
        args.checkpoint,
        _rows(args),
        tolerance=args.tolerance,
        allow_degraded=args.allow_degraded,
        drop=args.drop,
        report=None if args.json else print,
    )
    short = [verdict.label for verdict in found.variants if not verdict.kept]
    if args.json:
        _print_json(found.to_json())
    elif short and not args.drop:
        print(f"{args.bundle} is left as it was; --drop deletes {', '.join(short)}")
    return 1 if short else 0


def _configure_judging(parser: ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=200, help="how many of the rows (default: 200)")
    parser.add_argument("--tolerance", type=float, default=0.01, help="exact match that a variant may lose (default: 0.01)")
    parser.add_argument("--allow-degraded", action="store_true", help="keep variants that lose more; the manifest says so")


def _rows(args: Namespace) -> list[Example]:
    from pocketseq.examples import read_examples

    if not args.data.is_file():
        raise DataError(f"{args.data}: expected a file of rows, found none")
    return list(islice(read_examples(args.data), max(args.rows, 0)))


def _print_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    print()


def _files_line(labels: list[str]) -> str:
    return f"files are as the manifest says: {', '.join(labels)}"


def _require() -> None:
    for module in NEEDS:
        if find_spec(module) is None:
            raise MissingExtraError("export", module)


EXPORT: Final = Command("export", "write a checkpoint as a bundle for devices", configure_export, run_export)
VERIFY: Final = Command("verify", "check a bundle's files and, given its checkpoint, its answers", configure_verify, run_verify)
