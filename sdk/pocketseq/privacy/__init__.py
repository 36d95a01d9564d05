"""What may leave the device: detectors of secrets and personal data, and redaction that is undone in the answer."""

from pocketseq.privacy.finding import Detector, Finding
from pocketseq.privacy.outgoing import Outgoing, prepare
from pocketseq.privacy.personal import ip_addresses, personal_data, phone_numbers
from pocketseq.privacy.redaction import Redacted, Redaction, redact
from pocketseq.privacy.secrets import secrets

BUILT_IN: tuple[Detector, ...] = (secrets, personal_data)
"""What is redacted unless the caller says otherwise."""

__all__ = [
    "BUILT_IN",
    "Detector",
    "Finding",
    "Outgoing",
    "Redacted",
    "Redaction",
    "ip_addresses",
    "personal_data",
    "phone_numbers",
    "prepare",
    "redact",
    "secrets",
]
