"""Sub-commands of ``pocketseq``: what one is, and how the rooms that are installed bring theirs."""

from __future__ import annotations

import importlib
import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pocketseq.errors import PocketSeqError

GROUP: Final = "pocketseq.commands"
"""Entry-point group; each value is ``module:COMMAND``, and the module imports nothing heavy. A dot in a name stands for the space
between two words, as in ``bench.kit``."""

BUILT_IN: Final = {
    "suggest": "pocketseq.cli.suggest:COMMAND",
    "inspect": "pocketseq.cli.inspect:COMMAND",
    "calibrate": "pocketseq.cli.calibrate:COMMAND",
    "pack": "pocketseq.cli.pack:COMMAND",
}
"""The SDK's own, which need no entry point."""

_TALKATIVE: Final = ("coremltools", "torch.utils._pytree", "torchao")
"""Loggers that warn at every import on Linux, whatever the command: torchao's too, which transformers imports where it is found."""


@dataclass(frozen=True, slots=True)
class Command:
    """One sub-command."""

    name: str
    """The word after ``pocketseq``, or the two words."""
    summary: str
    """One line for ``--help``."""
    configure: Callable[[ArgumentParser], None]
    """Declares the arguments."""
    run: Callable[[Namespace], int]
    """Does the work and returns the exit code; a ``PocketSeqError`` becomes one line on standard error."""


def command_targets() -> dict[str, str]:
    """Where each installed command lives, as ``module:attribute``; nothing is imported."""
    from importlib.metadata import entry_points

    found = {entry.name.replace(".", " "): entry.value for entry in entry_points(group=GROUP)}
    return BUILT_IN | {name: found[name] for name in sorted(found) if name not in BUILT_IN}


def quiet_imports() -> None:
    """Keep libraries from telling, as they are imported, which parts of theirs this machine lacks; errors are still told."""
    import logging

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)


def whole(text: str, least: int = 1, most: int | None = None) -> int:
    """Read a whole number of a command line, as the ``type`` of an argument.

    Args:
        text: What was typed.
        least: Smallest that is taken.
        most: Largest that is taken; None for any.

    Raises:
        ArgumentTypeError: no such number.
    """
    if not (text.isdecimal() and least <= int(text) and (most is None or int(text) <= most)):
        wanted = f"from {least}" if most is None else f"from {least} to {most}"
        raise ArgumentTypeError(f"expected a whole number {wanted}, found {text!r}")
    return int(text)


def require_one_process(name: str) -> None:
    """Refuse what several processes, started by ``torchrun``, would each do from start to end, over one another's files.

    Args:
        name: The command.

    Raises:
        PocketSeqError: there are several.
    """
    if (count := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise PocketSeqError(
            f"expected one process for 'pocketseq {name}', found {count} (WORLD_SIZE); start it without torchrun: of the commands "
            "'pocketseq train' alone shares its work among several"
        )


def load_command(target: str) -> Command:
    """Import a command.

    Raises:
        PocketSeqError: the module cannot be imported or holds no command.
    """
    module, _, attribute = target.partition(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PocketSeqError(
            f"expected a command at {target!r}, found none: {error}; reinstall the package that brings it"
        ) from error
    if not isinstance(command, Command):
        raise PocketSeqError(f"expected a command at {target!r}, found {type(command).__name__}")
    return command
