"""Every error that pocketseq raises on purpose.

PocketSeqError
├── InputError            the text or fields given are not what the model's template takes
│   └── InputTooLongError     longer than the template's budget, and the caller asked to refuse
├── DataError             a row of a data file is bad; names file and line
├── BundleError           a bundle cannot be used
│   ├── BundleNotFoundError   no bundle of that name or at that path
│   ├── BundleCorruptError    truncated, tampered with, or a hash that does not match
│   ├── BundleFormatError     made by a newer pocketseq, or not a manifest at all
│   └── VariantNotFoundError  the bundle holds no such runtime or precision
├── CheckpointError       a directory is not a checkpoint that this project can use
├── RecipeError           a recipe is malformed or names something unknown
├── TrainingError         a training cannot go on: nothing to train on, or a loss that is not finite
├── LabellingError        labels cannot be made or written: a worker died, the disk is full, the file is in use
│   ├── TeacherError          a teacher gave what is no answer, or cannot do what was asked of it
│   └── BudgetSpentError      the budget of an endpoint is spent; the labels so far are kept
├── RuntimeUnavailableError   the library that a variant needs is not installed or cannot run it
├── MissingExtraError     an optional dependency is absent; ends in the pip line that mends it
├── QueueFullError        a batch queue has as many requests waiting as it may
├── CalibrationError      a threshold was asked for where none can be had
│   └── InfeasibleRiskError   no threshold keeps the risk; names the smallest that one would
├── PolicyError           a hybrid's policy names an unknown mode or a number out of its range
└── EndpointError         the cloud endpoint gave no usable answer
    ├── EndpointUnavailableError  refused, unresolvable or broken connection
    │   └── EndpointOfflineError      this machine has no network; nothing was sent
    ├── EndpointTimeoutError      no answer within the deadline
    ├── EndpointAuthError         401 or 403
    ├── EndpointRateLimitError    429
    ├── EndpointServerError       5xx
    ├── EndpointResponseError     an answer that is not in the expected form
    │   └── EndpointRefusalError      the model declined to answer
    └── EndpointWithheldError     nothing was sent: the budget is spent, the endpoint rests after failures, or the policy forbids it

A message says what was expected, what was found and what to do about it.
"""

from __future__ import annotations

import copyreg
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketseq.calibration.calibrated import Calibrated


class PocketSeqError(Exception):
    """Base of every error raised on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to another process as it is: made anew from its message alone, as Python does it, some would lack arguments."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InputError(PocketSeqError):
    """The text or fields given are not what the model's template takes."""


class InputTooLongError(InputError):
    """The input is over the template's budget and the caller asked to refuse such input."""


class DataError(PocketSeqError):
    """A row of a data file is bad."""


class BundleError(PocketSeqError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """No bundle of that name or at that path."""


class BundleCorruptError(BundleError):
    """A file of the bundle is truncated, tampered with or missing."""


class BundleFormatError(BundleError):
    """The manifest is of a newer format, or is no manifest at all."""


class VariantNotFoundError(BundleError):
    """The bundle holds no variant with the runtime and precision asked for."""


class CheckpointError(PocketSeqError):
    """A directory is not a checkpoint that this project can use."""


class RecipeError(PocketSeqError):
    """A recipe is malformed or names something unknown."""


class TrainingError(PocketSeqError):
    """A training cannot go on: nothing to train on, or a loss that is not finite."""


class LabellingError(PocketSeqError):
    """Labels cannot be made or written."""


class TeacherError(LabellingError):
    """A teacher gave what is no answer, or cannot do what was asked of it."""


class BudgetSpentError(LabellingError):
    """The budget of an endpoint is spent; the labels so far are kept, and a larger budget goes on from them."""


class RuntimeUnavailableError(PocketSeqError):
    """The library that a variant needs is not installed or cannot run it."""


class MissingExtraError(PocketSeqError):
    """An optional dependency is absent."""

    def __init__(self, extra: str, module: str) -> None:
        """Say which extra brings the missing module.

        Args:
            extra: Name of the extra, such as ``"cloud"``.
            module: The module that could not be imported.
        """
        super().__init__(
            f'this needs the module {module!r}, which is not installed; mend it with: pip install "pocketseq[{extra}]"'
        )


class QueueFullError(PocketSeqError):
    """A batch queue has as many requests waiting as it may."""


class CalibrationError(PocketSeqError):
    """A threshold was asked for where none can be had."""


class InfeasibleRiskError(CalibrationError):
    """No threshold is shown to keep the risk that was asked for."""

    def __init__(self, message: str, calibrated: Calibrated) -> None:
        """Say which risk could be kept instead.

        Args:
            message: Expected, found, remedy.
            calibrated: The calibration that serves nothing, with all that it was made of.
        """
        super().__init__(message)
        self.calibrated = calibrated
        """The calibration that serves nothing, ``smallest_risk`` and ``smallest_coverage``, and all that they were made of; without
        its ``scorers`` where the error came from another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave behind what cannot cross to another process: scorers are functions."""
        make, arguments, known = super().__reduce__()
        return make, arguments, {**known, "calibrated": replace(self.calibrated, scorers={})}


class PolicyError(PocketSeqError):
    """A hybrid's policy names an unknown mode or a number out of its range."""


class EndpointError(PocketSeqError):
    """The cloud endpoint gave no usable answer."""

    retryable = False
    """Whether the same request may do better a moment later; the class says what is usual, an error may know better."""

    def __init__(
        self,
        message: str,
        *,
        request_bytes: int = 0,
        response_bytes: int = 0,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Say what went wrong, and what had left the device by then.

        Args:
            message: Expected, found, remedy; never a key.
            request_bytes: Bytes of request bodies handed to the network.
            response_bytes: Bytes of response bodies that came back.
            status: HTTP status, where there was one.
            retryable: Whether the same request may do better a moment later; what is usual for the class if not given.
            retry_after_s: How long the endpoint asks to be left alone.
        """
        super().__init__(message)
        self.request_bytes = request_bytes
        self.response_bytes = response_bytes
        self.status = status
        self.retry_after_s = retry_after_s
        if retryable is not None:
            self.retryable = retryable


class EndpointUnavailableError(EndpointError):
    """Refused, unresolvable or broken connection."""

    retryable = True


class EndpointOfflineError(EndpointUnavailableError):
    """This machine has no network; nothing was sent."""

    retryable = False


class EndpointTimeoutError(EndpointError):
    """No answer within the deadline."""


class EndpointAuthError(EndpointError):
    """The endpoint answered 401 or 403."""


class EndpointRateLimitError(EndpointError):
    """The endpoint answered 429."""

    retryable = True


class EndpointServerError(EndpointError):
    """The endpoint answered 5xx."""

    retryable = True


class EndpointResponseError(EndpointError):
    """The endpoint's answer is not in the expected form."""


class EndpointRefusalError(EndpointResponseError):
    """The model declined to answer, in so many words or by a filter of its provider."""


class EndpointWithheldError(EndpointError):
    """Nothing was sent: the budget is spent, the endpoint rests after failures, or the policy forbids it."""
