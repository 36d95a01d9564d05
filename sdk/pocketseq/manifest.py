"""The manifest of a bundle: what it holds, how an input is read, and how good each variant was measured to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeAlias

from pocketseq.confidence.gain import Gain
from pocketseq.confidence.logistic import Logistic
from pocketseq.errors import BundleCorruptError, BundleFormatError, InputError, VariantNotFoundError
from pocketseq.files import digest, sha256
from pocketseq.records import plain, read_record
from pocketseq.template import Template

FORMAT: Final = 1
"""Newest manifest format that this version reads, and the one that it writes."""

SERVES_NOTHING: Final = 2.0
"""Threshold of a calibration that found no safe one: no confidence reaches it."""

Guarantee: TypeAlias = Literal["binomial", "hoeffding-bentkus", "conformal"]
"""``binomial`` and ``hoeffding-bentkus`` bound the risk among the answers served, with probability 1 − delta over the calibration
rows: the first for losses of 0 or 1, the second for any loss within these. ``conformal`` bounds the share of all suggestions that
are served and wrong, on average over calibration rows, and has no delta."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle, pinned."""

    path: str
    """Relative to the bundle's folder, with forward slashes."""
    sha256: str
    """Hex digest of its content."""
    size_bytes: int
    """Length of its content."""

    def __post_init__(self) -> None:
        if unsafe_path(self.path):
            raise BundleCorruptError(f"expected a path inside the bundle's folder, found {self.path!r}; do not use this bundle")
        if not _SHA256.fullmatch(self.sha256) or self.size_bytes < 0:
            raise BundleFormatError(f"{self.path}: expected a sha256 of 64 hex digits and a size, found {self.sha256!r:.80}")

    @classmethod
    def describe(cls, root: Path, path: str) -> BundleFile:
        """Measure the file at ``path`` under ``root``."""
        return cls(path=path, sha256=sha256(root / path), size_bytes=(root / path).stat().st_size)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes and special tokens of the model that all variants share."""

    vocab_size: int
    """Columns of the log-probabilities."""
    d_model: int
    """Width of the pooled encoder state."""
    encoder_layers: int
    decoder_layers: int
    """Number of layers that have keys and values in the cache."""
    heads: int
    """Attention heads of a decoder layer."""
    head_dim: int
    """Width of one head's keys and values."""
    start_id: int
    """Token that the decoder is given first."""
    end_id: int
    """Token that ends an answer."""
    pad_id: int
    """Token that fills the shorter inputs of a batch."""
    max_target_tokens: int
    """Longest answer that the decoder's positions reach, end token included."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Defaults of generating."""

    max_new_tokens: int
    """Longest answer in tokens, end token included, unless the caller says otherwise."""
    forced_prefix: tuple[int, ...] = ()
    """Tokens that the decoder is given after the start token, such as the target's language; no part of the answer."""
    draft: bool = False
    """Whether greedy answers are verified against the input's primary field, several tokens at a time, unless the caller says
    otherwise: it pays where an answer copies most of it."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise BundleFormatError(f"max_new_tokens: expected at least 1, found {self.max_new_tokens}; export the bundle again")


@dataclass(frozen=True, slots=True)
class Parity:
    """How a variant's generations agree with the checkpoint's, in PyTorch."""

    inputs: int
    """Number of held-out inputs that both answered."""
    identical_generations: float
    """Share of them with the same tokens, 0 to 1."""
    max_abs_logit_difference: float
    """Largest difference of a log-probability on the same prefix."""
    mean_abs_logit_difference: float | None = None
    """Mean of these differences over prefixes and vocabulary; None where an older version measured."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold of confidence with a promise: of the answers at or above it at most ``risk`` are wrong."""

    scorer: str
    """Name of the confidence scorer, a key of ``pocketseq.confidence.SCORERS``, ``learned`` or ``learned_gain``."""
    threshold: float
    """An answer of at least this confidence is served locally; ``SERVES_NOTHING`` where no threshold keeps the promise."""
    risk: float
    """Largest share of wrong answers among those served, or largest mean loss where wrong is a matter of degree."""
    delta: float
    """Probability, over the calibration data, that the promise does not hold."""
    coverage: float
    """Share of the calibration rows that the threshold serves."""
    accuracy: float | None
    """Share of right answers among those served, 1 less their mean loss; None where none is."""
    n: int
    """Calibration rows that chose the threshold."""
    auroc: float | None
    """Area under the ROC curve of the confidence on those rows; None where all answers are right or all wrong."""
    variant: str
    """``Variant.hash`` of the variant that answered."""
    data: str
    """Fingerprint of the calibration rows."""
    loss: str = "exact"
    """What counts as wrong, as ``pocketseq.calibration.Loss`` reads it."""
    guarantee: Guarantee = "binomial"
    """What is promised and by which test; see ``Guarantee``."""
    learned: Logistic | None = None
    """The numbers of the learned scorer; None where a rule was chosen."""
    gain: Gain | None = None
    """The numbers of the scorer of gain; None where another was chosen."""
    gate: Logistic | None = None
    """The numbers of the pre-decode gate; None where none was fitted."""

    def __post_init__(self) -> None:
        if not (0 < self.risk < 1 and 0 < self.delta < 1 and self.threshold >= 0):
            raise BundleFormatError(
                "calibration: expected a risk and a delta between 0 and 1 and a threshold of at least 0, "
                f"found {self.risk}, {self.delta} and {self.threshold}; calibrate again"
            )

    @property
    def feasible(self) -> bool:
        """Whether any answer can be served under the promise."""
        return self.threshold < SERVES_NOTHING

    @property
    def promise(self) -> str:
        """What is promised, in words for people."""
        wrong = {"exact": "wrong", "teacher": "unlike the teacher's answer"}.get(self.loss, f"wrong ({self.loss})")
        risk, sure = (f"{share:.1%}".replace(".0%", "%") for share in (self.risk, 1 - self.delta))
        if self.guarantee == "conformal":
            return f"on average at most {risk} of all suggestions are served locally and {wrong}"
        what = f"at most {risk} are {wrong}"
        if self.guarantee == "hoeffding-bentkus":
            what = f"the mean loss (by {self.loss}) is at most {risk}"
        return f"of the answers served locally {what}, with probability {sure}"


