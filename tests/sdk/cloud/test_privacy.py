"""Privacy: what is found, what takes its place, that it comes back, and that nothing else leaves."""

from __future__ import annotations

import hashlib
import re
import string
import sys
import unicodedata
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketseq.errors import EndpointWithheldError, MissingExtraError
from pocketseq.hybrid import Hybrid, Replace
from pocketseq.policy import Policy
from pocketseq.privacy import BUILT_IN, Finding, Redacted, ip_addresses, personal_data, phone_numbers, prepare, redact, secrets
from pocketseq.privacy.redaction import StreamRestorer
from pocketseq.privacy.secrets import entropy
from pocketseq.template import Field, Template
from pocketseq.testing import FakeEndpoint, FakeModel, FakeStreamingEndpoint, Reply

UNSURE = {"confidence": 0.3, "threshold": 0.8}


def filler(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Text that looks random and is nobody's secret; put together here so that no fixture looks like a key."""
    return "".join(alphabet[(7 * place * place + 3 * place) % len(alphabet)] for place in range(length))


SECRETS = {
    "aws_key": "AKIA" + filler(16, string.ascii_uppercase + "234567"),
    "github_token": "ghp_" + filler(36),
    "gitlab_token": "glpat-" + filler(20),
    "openai_key": "sk-proj-" + filler(40),
    "slack_token": "xoxb-" + filler(24, string.digits),
    "google_key": "AIza" + filler(35),
    "stripe_key": "sk_live_" + filler(24),
    "hugging_face_token": "hf_" + filler(34),
    "package_token": "npm_" + filler(36),
    "jwt": f"eyJ{filler(20)}.eyJ{filler(30)}.{filler(43)}",
    "private_key": f"-----BEGIN RSA PRIVATE KEY-----\n{filler(64)}\n{filler(64)}\n-----END RSA PRIVATE KEY-----",
    "url_credentials": "bob:hunter2",
    "email": "bob.smith@mail.example.org",
    "iban": "GB82 WEST 1234 5698 7654 32",
    "payment_card": "4111 1111 1111 1111",
    "authorization": filler(24),
    "secret": filler(40),
}
AROUND = {"url_credentials": "postgres://{}@host/db", "authorization": "Authorization: Bearer {}", "secret": 'x = "{}"'}


@pytest.mark.parametrize("kind", SECRETS)
def test_every_kind_is_found_whole(kind: str) -> None:
    """The whole of it is replaced, the text around stays, and the way back gives every character again."""
    text = "before " + AROUND.get(kind, "{}").format(SECRETS[kind]) + " after"
    done = redact({"text": text}, BUILT_IN)
    assert SECRETS[kind] not in done.texts["text"]
    assert done.texts["text"] == text.replace(SECRETS[kind], f"<{kind.upper()}_1>")
    assert done.redacted == (Redacted(kind, 1),)
    assert done.restore(done.texts["text"]) == text
    assert SECRETS[kind] not in repr(done)


@pytest.mark.parametrize(
    "line",
    [
        'password = "correct horse battery staple"',
        'api_key: "not-random-but-named"',
        "DB_PASSWORD=Xk29fmQp10Zw",
        '{"access_token": "abc123def456"}',
        "export AWS_SECRET_ACCESS_KEY=" + filler(40),
        'password = "aB{9kLm2Qz7"',
        'password = "aB{9k}Lm2Qz7"',
        'password = "$ecretPa55word"',
        'password = "<9kLm2Qz7"',
        'password = "<9k>Lm2Qz7"',
        'password = "aB{:9kLm}2Qz7"',
        'password = "aB{.9k}Lm2Qz7"',
        """credentials = '{"user": "bob", "pin": "1234"}'""",
        'digest = "' + hashlib.md5(b"x", usedforsecurity=False).hexdigest() + '"',
    ],
)
def test_values_that_are_called_a_secret_or_look_random(line: str) -> None:
    """Passwords have no form of their own: their name or their randomness gives them away."""
    assert "secret" in {finding.kind for finding in secrets(line)}


@pytest.mark.parametrize(
    "address",
    [
        "jürgen.müller@bücher.example",
        unicodedata.normalize("NFD", "jürgen.müller@bücher.example"),
        "用户@例子.公司",
        "иван@почта.рф",
        "संपर्क@डाटामेल.भारत",
        "อีเมล@ตัวอย่าง.ไทย",
        "a@b.xn--p1ai",
    ],
    ids=ascii,
)
def test_an_address_may_hold_letters_of_any_language(address: str) -> None:
    """All of it is put aside, its marks too, and not only what follows the last letter beyond ASCII."""
    assert redact({"line": f"{address}, x"}, BUILT_IN).texts["line"] == "<EMAIL_1>, x"


@pytest.mark.parametrize("text", ["请联系{}。", "我的邮箱是{}请你尽快回复我因为我需要知道这个事情的结果到底是怎么样的呢"])
def test_an_address_is_found_between_words_without_blanks(text: str) -> None:
    """However many follow; those that cannot be told from it are put aside with it, and come back in the answer."""
    text = text.format("me@example.org")
    done = redact({"line": text}, BUILT_IN)
    assert "me@example.org" not in done.texts["line"]
    assert done.restore(done.texts["line"]) == text


def test_a_product_of_matrices_is_no_address() -> None:
    """A name that goes on after its letters is one of a program."""
    assert redact({"line": "y = x@self.weight_1 + z@self.layer2"}, BUILT_IN).redacted == ()


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("4111 1111 1111 1111 12/27", "<PAYMENT_CARD_1> 12/27"),
        ("4111-1111-1111-1111 05/29 cvc 123", "<PAYMENT_CARD_1> 05/29 cvc 123"),
        ("4111 1111 1111 1111 123", "<PAYMENT_CARD_1> 123"),
        ("pan=4111111111111111 737", "pan=<PAYMENT_CARD_1> 737"),
        ("2024 4111 1111 1111 1111", "2024 <PAYMENT_CARD_1>"),
        ("7 3782 822463 10005 9", "7 <PAYMENT_CARD_1> 9"),
        ("4111 1111 1111 1111 5555 5555 5555 4444", "<PAYMENT_CARD_1> <PAYMENT_CARD_2>"),
        ("4 1 1 1 1111 1111 1111", "4 1 1 1 1111 1111 1111"),
        ("4111 1111 1111 1112 12/27", "4111 1111 1111 1112 12/27"),
        ("0.4111111111111111 2", "0.4111111111111111 2"),
    ],
)
def test_a_card_is_found_beside_other_numbers(line: str, sent: str) -> None:
    """An expiry date, a code or a year that stands with it is not read as part of it, and does not hide it."""
    assert redact({"line": line}, BUILT_IN).texts["line"] == sent


