"""The model on the device: text in, answer out, with what is needed to trust it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from pocketseq.bundle import open_bundle
from pocketseq.confidence import DEFAULT_SCORER, SCORERS
from pocketseq.decoding import Sampling
from pocketseq.engine import Engine
from pocketseq.errors import InputError, RuntimeUnavailableError
from pocketseq.manifest import Calibration, Manifest, Variant
from pocketseq.results import Result
from pocketseq.runtimes.opening import open_runtime, require_runtime
from pocketseq.runtimes.protocol import AnyRuntime
from pocketseq.template import Input, Overflow, Template
from pocketseq.tokenizer import TextTokenizer


class PocketModel:
    """A model that answers on the device; one serves any number of threads.

    ``load`` checks the bundle; what runs it is opened at the first answer, or by ``warm_up``.
    """

    def __init__(
        self,
        manifest: Manifest,
        variant: Variant,
        *,
        open_tokenizer: Callable[[], TextTokenizer],
        open_runtime: Callable[[], AnyRuntime],
        close: Callable[[], None] | None = None,
    ) -> None:
        """Put a model together from its parts; ``load`` does it for a bundle.

        Args:
            manifest: What the model is.
            variant: The one of its variants that runs.
            open_tokenizer: Opens the bundle's tokenizer; called once.
            open_runtime: Opens the variant; called once.
            close: Called when the model is closed.
        """
        self.manifest = manifest
        """The bundle's manifest."""
        self.variant = variant
        """The variant that answers."""
        self.calibration_problem = _calibration_problem(variant)
        """Why there is no calibration, in a sentence; None where there is one."""
        self.calibration: Calibration | None = None if self.calibration_problem else variant.calibration
        """The threshold made on this very variant; None where there is none that holds."""
        self._scorer = self.calibration.scorer if self.calibration else DEFAULT_SCORER
        self._open_tokenizer = open_tokenizer
        self._open_runtime = open_runtime
        self._close = close
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False

    @classmethod
    def load(cls, source: str | Path, *, runtime: str | None = None, precision: str | None = None, threads: int = 1) -> PocketModel:
        """Load a bundle and check its format and the hashes of the files that will run.

        Args:
            source: A directory or ``.pocketseq`` file, the name of a packaged bundle such as ``python-fix``, or ``hf://org/name``.
            runtime: Such as ``onnx``; None takes the bundle's first that fits.
            precision: Such as ``int8``; None takes the bundle's first that fits.
            threads: Threads for one call. One is fastest for small models, and leaves the other cores alone.

        Raises:
            BundleNotFoundError: nothing there.
            BundleFormatError: of a newer format, or no manifest.
            BundleCorruptError: truncated, changed or incomplete.
            VariantNotFoundError: no such runtime or precision in it.
            RuntimeUnavailableError: the library that the variant needs is not installed.
        """
        bundle = open_bundle(source)
        try:
            manifest = bundle.manifest
            variant = manifest.variant(runtime=runtime, precision=precision)
            require_runtime(variant)
            bundle.paths([manifest.tokenizer, *variant.files])
        except BaseException:
            bundle.close()
            raise

        return cls(
            manifest,
            variant,
            open_tokenizer=lambda: TextTokenizer.from_file(bundle.path(manifest.tokenizer)),
            open_runtime=lambda: open_runtime(bundle, variant, threads=threads),
            close=bundle.close,
        )

    @property
    def template(self) -> Template:
        """How an input is read."""
        return self.manifest.template

    def generate(
        self,
        source: Input,
        *,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        overflow: Overflow = "truncate",
    ) -> Result:
        """Answer one input.

        Args:
            source: A text for the template's primary field, or a mapping of field names to texts.
            max_new_tokens: Longest answer, end token included; None takes the bundle's default.
            sampling: How to draw tokens; None takes the likeliest, which is what calibration measured.
            overflow: ``truncate`` cuts a field that is over its budget and says so in the result; ``refuse`` raises.

        Raises:
            InputError: not what the template takes, or an argument out of its range.
            InputTooLongError: over the budget, and ``overflow`` is ``refuse``.
        """
        limit = self._limit(max_new_tokens)
        engine = self._opened()
        return engine.answer([engine.read(source, overflow)], max_new_tokens=limit, sampling=sampling)[0]

    def generate_batch(
        self,
        sources: Sequence[Input],
        *,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        overflow: Overflow = "truncate",
    ) -> list[Result]:
        """Answer many inputs, those of like length together.

        A variant that quantizes activations as it runs may round an input differently beside others than alone: what is served
        one by one is measured one by one.

        Args:
            sources: Inputs as ``generate`` takes them.
            max_new_tokens: See ``generate``.
            sampling: See ``generate``.
            overflow: See ``generate``.

        Returns:
            Results in the order of the inputs.

        Raises:
            InputError: as ``generate``, with the number of the input; nothing was answered then.
        """
        if isinstance(sources, str | Mapping):
            raise InputError(
                f"expected a sequence of inputs, found one {type(sources).__name__}; call generate, or put it in a list"
            )
        limit = self._limit(max_new_tokens)
        engine = self._opened()
        jobs = []
        for number, source in enumerate(sources):
            try:
                jobs.append(engine.read(source, overflow))
            except InputError as error:
                raise type(error)(f"input {number}: {error}") from None
        return engine.answer(jobs, max_new_tokens=limit, sampling=sampling)

    def stream(
        self,
        source: Input,
        *,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        overflow: Overflow = "truncate",
    ) -> Generator[str, None, Result]:
        """Answer one input piece by piece; closing the generator stops the model.

        Args:
            source: See ``generate``.
            max_new_tokens: See ``generate``.
            sampling: See ``generate``.
            overflow: See ``generate``.

        Returns:
            A generator of pieces that never split a character and together are the text that ``generate`` gives; its return value,
            for those who ask for it, is the whole result.

        Raises:
            InputError: see ``generate``; at the call, not at the first piece.
        """
        limit = self._limit(max_new_tokens)
        engine = self._opened()
        return engine.stream(engine.read(source, overflow), max_new_tokens=limit, sampling=sampling)

    def warm_up(self) -> None:
        """Open the tokenizer and the runtime now instead of at the first answer."""
        self._opened()

    def close(self) -> None:
        """Let go of memory and unpacked files; answers that are under way end well, later ones raise."""
        with self._lock:
            closing, self._close = self._close, None
            self._engine = None
            self._closed = True
        if closing is not None:
            closing()

    def __enter__(self) -> PocketModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PocketModel({self.manifest.name!r}, {self.variant.label})"

    def _opened(self) -> Engine:
        engine = self._engine
        if engine is None:
            with self._lock:
                if self._closed:
                    raise RuntimeUnavailableError(f"{self!r}: expected an open model, found it closed; load it again")
                engine = self._engine
                if engine is None:
                    tokenizer, runtime = self._open_tokenizer(), self._open_runtime()
                    engine = Engine(manifest=self.manifest, tokenizer=tokenizer, runtime=runtime, scorer=self._scorer)
                    self._engine = engine
        return engine

    def _limit(self, max_new_tokens: int | None) -> int:
        if max_new_tokens is None:
            return self.manifest.generation.max_new_tokens
        longest = self.manifest.geometry.max_target_tokens
        if type(max_new_tokens) is not int or not 1 <= max_new_tokens <= longest:
            raise InputError(f"max_new_tokens: expected a whole number from 1 to {longest}, found {max_new_tokens!r}")
        return max_new_tokens


def _calibration_problem(variant: Variant) -> str | None:
    calibration = variant.calibration
    if calibration is None:
        return f"expected a calibration of {variant.label}, found none; make one with: pocketseq calibrate BUNDLE --data ROWS.jsonl"
    if calibration.variant != variant.hash:
        return (
            f"expected a calibration of {variant.label} with the hash {variant.hash}, found one of {calibration.variant}: "
            "it was made on other files and promises nothing about these; calibrate again"
        )
    if calibration.scorer not in SCORERS:
        return f"expected a calibration with a scorer among {sorted(SCORERS)}, found {calibration.scorer!r}; upgrade pocketseq"
    return None
