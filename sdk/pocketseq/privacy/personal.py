"""Personal data: addresses and numbers that lead to a person, checked by their check digits where they have some."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from pocketseq.errors import MissingExtraError
from pocketseq.privacy.finding import Detector, Finding

_MARKS: Final = "\u0300-\u036f\u0900-\u0dff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Blocks of scripts that write vowels as marks, and accents that stand alone: ``\\w`` knows letters, not their marks."""
_EMAIL: Final = re.compile(
    rf"[\w.%+{_MARKS}-]{{1,64}}@(?:[\w{_MARKS}-]{{1,63}}\.){{1,8}}"
    rf"(?:xn--[A-Za-z0-9-]{{1,59}}|(?:(?![\d_])[\w{_MARKS}]){{2,24}})(?![A-Za-z0-9_])"
)
"""Where words are written without blanks those beside it are taken along: nobody can tell them from it."""
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD: Final = re.compile(r"(?<![\d.])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\d.]\d|\d)")
"""Whatever blanks its digits stand in, if no other number stands beside it."""
_CARD_START: Final = re.compile(r"(?<![\d.])[2-6](?=\d{3})")
_PRINTED_CARDS: Final = tuple(
    re.compile(rf"{form}(?![\d.]\d|\d)")
    for form in (r"\d{13,19}", r"\d{4}(?:[ -]\d{4}){3}", r"\d{4}(?:[ -]\d{4}){3}[ -]\d{1,3}", r"\d{4}[ -]\d{6}[ -]\d{4,5}")
)
"""As cards are printed: known beside an expiry date or a code too. Any groups of digits would be too many, for of those that long
every tenth has a right check digit by chance."""
_IP: Final = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]{2,39}(?:\.\d{1,3}){0,3})(?![\w:]|\.\d)")


def personal_data(text: str, /) -> Iterator[Finding]:
    """Find e-mail addresses, and bank accounts (IBAN) and payment cards whose check digits are right."""
    for match in _EMAIL.finditer(text):
        yield Finding("email", *match.span())
    for match in _IBAN.finditer(text):
        stop = _iban_end(match.group())
        if stop:
            yield Finding("iban", match.start(), match.start() + stop)
    for match in _CARD.finditer(text):
        if _luhn(match.group()):
            yield Finding("payment_card", *match.span())
    for start in _CARD_START.finditer(text):
        for form in _PRINTED_CARDS:
            if (printed := form.match(text, start.start())) and _luhn(printed.group()):
                yield Finding("payment_card", *printed.span())


def ip_addresses(text: str, /) -> Iterator[Finding]:
    """Find IP addresses, save this machine's own and the unspecified one; not among the detectors that are built in."""
    for match in _IP.finditer(text):
        try:
            address = ipaddress.ip_address(match.group())
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified):
            yield Finding("ip_address", *match.span())


def phone_numbers(region: str | None = None) -> Detector:
    """A detector of telephone numbers, by the library that Android knows them with.

    Args:
        region: Two letters of the country whose numbers are also known without ``+`` and country code, such as ``DE``.

    Raises:
        MissingExtraError: the ``phonenumbers`` package is not installed.
    """
    try:
        import phonenumbers
    except ImportError as error:
        raise MissingExtraError("privacy", "phonenumbers") from error

    def detect(text: str, /) -> Iterator[Finding]:
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            yield Finding("phone_number", match.start, match.end)

    return detect


def _iban_end(text: str) -> int:
    """Length of the IBAN at the start of a text, blanks included; 0 where the check digits are wrong (ISO 13616, mod 97)."""
    stops = [match.end() for match in re.finditer(r"[A-Z0-9](?= |$)", text)]
    for stop in reversed(stops):
        letters = text[:stop].replace(" ", "")
        moved = letters[4:] + letters[:4]
        if 15 <= len(letters) <= 34 and int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1:
            return stop
    return 0


def _luhn(text: str) -> bool:
    """Whether a card number's check digit is right (ISO/IEC 7812)."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    return sum(digits[::2]) % 10 == -sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2]) % 10