@pytest.mark.parametrize(
    "line",
    [
        "password = get_password(user)",
        "token = os.environ['TOKEN']",
        'password = "{password}"',
        'password = f"{config[name]!r:>8}"',
        'password = "{0}-{}"',
        'token = "${{ secrets.TOKEN }}"',
        'token = "%(token)s"',
        'password = "${DB_PASSWORD}"',
        'password = "$DB_PASSWORD_2"',
        'password = "$password"',
        'password = "$(pass show db)"',
        'api_key = "<your key>"',
        'token = "<user>-<number>"',
        'password: "{{ .Values.password }}"',
        'password: "{{- .password -}}"',
        'password = "{0.name}"',
        'password = "{0[name]!r}"',
        'password = "{:>10}"',
        'password = "{:08.3f}"',
        'password = "$env:DB_PASS"',
        'password = "$dbPassword"',
        'password = "$user1"',
        'password = "${!name}"',
        'password = "${1:-none}"',
        "password = '{$db[pass]}'",
        "for i in range(10): print(secret_santa)",
        "def authenticate(self, token: str | None = None) -> None:",
        'name = "a_rather_long_identifier_without_digits"',
        "x = 1234567890123456",
        "version = '1.2.3.4'",
        "GB82 WEST 1234 5698 7654 33",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "import numpy as np  # e.g. user @ host",
        "@decorator.of(x)",
        "AbstractSingletonProxyFactoryBeanConfigurationTest2",
        "    com/example/project/Module1/SubmoduleXyz/HandlerFactoryBuilder",
        "sdk/pocketseq/bundles/Python3Fix/QuantizedWeights8Bit",
    ],
)
def test_ordinary_code_is_left_alone(line: str) -> None:
    """A program that only speaks of secrets holds none, and a number with wrong check digits is no account."""
    assert redact({"line": line}, BUILT_IN).texts["line"] == line