@dataclass(frozen=True, slots=True)
class Variant:
    """The model for one runtime at one precision."""

    runtime: str
    """``onnx``, ``tflite`` or ``coreml``."""
    precision: str
    """Such as ``fp32`` or ``int8``."""
    files: tuple[BundleFile, ...]
    """All that the runtime reads."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """Measures on held-out rows, by name."""
    parity: Parity | None = None
    """None where it was not judged."""
    calibration: Calibration | None = None
    """None where there is none; bound to ``hash``."""
    kept_layers: tuple[str, ...] = ()
    """Layers that broke at this precision when it was measured, and are held in a higher one."""
    degraded: str | None = None
    """Why it would not have passed its verification, where it ships all the same; None where it passed or was not judged."""
    unchecked: str | None = None
    """Why it could not be run where the bundle was verified; None where it was run, or nobody tried."""

    @property
    def hash(self) -> str:
        """Digest of the variant's files: another export has another hash."""
        return digest(sorted([file.path, file.sha256] for file in self.files))

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def label(self) -> str:
        """Name for people, such as ``onnx/int8``."""
        return f"{self.runtime}/{self.precision}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``manifest.json`` says."""

    name: str
    version: str
    """Version of the bundle, not of its format."""
    task: str
    license: str
    """SPDX expression for the weights."""
    template: Template
    tokenizer: BundleFile
    geometry: Geometry
    generation: Generation
    variants: tuple[Variant, ...]
    """In order of preference."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the model comes from: teacher, data, recipe, versions."""
    format: int = FORMAT

    def __post_init__(self) -> None:
        labels = [variant.label for variant in self.variants]
        if len(set(labels)) != len(labels):
            raise BundleFormatError(f"expected each runtime and precision once, found {labels}")

    def variant(self, *, runtime: str | None = None, precision: str | None = None) -> Variant:
        """Find the first variant with this runtime and precision; None takes any.

        Raises:
            VariantNotFoundError: naming the variants that there are.
        """
        for variant in self.variants:
            if runtime in (None, variant.runtime) and precision in (None, variant.precision):
                return variant
        there = ", ".join(variant.label for variant in self.variants) or "none"
        wanted = "/".join(filter(None, (runtime, precision))) or "of any kind"
        raise VariantNotFoundError(
            f"bundle {self.name!r}: expected a variant {wanted}, found {there}; ask for one of these or export the missing one"
        )

    def replacing(self, variant: Variant) -> Manifest:
        """The manifest with this variant in the place of the one of the same runtime and precision."""
        self.variant(runtime=variant.runtime, precision=variant.precision)
        return replace(self, variants=tuple(variant if old.label == variant.label else old for old in self.variants))

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values, the format first."""
        values = plain(self)
        return {"format": values.pop("format"), **values}

    @classmethod
    def from_json(cls, value: object, *, where: str = "manifest.json") -> Manifest:
        """Read a manifest.

        Args:
            value: What ``json.loads`` gave.
            where: Names the file in a message.

        Raises:
            BundleFormatError: of a newer format, or not a manifest.
            BundleCorruptError: a path that leads out of the bundle's folder.
        """
        found = value.get("format") if isinstance(value, dict) else None
        if type(found) is not int or found < 1:
            raise BundleFormatError(f'{where}: expected a manifest with "format": {FORMAT}, found {found!r}; this is no bundle')
        if found > FORMAT:
            raise BundleFormatError(
                f"{where}: expected format {FORMAT} or older, found {found}; the bundle was made by a newer pocketseq, "
                'mend it with: pip install --upgrade "pocketseq"'
            )
        try:
            return read_record(cls, value, where=where, error=BundleFormatError)
        except InputError as error:
            raise BundleFormatError(f"{where}: {error}") from None


def unsafe_path(path: str) -> bool:
    """Whether a relative path, read on any system, could lead out of its folder or name no file."""
    parts = PurePosixPath(path).parts
    return not parts or path.startswith("/") or ".." in parts or any(sign in path for sign in "\\:\0")
