"""From the words of a command line to an exit code."""

from __future__ import annotations

import errno
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Final

from pocketseq.commands import BUILT_IN, command_targets, load_command, quiet_imports
from pocketseq.errors import MissingExtraError, PocketSeqError

FAILED: Final = 2
"""Exit code of an error that pocketseq raised on purpose, and of a wrong command line."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C."""

_MENDABLE: Final = {
    *(errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS),
    *(errno.EDQUOT, errno.ENOSPC),
}
"""What the system refuses for reasons that lie with the user's paths and disks; anything else keeps its traceback."""
_PROGRAM: Final = "pocketseq"
_EXTRAS: Final = {"pocketseq_distill": "distill", "pocketseq_export": "export", "pocketseq_bench": "bench"}
"""By package of the room that brings a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pocketseq``.

    Args:
        argv: Words after the program's name; those of the process if not given.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except PocketSeqError as error:
        print(f"{_PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        print(
            f"{_PROGRAM}: {where}expected a place that can be read and written, found: {error.strerror}; "
            "what was finished is kept, mend it and run the command again",
            file=sys.stderr,
        )
        return FAILED


def _run(words: list[str]) -> int:
    # Those of other packages are looked for only where the word is none of our own: that takes longer than a suggestion.
    targets = BUILT_IN if words and words[0] in BUILT_IN else command_targets()
    both = " ".join(words[:2])
    first = both if both in targets else words[0] if words else "--help"
    if first in ("-h", "--help"):
        print(_help(targets))
        return 0
    if first == "--version":
        import pocketseq

        print(_PROGRAM, pocketseq.__version__)
        return 0
    if first not in targets:
        from difflib import get_close_matches

        near = get_close_matches(first, targets, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise PocketSeqError(
            f"expected a command among {', '.join(targets)}, found {first!r}; {meant}{_PROGRAM} --help tells what they do"
        )
    if first not in BUILT_IN:
        quiet_imports()
    command = load_command(targets[first])
    parser = ArgumentParser(prog=f"{_PROGRAM} {command.name}", description=f"{command.summary[0].upper()}{command.summary[1:]}.")
    command.configure(parser)
    arguments = parser.parse_args(words[len(first.split()) :])
    try:
        code = command.run(arguments)
    except ModuleNotFoundError as error:
        if (missing := _missing(error, targets[first])) is None:
            raise
        raise missing from error
    sys.stdout.flush()  # so that a reader that is gone is noticed here
    return code


def _missing(error: ModuleNotFoundError, target: str) -> MissingExtraError | None:
    """The extra that brings what a command's room imports; None where a library is there and lacks a part."""
    from importlib.util import find_spec

    module = (error.name or "pocketseq").partition(".")[0]
    if find_spec(module) is not None:
        return None
    return MissingExtraError(_EXTRAS.get(target.partition(".")[0], "all"), module)


def _help(targets: dict[str, str]) -> str:
    width = max(map(len, targets))
    commands = "\n".join(f"  {name:<{width}}  {_summary(target)}" for name, target in targets.items())
    return (
        f"usage: {_PROGRAM} [--help] [--version] COMMAND …\n\n"
        "Small sequence-to-sequence models on the device, with a calibrated confidence and a cloud to ask.\n\n"
        f"commands:\n{commands}\n\n{_PROGRAM} COMMAND --help tells more about one."
    )


def _summary(target: str) -> str:
    try:
        return load_command(target).summary
    except PocketSeqError as error:
        return f"(cannot be used: {error})"