def test_a_key_that_is_cut_in_the_middle_is_still_a_key() -> None:
    """Context that begins or ends inside a private key gives nothing of it away."""
    whole = SECRETS["private_key"]
    half = len(whole) // 2
    for part in (whole[:half], "\n".join(whole.splitlines()[2:])):
        cleaned = redact({"text": part}, BUILT_IN).texts["text"]
        assert filler(64)[:16] not in cleaned


def test_a_line_of_a_key_is_found_without_its_ends() -> None:
    """The cursor stands inside of it: its beginning and its end are in other fields, or were cut off with their context."""
    above, line, below = ("".join(Random(seed).choices(string.ascii_letters + string.digits + "+/", k=64)) for seed in range(3))
    begin, *_, end = SECRETS["private_key"].splitlines()
    done = redact({"before": f"{begin}\n{above}", "line": f"  {line}", "after": f"{below}\n{end}\nx = 1"}, BUILT_IN)
    assert done.texts == {"before": "<PRIVATE_KEY_1>", "line": "  <PRIVATE_KEY_2>", "after": "<PRIVATE_KEY_3>\nx = 1"}
    cut = f"x = 1\n{line}\n{below[:40]}==\n"
    assert redact({"text": cut}, BUILT_IN).texts["text"] == "x = 1\n<PRIVATE_KEY_1>\n<PRIVATE_KEY_2>\n"


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("db://bob:p@ss!w0rd@host/x", "db://<URL_CREDENTIALS_1>@host/x"),
        ("db://bob@corp:hunter2@host", "db://<URL_CREDENTIALS_1>@host"),
        ("db://bob:hunter2@one/x, me@example", "db://<URL_CREDENTIALS_1>@one/x, me@example"),
        ("see http://host:80/@x and ssh://git@host:22/x", "see http://host:80/@x and ssh://git@host:22/x"),
    ],
)
def test_credentials_of_a_url_end_at_its_host(url: str, sent: str) -> None:
    """A password may hold the very sign that ends it, and so may a user's name."""
    assert redact({"url": url}, BUILT_IN).texts["url"] == sent


def test_addresses_of_machines_are_found_where_asked() -> None:
    """IP addresses are no default: programs are full of them. This machine's own are never meant."""
    text = "10.0.0.1, 2001:db8::7 and 127.0.0.1, 0.0.0.0, 1.2.3, 300.1.1.1, 12:30:45"
    cleaned = redact({"text": text}, [ip_addresses])
    assert cleaned.texts["text"] == "<IP_ADDRESS_1>, <IP_ADDRESS_2> and 127.0.0.1, 0.0.0.0, 1.2.3, 300.1.1.1, 12:30:45"
    assert "10.0.0.1" in redact({"text": text}, BUILT_IN).texts["text"]


