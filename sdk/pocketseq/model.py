"""The model on the device: text in, answer out, with what is needed to trust it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Unpack

from pocketseq.bundle import open_bundle
from pocketseq.confidence import Scoring, calibration_problem
from pocketseq.engine import Engine
from pocketseq.errors import InputError, RuntimeUnavailableError, VariantNotFoundError
from pocketseq.manifest import Calibration, Manifest, Variant
from pocketseq.options import Options, Request, request_of
from pocketseq.results import Result, Score
from pocketseq.runtimes.opening import choose_variant, open_runtime
from pocketseq.runtimes.protocol import AnyRuntime
from pocketseq.template import Input, Overflow, Template
from pocketseq.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from pocketseq.asynchronous import AsyncAnswer


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
        scoring: Scoring | None = None,
    ) -> None:
        """Put a model together from its parts; ``load`` does it for a bundle.

        Args:
            manifest: What the model is.
            variant: The one of its variants that runs.
            open_tokenizer: Opens the bundle's tokenizer; called once.
            open_runtime: Opens the variant; called once.
            close: Called when the model is closed.
            scoring: How answers are judged; None takes what the variant's calibration brings.
        """
        self.manifest = manifest
        """The bundle's manifest."""
        self.variant = variant
        """The variant that answers."""
        self.calibration_problem = calibration_problem(variant, d_model=manifest.geometry.d_model)
        """Why there is no calibration, in a sentence; None where there is one."""
        self.calibration: Calibration | None = None if self.calibration_problem else variant.calibration
        """The threshold made on this very variant; None where there is none that holds."""
        self._scoring = scoring or Scoring.of(self.calibration)
        self._open_tokenizer, self._open_runtime = open_tokenizer, open_runtime
        self._close = close
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        runtime: str | None = None,
        precision: str | None = None,
        threads: int = 1,
        compute_units: str | None = None,
        graph_cache: bool | str | Path = False,
    ) -> PocketModel:
        """Load a bundle and check its format and the hashes of the files that will run.

        Args:
            source: A directory or ``.pocketseq`` file, the name of a packaged bundle such as ``python-fix``, or ``hf://org/name``.
            runtime: Such as ``onnx``; None takes the bundle's first that fits.
            precision: Such as ``int8``; None takes the bundle's first that fits.
            threads: Threads for one call. One is fastest for small models, and leaves the other cores alone.
            compute_units: Of a Core ML variant: ``ALL``, ``CPU_ONLY``, ``CPU_AND_GPU`` or ``CPU_AND_NE``; None is ``CPU_AND_GPU``.
            graph_cache: Keep what onnxruntime makes of the graphs of an ONNX variant, so that later processes open them sooner:
                in a folder of yours, or with True beside the bundle, or in the user's cache where the bundle lies inside an
                installed package or where nothing can be written. The answers are the same.

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
            variant = choose_variant(manifest, runtime=runtime, precision=precision)
            bundle.paths([manifest.tokenizer, *variant.files])
        except VariantNotFoundError as error:
            bundle.close()
            raise VariantNotFoundError(f"{error}{bundle.elsewhere}") from None
        except BaseException:
            bundle.close()
            raise

        return cls(
            manifest,
            variant,
            open_tokenizer=lambda: TextTokenizer.from_file(bundle.path(manifest.tokenizer)),
            open_runtime=lambda: open_runtime(
                bundle, variant, threads=threads, compute_units=compute_units, graph_cache=graph_cache
            ),
            close=bundle.close,
        )

    @property
    def template(self) -> Template:
        """How an input is read."""
        return self.manifest.template

    def generate(self, source: Input, **options: Unpack[Options]) -> Result:
        """Answer one input.

        Args:
            source: A text for the template's primary field, or a mapping of field names to texts.
            **options: ``max_new_tokens``, ``beams``, ``sampling``, ``constraints``, ``alternatives``, ``pooled``, ``overflow``,
                ``deadline_s``, ``cancellation`` and ``on_gate``; see ``Options``.

        Raises:
            InputError: not what the template takes, an option out of its range, or two that exclude each other.
            InputTooLongError: over the budget, and ``overflow`` is ``refuse``.
            MissingExtraError: a grammar without the extra ``grammar``.
        """
        return self._generate(source, request_of(options), perf_counter())

    def generate_batch(self, sources: Sequence[Input], **options: Unpack[Options]) -> list[Result]:
        """Answer many inputs, those of like length together.

        A variant that quantizes activations as it runs may round an input differently beside others than alone: what is served
        one by one is measured one by one.

        Args:
            sources: Inputs as ``generate`` takes them.
            **options: See ``generate``; the deadline is one for all.

        Returns:
            Results in the order of the inputs.

        Raises:
            InputError: as ``generate``, with the number of the input; nothing was answered then. What a callback raises
                passes as it is, and ``answers_before`` gives the answers that were finished by then.
        """
        return self._generate_batch(sources, request_of(options), perf_counter())

    def stream(self, source: Input, **options: Unpack[Options]) -> Generator[str, None, Result]:
        """Answer one input piece by piece; closing the generator stops the model.

        Args:
            source: See ``generate``.
            **options: See ``generate``. With beams a piece comes when all that can still win agree on it, and is never taken back.

        Returns:
            A generator of pieces that never split a character and together are the text that ``generate`` gives; its return value,
            for those who ask for it, is the whole result.

        Raises:
            InputError: see ``generate``; at the call, not at the first piece.
        """
        return self._stream(source, request_of(options), perf_counter())

    def score(self, source: Input, target: str, *, alternatives: int = 0, overflow: Overflow = "truncate") -> Score:
        """Say how likely the model finds a given answer to an input, in one step of the decoder.

        Args:
            source: See ``generate``.
            target: The answer, as ``Result.text`` would be.
            alternatives: See ``Options``.
            overflow: See ``Options``.

        Raises:
            InputError: see ``generate``; or a target that is too long, or no edit of what the model sees.
        """
        return self.score_batch([source], [target], alternatives=alternatives, overflow=overflow)[0]

    def score_batch(
        self, sources: Sequence[Input], targets: Sequence[str], *, alternatives: int = 0, overflow: Overflow = "truncate"
    ) -> list[Score]:
        """Score an answer to each of many inputs; see ``score``.

        Returns:
            Scores in the order of the inputs.
        """
        request = Request(alternatives=alternatives, overflow=overflow)
        _check_many(sources)
        _check_many(targets)
        if len(sources) != len(targets) or not all(isinstance(target, str) for target in targets):
            raise InputError(f"expected a target, a string, for each of {len(sources)} inputs, found {len(targets)} targets")
        engine = self._opened()
        return engine.score(engine.read_all(sources, request, called=perf_counter()), targets, engine.plan(request))

    async def agenerate(self, source: Input, **options: Unpack[Options]) -> Result:
        """Answer one input without blocking the event loop; see ``generate``. Cancelling the task stops the model within a step."""
        from pocketseq.asynchronous import asked

        return await asked(lambda request, called: self._generate(source, request, called), options)

    async def agenerate_batch(self, sources: Sequence[Input], **options: Unpack[Options]) -> list[Result]:
        """Answer many inputs without blocking the event loop; see ``generate_batch`` and ``agenerate``."""
        from pocketseq.asynchronous import asked

        return await asked(lambda request, called: self._generate_batch(sources, request, called), options)

    def astream(self, source: Input, **options: Unpack[Options]) -> AsyncAnswer:
        """Answer one input piece by piece without blocking the event loop; see ``stream``.

        Returns:
            An asynchronous iterator of pieces, whose ``result`` is the whole result once it has ended.

        Raises:
            InputError: see ``stream``; at the call, unless the model is yet to be opened: what only an open model can tell, such as
                that an input is over its budget, is then told with the first piece.
        """
        from pocketseq.asynchronous import AsyncAnswer

        self.template.fields_of(source)
        return AsyncAnswer(lambda *asked: self._stream(source, *asked), options, later=self._engine is None and not self._closed)

    def scored_by(self, scoring: Scoring) -> PocketModel:
        """The same model, which judges its answers otherwise, as calibration does; it lives as long as this one is open."""
        return PocketModel(
            self.manifest,
            self.variant,
            open_tokenizer=lambda: self._opened().tokenizer,
            open_runtime=lambda: self._opened().runtime,
            scoring=scoring,
        )

    def warm_up(self) -> None:
        """Open the tokenizer, and of the runtime what answers need, now instead of at the first answer."""
        self._opened().warm_up()

    def close(self) -> None:
        """Let go of memory and unpacked files; answers that are under way end well, later ones raise."""
        with self._lock:
            closing, self._close = self._close, None
            self._engine, self._closed = None, True
        if closing is not None:
            closing()

    def __enter__(self) -> PocketModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PocketModel({self.manifest.name!r}, {self.variant.label})"

    def _generate(self, source: Input, request: Request, called: float) -> Result:
        engine = self._opened()
        plan = engine.plan(request)
        return engine.answer([engine.read(source, request, called=called)], plan)[0]

    def _generate_batch(self, sources: Sequence[Input], request: Request, called: float) -> list[Result]:
        _check_many(sources)
        engine = self._opened()
        plan = engine.plan(request)
        return engine.answer(engine.read_all(sources, request, called=called), plan)

    def _stream(self, source: Input, request: Request, called: float) -> Generator[str, None, Result]:
        engine = self._opened()
        plan = engine.plan(request)
        return engine.stream(engine.read(source, request, called=called), plan)

    def _opened(self) -> Engine:
        engine = self._engine
        if engine is None:
            with self._lock:
                if self._closed:
                    raise RuntimeUnavailableError(f"{self!r}: expected an open model, found it closed; load it again")
                if (engine := self._engine) is None:
                    tokenizer, runtime = self._open_tokenizer(), self._open_runtime()
                    self._engine = engine = Engine(self.manifest, tokenizer, runtime, self._scoring)
        return engine


def _check_many(sources: object) -> None:
    if isinstance(sources, str | Mapping):
        raise InputError(f"expected a sequence of inputs, found one {type(sources).__name__}; call generate, or put it in a list")
