"""What leaves the device for one question: redacted, cut to its bound, and written as a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pocketseq.errors import EndpointWithheldError
from pocketseq.privacy.finding import Detector
from pocketseq.privacy.redaction import Redaction, redact
from pocketseq.template import Input, Template


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One question as it leaves."""

    prompt: str
    """The fields as ``Template.render_prompt`` writes them, after redaction and cutting."""
    instruction: str
    """The template's own, the same for every question."""
    redaction: Redaction = field(repr=False)
    """What was kept back, and the way back."""

    @property
    def size_bytes(self) -> int:
        """Of prompt and instruction together; what a transport puts around them is not counted."""
        return len(self.prompt.encode()) + len(self.instruction.encode())


def prepare(template: Template, source: Input, *, detectors: Iterable[Detector] = (), max_context: int | None = None) -> Outgoing:
    """Make of an input what may leave the device.

    Args:
        template: How the input is read and written.
        source: The input.
        detectors: What looks for secrets and personal data.
        max_context: Most characters of the input that may leave, redacted as it is. The primary field leaves whole or not at
            all; the others share what it left by their lengths, each cut where its template cuts.

    Raises:
        InputError: not what the template takes.
        EndpointWithheldError: the primary field alone is longer than ``max_context``.
    """
    redaction = redact(template.fields_of(source), detectors)
    texts = redaction.texts if max_context is None else _cut(template, redaction.texts, max_context)
    return Outgoing(prompt=template.render_prompt(texts), instruction=template.instruction, redaction=redaction)


def _cut(template: Template, texts: Mapping[str, str], limit: int) -> dict[str, str]:
    primary = len(texts[template.primary])
    left = limit - primary
    if left < 0:
        raise EndpointWithheldError(
            f"expected at most max_context={limit} characters in the field {template.primary!r}, found {primary}; nothing "
            "was sent: shorten it, or raise the policy's max_context"
        )
    others = sum(len(text) for name, text in texts.items() if name != template.primary)
    cut = {}
    for part in template.fields:
        text = texts[part.name]
        share = len(text) if part.name == template.primary or others <= left else len(text) * left // others
        cut[part.name] = text[len(text) - share :] if part.truncate == "left" else text[:share]
    return cut