def test_telephone_numbers_are_found_by_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """International ones anywhere, national ones of a country that was named; without the library the error names the extra."""
    text = "call +49 30 901820 or (650) 253-0000; order 1234567"
    assert redact({"t": text}, [phone_numbers()]).texts["t"] == "call <PHONE_NUMBER_1> or (650) 253-0000; order 1234567"
    assert redact({"t": text}, [phone_numbers("US")]).texts["t"] == "call <PHONE_NUMBER_1> or <PHONE_NUMBER_2>; order 1234567"
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(MissingExtraError, match=r'pip install "pocketseq\[privacy\]"$'):
        phone_numbers()


def test_one_original_has_one_placeholder() -> None:
    """The cloud can tell that two places hold the same, also across fields; the receipt counts both."""
    done = redact({"a": "x@example.org y@example.org", "b": "x@example.org"}, BUILT_IN)
    assert done.texts == {"a": "<EMAIL_1> <EMAIL_2>", "b": "<EMAIL_1>"}
    assert done.redacted == (Redacted("email", 3),)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (
            {"t": 'login("s3cr3t-Pw9"); pw = dict(password="s3cr3t-Pw9"); log(f"s3cr3t-Pw9!")'},
            {"t": 'login("<SECRET_1>"); pw = dict(password="<SECRET_1>"); log(f"<SECRET_1>!")'},
        ),
        (
            {"before": 'password = "s3cr3t-Pw9"', "line": "login(s3cr3t-Pw9)"},
            {"before": 'password = "<SECRET_1>"', "line": "login(<SECRET_1>)"},
        ),
        (
            {"t": "db://bob:hunter2@host", "out": 'connect("bob:hunter2"), login("bob", "hunter2")'},
            {"t": "db://<URL_CREDENTIALS_1>@host", "out": 'connect("<URL_CREDENTIALS_1>"), login("bob", "<URL_CREDENTIALS_2>")'},
        ),
    ],
    ids=["in the same text", "in another field", "a URL's password by itself"],
)
def test_what_is_found_once_is_replaced_everywhere(texts: dict[str, str], expected: dict[str, str]) -> None:
    """A secret that its context gives away is as secret where that context is missing; each place counts, and comes back."""
    done = redact(texts, BUILT_IN)
    assert done.texts == expected
    assert sum(part.count for part in done.redacted) == len(re.findall(r"<\w+>", "".join(expected.values())))
    assert {name: done.restore(text) for name, text in done.texts.items()} == texts


def test_the_longest_original_is_replaced_where_several_begin() -> None:
    """And of two that overlap no part is left over."""
    named = 'password = "hunter2" api_key = "hunter2-and-more" secret = "moreover"'
    done = redact({"a": named, "b": "hunter2-and-moreover"}, BUILT_IN)
    assert done.texts["a"] == 'password = "<SECRET_1>" api_key = "<SECRET_2>" secret = "<SECRET_3>"'
    assert done.texts["b"] == "<SECRET_4>"
    assert done.restore(done.texts["b"]) == "hunter2-and-moreover"


def test_a_short_original_is_replaced_only_where_it_was_found() -> None:
    """Below six characters a value is most often a word of the program, which would be taken apart."""
    done = redact({"t": 'password = "test"  # pytest'}, BUILT_IN)
    assert done.texts["t"] == 'password = "<SECRET_1>"  # pytest'


def test_a_placeholder_that_stands_in_the_text_is_not_used() -> None:
    """What looks like a placeholder already stays itself on the way back."""
    text = "<EMAIL_1> is x@example.org"
    done = redact({"t": text}, BUILT_IN)
    assert done.texts["t"] == "<EMAIL_1> is <EMAIL_2>"
    assert done.restore("<EMAIL_2> <EMAIL_1> <EMAIL_3>") == "x@example.org <EMAIL_1> <EMAIL_3>"


