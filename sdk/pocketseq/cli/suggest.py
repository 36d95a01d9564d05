"""``pocketseq suggest``: one suggestion, from the device or, where an endpoint is named, from the cloud."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketseq.commands import Command
from pocketseq.errors import InputError

if TYPE_CHECKING:
    from pocketseq.endpoint import Endpoint
    from pocketseq.model import PocketModel
    from pocketseq.suggestion import Suggestion
    from pocketseq.template import Input, Template

_BEFORE_LINES: Final = 5
_AFTER_LINES: Final = 2
"""As many lines around as the packaged model was trained with."""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq suggest``."""
    parser.add_argument("text", nargs="?", help="the text for the model's primary field, such as one line of code")
    parser.add_argument(
        "--model", default="python-fix", metavar="BUNDLE", help="a path, a packaged name, or hf://org/name (%(default)s)"
    )
    parser.add_argument("--runtime", help="such as onnx; the bundle's first if not given")
    parser.add_argument("--precision", help="such as int8; the bundle's first if not given")
    parser.add_argument("--file", type=Path, help="take the line and the lines around it from this file instead of TEXT")
    parser.add_argument("--line", type=int, metavar="N", help="number of the line in --file, from 1")
    parser.add_argument(
        "--before-lines", type=int, default=_BEFORE_LINES, metavar="N", help="lines before it to show the model (%(default)s)"
    )
    parser.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible endpoint; without it nothing leaves this machine")
    parser.add_argument("--endpoint-model", metavar="NAME", help="name of the model there")
    parser.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the endpoint's key")
    parser.add_argument("--mode", default="prefer_local", help="only_local, prefer_local, prefer_cloud or only_cloud (%(default)s)")
    parser.add_argument(
        "--deadline-ms", type=float, default=800.0, metavar="MS", help="for the local and the cloud's answer together (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print all that is known about the suggestion")


def run(args: Namespace) -> int:
    """Print one suggestion; where it comes from goes to standard error."""
    from pocketseq.hybrid import Hybrid
    from pocketseq.model import PocketModel
    from pocketseq.policy import Policy
    from pocketseq.records import plain

    policy = Policy(mode=args.mode, deadline_ms=args.deadline_ms)
    with _endpoint(args) as endpoint, PocketModel.load(args.model, runtime=args.runtime, precision=args.precision) as model:
        source = _source(args, model.template)
        if policy.mode != "only_cloud":
            model.warm_up()  # before the deadline starts to run
        suggestion = Hybrid(model, endpoint, policy).suggest(source)
        if args.json:
            print(json.dumps({"input": source, "model": _identity(model), **plain(suggestion)}, ensure_ascii=False, indent=2))
        else:
            print(suggestion.text)
            print(_remark(suggestion), file=sys.stderr)
    return 0


def _endpoint(args: Namespace) -> AbstractContextManager[Endpoint | None]:
    if args.endpoint is None:
        return nullcontext()
    if args.endpoint_model is None:
        raise InputError("--endpoint: expected --endpoint-model with the name of the model there, found none")
    from pocketseq.cloud import CloudEndpoint

    return CloudEndpoint(args.endpoint, model=args.endpoint_model, api_key_env=args.api_key_env)


def _source(args: Namespace, template: Template) -> Input:
    if (args.text is None) == (args.file is None):
        raise InputError(f"expected a TEXT or --file with --line, found {'both' if args.file else 'neither'}")
    if args.file is None:
        if args.line is not None:
            raise InputError(f"--line: expected --file beside it, found the TEXT {args.text!r}; did you mean --file?")
        return str(args.text)
    if args.line is None:
        raise InputError("--file: expected --line with the number of a line, found none")
    names = {field.name for field in template.fields}
    if "line" not in names:
        raise InputError(f"--file: expected a model with a field 'line', found one with {sorted(names)}; give a TEXT instead")
    if args.before_lines < 0:
        raise InputError(f"--before-lines: expected at least 0, found {args.before_lines}")
    around = _around(args.file, args.line, args.before_lines)
    return {name: text for name, text in around.items() if name in names}


def _around(file: Path, number: int, before_lines: int) -> dict[str, str]:
    """The line of a file and the lines around it, by field."""
    try:
        with file.open(encoding="utf-8") as lines:  # as editors count them: a form feed ends none
            rows = [line.removesuffix("\n") for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{file}: expected a text file in UTF-8, found: {found}") from None
    if not 1 <= number <= len(rows):
        raise InputError(f"{file}: expected a line from 1 to {len(rows)}, found {number}")
    return {
        "before": "\n".join(rows[max(0, number - 1 - before_lines) : number - 1]),
        "line": rows[number - 1],
        "after": "\n".join(rows[number : number + _AFTER_LINES]),
    }


def _identity(model: PocketModel) -> dict[str, object]:
    return {
        "name": model.manifest.name,
        "version": model.manifest.version,
        "variant": model.variant.label,
        "hash": model.variant.hash,
        "calibration_problem": model.calibration_problem,
    }


def _remark(suggestion: Suggestion) -> str:
    """Where the suggestion comes from, in one line."""
    parts: list[str] = [suggestion.source]
    if suggestion.confidence is not None:
        parts.append(f"confidence {suggestion.confidence:.2f}")
    if suggestion.local is not None:
        parts.append(f"{suggestion.local.timing.total_ms:.0f} ms on this machine")
        if suggestion.local.truncated:
            parts.append(f"cut to its budget: {', '.join(suggestion.local.truncated)}")
    receipt = suggestion.receipt
    if receipt.bytes_sent:
        kept = ", ".join(f"{item.count} × {item.kind}" for item in receipt.redacted)
        parts.append(f"{receipt.bytes_sent} bytes left for {receipt.endpoint}" + (f", without {kept}" if kept else ""))
    return f"[{'; '.join(parts)}] {suggestion.reason}"


COMMAND: Final = Command(name="suggest", summary="print one suggestion for a line or a text", configure=configure, run=run)
