"""What a grammar costs at each step: llguidance, from which the SDK takes its masks, beside outlines-core.

    python -m pocketseq_bench.grammars [BUNDLE] [--limit SECONDS] [-o FILE]

For each library and each form a fresh process makes the form ready, up to its first mask, and then writes answers of random allowed
tokens, with a mask before every one. Both read the bundle's vocabulary beforehand and give a mask as bits. A library that is not
installed, a form that it cannot write and one that is not ready in time are told as such.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, Protocol

import numpy as np

from pocketseq import open_bundle
from pocketseq.errors import DataError, MissingExtraError, PocketSeqError
from pocketseq.files import write_json
from pocketseq_bench.environment import environment

FORMAT: Final = 1
LIBRARIES: Final = ("llguidance", "outlines-core")
LIMIT_S: Final = 60.0
_ORDER: Final = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["item", "count"],
    "additionalProperties": False,
}
FORMS: Final[Mapping[str, str | dict[str, Any]]] = {
    "date": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "100 labels": "|".join(f"label {number}" for number in range(100)),
    "JSON Schema": _ORDER,
    "e-mail address": r"[A-Z][a-zA-Z0-9_.]{0,40}@[a-z]+\.(com|org)",
}
"""Regular expressions, and a schema."""
_READY: Final = 5
"""Times that a form is made ready; the median counts."""
_ANSWERS: Final = 40
_LONGEST: Final = 64
"""Tokens of an answer."""


class Walk(Protocol):
    """One answer on its way through a form."""

    def mask(self) -> bytes | bytearray:
        """Bits of the tokens that may come next, the lowest first; what is timed."""

    def take(self, token: int) -> None:
        """Go on with a token."""


class _Guided:
    """A walk of llguidance."""

    def __init__(self, tokenizer: Any, form: str | dict[str, Any]) -> None:
        from llguidance import LLMatcher

        if isinstance(form, str):
            grammar = LLMatcher.grammar_from_regex(form)
        else:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(form), overrides={"whitespace_pattern": " ?"})
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)

    def mask(self) -> bytes:
        return self._matcher.compute_bitmask()

    def take(self, token: int) -> None:
        self._matcher.consume_token(token)


class _Outlined:
    """A walk of outlines-core."""

    def __init__(self, vocabulary: Any, form: str | dict[str, Any], size: int) -> None:
        from outlines_core import Guide, Index
        from outlines_core.json_schema import build_regex_from_schema

        pattern = form if isinstance(form, str) else build_regex_from_schema(json.dumps(form), " ?")
        self._guide = Guide(Index(pattern, vocabulary))
        self._bits = np.zeros(-(-size // 32), np.int32)

    def mask(self) -> bytes:
        self._guide.write_mask_into(self._bits.ctypes.data, self._bits.size, self._bits.itemsize)
        return self._bits.tobytes()

    def take(self, token: int) -> None:
        self._guide.advance(token)


def grammars(source: str, *, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Measure every library on every form.

    Args:
        source: A bundle, by name or path, whose vocabulary is taken.
        limit_s: Seconds for each.

    Returns:
        JSON values: for each library and form, milliseconds to its first mask and percentiles of a mask's microseconds.
    """
    found: dict[str, Any] = {}
    for library in LIBRARIES:
        try:
            installed = version(library)
        except PackageNotFoundError:
            found[library] = {"version": None, "forms": {}}
            continue
        found[library] = {"version": installed, "forms": {form: _apart(source, library, form, limit_s) for form in FORMS}}
    return {"format": FORMAT, "bundle": source, "limit_s": limit_s, "environment": environment(), "libraries": found}