@pytest.mark.parametrize(
    ("kind", "placeholder"),
    [
        ("ip-address", "<IP_ADDRESS_1>"),
        ("2fa_code", "<SECRET_2FA_CODE_1>"),
        ("über", "<BER_1>"),
        ("_", "<SECRET_1>"),
        ("", "<SECRET_1>"),
        ("a" * 45, f"<{'A' * 41}_1>"),
        ("2" * 45, f"<SECRET_{'2' * 34}_1>"),
    ],
)
def test_what_a_detector_calls_anything_comes_back(kind: str, placeholder: str) -> None:
    """Its placeholder is one that is known on the way back, whole or in pieces."""
    done = redact({"t": "the value here"}, [lambda text: [Finding(kind, 4, 9)]])
    assert done.texts["t"] == f"the {placeholder} here"
    assert done.restore(done.texts["t"]) == "the value here"
    restorer = StreamRestorer(done)
    assert "".join([*map(restorer.push, done.texts["t"]), restorer.finish()]) == "the value here"


def test_overlapping_findings_are_covered_together() -> None:
    """No part of any finding is left over."""

    def one(text: str) -> Iterator[Finding]:
        yield Finding("one", 2, 6)
        yield Finding("empty", 3, 3)

    def two(text: str) -> Iterator[Finding]:
        yield Finding("two", 4, 8)

    assert redact({"t": "0123456789"}, [two, one]).texts["t"] == "01<ONE_1>89"


@given(st.text(alphabet="ab<>_EMAIL1@.x ", max_size=60), st.lists(st.integers(1, 5), max_size=40))
def test_restoring_in_pieces_is_restoring_at_once(text: str, cuts: list[int]) -> None:
    """However an answer is cut into pieces."""
    done = redact({"t": "x@ab.xx y@ab.xx"}, BUILT_IN)
    answer = text + " <EMAIL_1>" + text + "<EMAIL_2>"
    restorer, pieces, rest = StreamRestorer(done), [], answer
    for size in cuts:
        pieces.append(restorer.push(rest[:size]))
        rest = rest[size:]
    pieces += [restorer.push(rest), restorer.finish()]
    assert "".join(pieces) == done.restore(answer)


@given(st.text(max_size=200))
def test_redaction_can_always_be_undone(text: str) -> None:
    """Whatever a text holds."""
    done = redact({"t": text}, (*BUILT_IN, ip_addresses))
    assert done.restore(done.texts["t"]) == text


@given(st.lists(st.sampled_from(['password = "', '"', "://", "abcabc", "bcabca", "<SECRET_1>", ":", "@", " ", "x@abcabc.org"])))
def test_nothing_that_was_found_is_left_anywhere(parts: list[str]) -> None:
    """However often it stands there, and whatever else overlaps it; and all of it comes back."""
    text = "".join(parts)
    done = redact({"t": text}, BUILT_IN)
    left = re.split(r"<[A-Z_]+_\d+>", done.texts["t"])
    found = {text[finding.start : finding.stop] for detector in BUILT_IN for finding in detector(text)}
    assert not [original for original in found if len(original) >= 6 and any(original in part for part in left)]
    assert done.restore(done.texts["t"]) == text