def _apart(source: str, library: str, form: str, limit_s: float) -> dict[str, Any]:
    words = [sys.executable, "-m", "pocketseq_bench.grammars", source, "--one", library, form]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return {"failed": f"not ready within {limit_s:g} s"}
    if done.returncode != 0:
        return {"failed": (done.stderr.strip().splitlines() or ["ended without a word"])[-1][:200]}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure_one(source: str, library: str, form: str) -> dict[str, Any]:
    """Measure one library on one form, here.

    Raises:
        MissingExtraError: llguidance is not installed, which spells the tokens for outlines-core too.
    """
    with open_bundle(source) as bundle:
        definition = bundle.path(bundle.manifest.tokenizer).read_text(encoding="utf-8")
        size, end = bundle.manifest.geometry.vocab_size, bundle.manifest.geometry.end_id
    try:
        from llguidance import LLTokenizer
    except ImportError:
        raise MissingExtraError("grammar", "llguidance") from None
    tokenizer = LLTokenizer(definition, n_vocab=size, eos_token=end)
    vocabulary: Any = None
    if library == "outlines-core":
        from outlines_core import Vocabulary

        spelled: dict[bytes, list[int]] = {}
        for token in range(size):
            if token != end and (text := tokenizer.decode_bytes([token])):
                spelled.setdefault(text, []).append(token)
        vocabulary = Vocabulary(end, spelled)

    def begin() -> Walk:
        return _Guided(tokenizer, FORMS[form]) if vocabulary is None else _Outlined(vocabulary, FORMS[form], size)

    ready: list[float] = []
    for _ in range(_READY):
        began = time.perf_counter()
        begin().mask()
        ready.append(time.perf_counter() - began)
    taken = [seconds for seed in range(_ANSWERS) for seconds in _walked(begin(), Random(seed), size=size, end=end)]
    levels = {f"p{level}": round(1e6 * float(np.percentile(taken, level)), 2) for level in (50, 99)}
    return {"ready_ms": round(1000 * median(ready), 3), "mask_us": levels, "masks": len(taken)}


def _walked(walk: Walk, random: Random, *, size: int, end: int) -> Iterator[float]:
    """Seconds of each mask of one answer."""
    for _ in range(_LONGEST):
        began = time.perf_counter()
        bits = walk.mask()
        yield time.perf_counter() - began
        allowed = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), count=size, bitorder="little"))
        if not allowed.size or (token := int(random.choice(allowed))) == end:
            return
        walk.take(token)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = ArgumentParser(prog="python -m pocketseq_bench.grammars", description="What a grammar costs at each step.")
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", default="python-fix", help="default: %(default)s")
    parser.add_argument(
        "--limit", metavar="SECONDS", type=float, default=LIMIT_S, help="for each library and form; default: %(default)g"
    )
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "FORM"), help="measure these alone, in this process")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the result as JSON")
    args = parser.parse_args(arguments)
    try:
        if args.one is not None:
            print(json.dumps(measure_one(args.bundle, *args.one)))
            return 0
        found = grammars(args.bundle, limit_s=args.limit)
    except PocketSeqError as error:
        print(error, file=sys.stderr)
        return 1
    if args.output is not None:
        write_json(args.output, found)
    print(grammars_markdown(found))
    return 0


def grammars_markdown(found: Mapping[str, Any]) -> str:
    """The table of a README.

    Raises:
        DataError: a result of another format.
    """
    if found.get("format") != FORMAT:
        raise DataError(f"grammars: expected format {FORMAT}, found {found.get('format')!r}; measure again")
    libraries = found["libraries"]
    names = [f"{name} {one['version'] or '(not installed)'}" for name, one in libraries.items()]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for form, what in FORMS.items():
        spelled = " `{}`".format(what.replace("|", r"\|")) if isinstance(what, str) and form != "100 labels" else ""
        cells = [_cell(one["forms"].get(form)) for one in libraries.values()]
        lines.append(f"| {form}{spelled} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "–"
    if "failed" in one:
        return str(one["failed"])
    return f"ready in {one['ready_ms']:.1f} ms; a mask {one['mask_us']['p50']:.0f} µs (p99 {one['mask_us']['p99']:.0f} µs)"


if __name__ == "__main__":
    sys.exit(main())