def test_long_texts_cost_no_more_than_their_length() -> None:
    """No pattern runs away on a text that almost fits it."""
    for piece in ("a", "-----BEGIN ", "eyJ", "1 ", "x@", "A:", "password=", '"' * 3 + "a", "1.", "://a:", "GB82 "):
        text = piece * (100_000 // len(piece))
        list(secrets(text))
        list(personal_data(text))
        list(ip_addresses(text))
    people = "\n".join(f"user{number}@example.org" for number in range(5000))
    assert redact({"people": people, "again": people}, BUILT_IN).redacted == (Redacted("email", 10_000),)


def test_entropy() -> None:
    """Bits for each character: 0 for one letter again and again, 2 for four letters alike often."""
    assert (entropy(""), entropy("aaaa"), entropy("abcd")) == (0, 0, 2)


def test_nothing_secret_leaves_and_everything_comes_back() -> None:
    """The cloud sees placeholders; the user sees his own text again; the receipt says kinds and counts, never the secret."""
    cloud = FakeEndpoint('connect("<URL_CREDENTIALS_1>")')
    hybrid = Hybrid(FakeModel("local", **UNSURE), cloud)
    suggestion = hybrid.suggest('conect("postgres://bob:hunter2@db")')
    assert cloud.calls[0].prompt == 'conect("postgres://<URL_CREDENTIALS_1>@db")'
    assert suggestion.text == 'connect("bob:hunter2")'
    assert suggestion.receipt.sent == cloud.calls[0].prompt
    assert suggestion.receipt.redacted == (Redacted("url_credentials", 1),)
    assert "hunter2" not in repr(suggestion.receipt)


def test_a_streamed_answer_is_restored_too() -> None:
    """Also where a placeholder comes in two pieces."""
    cloud = FakeStreamingEndpoint(Reply(pieces=("to: <EMA", "IL_1>, ", "<b>")))
    *_, last, final = Hybrid(FakeModel("local", **UNSURE), cloud).stream("x@example.org")
    assert final.suggestion.text == "to: x@example.org, <b>"
    assert not isinstance(last, Replace)  # the pieces added up to it


def test_what_is_redacted_is_the_callers_choice() -> None:
    """No detector, or a detector of one's own."""
    cloud = FakeEndpoint("cloud")
    Hybrid(FakeModel("local", **UNSURE), cloud, detectors=()).suggest("x@example.org")
    Hybrid(FakeModel("local", **UNSURE), cloud, detectors=[lambda text: [Finding("name", 0, 3)]]).suggest("Bob says")
    assert [call.prompt for call in cloud.calls] == ["x@example.org", "<NAME_1> says"]


def test_a_detector_that_fails_lets_nothing_leave() -> None:
    """Better no cloud than text that nobody looked through; and its words, which may quote the text, are not repeated."""

    def broken(text: str) -> list[Finding]:
        raise ValueError(text)

    cloud = FakeEndpoint("cloud")
    suggestion = Hybrid(FakeModel("local", **UNSURE), cloud, detectors=[broken]).suggest("my text")
    assert (suggestion.text, cloud.calls) == ("local", [])
    assert "found ValueError in one; nothing was sent" in suggestion.reason
    assert "my text" not in suggestion.reason


TEMPLATE = Template(
    fields=(Field("before", max_tokens=99), Field("line", max_tokens=99), Field("after", max_tokens=99, truncate="right")),
    primary="line",
)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, {"before": "0123456789", "line": "LINE", "after": "abcde"}),
        (19, {"before": "0123456789", "line": "LINE", "after": "abcde"}),
        (10, {"before": "6789", "line": "LINE", "after": "ab"}),
        (4, {"line": "LINE"}),
    ],
)
def test_the_context_that_leaves_is_bounded(limit: int | None, expected: dict[str, str]) -> None:
    """The primary field whole, the others what room is left, each the part that is nearest to it."""
    source = {"before": "0123456789", "line": "LINE", "after": "abcde"}
    outgoing = prepare(TEMPLATE, source, max_context=limit)
    sent = TEMPLATE.parse_prompt(outgoing.prompt)
    assert {name: text for name, text in sent.items() if text} == expected


def test_a_primary_field_beyond_the_bound_stays_here() -> None:
    """Half a question is none: nothing is sent."""
    with pytest.raises(
        EndpointWithheldError, match="at most max_context=3 characters in the field 'line', found 4; nothing was sent"
    ):
        prepare(TEMPLATE, "LINE", max_context=3)
    cloud = FakeEndpoint("cloud")
    suggestion = Hybrid(FakeModel("local", template=TEMPLATE, **UNSURE), cloud, Policy(max_context=3)).suggest("LINE")
    assert (suggestion.text, suggestion.receipt.error, cloud.calls) == ("local", "EndpointWithheldError", [])
