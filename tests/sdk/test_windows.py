"""Windows: long texts are read by their edge, with the tokens of the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pocketseq.edits import lexemes
from pocketseq.marks import MARK_TOKENS
from pocketseq.template import Template
from pocketseq.tokenizer import TextTokenizer
from pocketseq.windows import LEXEME, SPACE, boundaries, narrow

from .tiny import EDITS, PLAIN, make_tokenizer

CORPUS = [
    "for i in range(10):  # naïve café",
    "def fit(self, x_1):\n    return self._value + 1",
    "it's 2 o'clock…  é 😀 ﬁ x\u0301",
] * 4


def trained(pre_tokenizer: pre_tokenizers.PreTokenizer, normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=["<unk>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """As sentencepiece's are read: T5, mBART, NLLB."""
    pieces = [("<unk>", 0.0), ("\u2581", -2.0), ("\u2581for", -3.0), ("or", -4.0), ("\u2581\u2581", -3.5)]
    pieces += [(letter, -5.0) for letter in "abcdefgijklmnopqrstuvwxyz()0123456789_'"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")]
    )
    return tokenizer


LOCAL: dict[str, Callable[[], Tokenizer]] = {
    "ours": make_tokenizer,
    "gpt-2": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "with a prefix space": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "metaspace": lambda: trained(pre_tokenizers.Metaspace(prepend_scheme="first"), normalizers.NFC()),
    "words": lambda: trained(pre_tokenizers.Whitespace(), normalizers.Lowercase()),
    "unigram": unigram,
}
NOT_LOCAL: dict[str, Callable[[], Tokenizer]] = {
    "no words": lambda: trained(pre_tokenizers.Metaspace(split=False)),
    "another pattern": lambda: trained(pre_tokenizers.Split(Regex("a b|."), "isolated")),
    "a first word unlike the others": lambda: trained(
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")])
    ),
    "a normalizer over words": lambda: trained(pre_tokenizers.WhitespaceSplit(), normalizers.Replace("a b", "ab")),
    "a stripped beginning": lambda: trained(pre_tokenizers.WhitespaceSplit(), normalizers.Strip()),
}
TOKENIZERS = {name: make() for name, make in LOCAL.items()}

# Short alphabets meet boundaries often: runs of white space, marks upon spaces, letters that a normalizer changes.
texts = st.text(st.sampled_from("ab _(<'7'.\n\t\r\u00a0\u2003éΣ中\ufdfa\u0301\u0338ﬁ😀1\x01\u200b"), max_size=160) | st.text(
    max_size=60
)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=texts, count=st.integers(1, 9))
@example(text="a   b" * 20, count=3)
@example(text=" \n" * 60 + "x", count=2)
@example(text="ab " + "\u0301" * 100, count=1)
def test_the_tokens_at_an_edge_are_those_of_the_whole_text(name: str, text: str, count: int) -> None:
    """On both sides, at every boundary that there is: what a cut changes would be seen here."""
    plain = TextTokenizer(Tokenizer.from_str(TOKENIZERS[name].to_str()))
    whole = plain.text_ids(text)
    boundary = boundaries(TOKENIZERS[name])
    assert boundary is not None
    for place in boundary.finditer(text):
        first, last = plain.text_ids(text[: place.start()]), plain.text_ids(text[place.start() :])
        assert whole[: len(first)] == first
        assert whole[len(whole) - len(last) :] == last
    assert plain.edge_ids(text, count, "left") == whole[:count]
    assert plain.edge_ids(text, count, "right") == whole[-count:]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(TOKENIZERS)), text=st.text(st.characters(max_codepoint=0x250), max_size=60))
@example(name="ours", text="<cursor> <line></s>\r\n\t  x\x1cé")
def test_words_have_the_tokens_that_they_have_alone(name: str, text: str) -> None:
    """However they are asked for, known or not; special tokens spelled out are characters like others."""
    tokenizer = TextTokenizer(Tokenizer.from_str(TOKENIZERS[name].to_str()))
    alone = TextTokenizer(Tokenizer.from_str(TOKENIZERS[name].to_str()))
    words = [*lexemes(text), *lexemes(text)[::2], "word"]
    for _ in range(2):
        assert tokenizer.words_ids(words) == [alone.text_ids(word) for word in words]


def test_words_are_forgotten_and_found_again() -> None:
    """Far more words than are kept, long ones among them."""
    tokenizer, alone = TextTokenizer(make_tokenizer()), TextTokenizer(make_tokenizer())
    words = [f"w{number}" for number in range(20_000)]
    for first in range(0, len(words), 100):
        some = [*words[first : first + 100], "again", "x" * 50]
        assert tokenizer.words_ids(some) == [alone.text_ids(word) for word in some]


def test_contexts_and_answers_are_forgotten_and_found_again() -> None:
    """More than a tokenizer remembers, each twice: always what it gives at first, and a caller's list is the caller's."""
    plain, fresh = TextTokenizer(make_tokenizer()), TextTokenizer(make_tokenizer())
    texts = [f"x_{number} = fit({number})\n" for number in range(100)]
    for text in texts * 2:
        ids = plain.edge_ids(text, 4, "right")
        assert ids == fresh.text_ids(text)[-4:]
        ids.clear()
    answers = [[97, 98 + number % 3, 100 + number % 400] for number in range(1500)]
    for answer in answers * 2:
        assert plain.decode(answer) == fresh._tokenizer.decode(answer, skip_special_tokens=True)
    assert plain.decode(range(300)) == fresh._tokenizer.decode(list(range(300)), skip_special_tokens=True)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("line", ["for value_1 in range (10): x = 'é'\n", "вернуть значение 中文 x²\n"], ids=["code", "words"])
def test_a_long_text_is_not_read_whole(name: str, side: str, line: str) -> None:
    """A megabyte of lines costs what its edge costs, with the tokens of the whole, in any script with spaces."""
    text = line * 3000
    read: list[int] = []

    class Counting(TextTokenizer):
        def text_ids(self, text: str) -> list[int]:
            read.append(len(text))
            return super().text_ids(text)

    tokenizer = Counting(Tokenizer.from_str(TOKENIZERS[name].to_str()))
    whole = tokenizer.text_ids(text)
    del read[:]
    assert tokenizer.edge_ids(text, 20, side) == (whole[:20] if side == "left" else whole[-20:])  # type: ignore[arg-type]
    assert sum(read) < 2000


@pytest.mark.parametrize("make", NOT_LOCAL.values(), ids=NOT_LOCAL)
def test_a_tokenizer_that_is_not_known_to_split_is_never_cut(make: Callable[[], Tokenizer]) -> None:
    """Slow and right."""
    tokenizer = make()
    assert boundaries(tokenizer) is None
    text = "a b for " * 500
    plain = TextTokenizer(tokenizer)
    assert plain.edge_ids(text, 5, "right") == plain.text_ids(text)[-5:]


def test_a_token_that_reaches_over_white_space_forbids_cutting() -> None:
    """As one that was added to a vocabulary may."""
    tokenizer = make_tokenizer()
    assert boundaries(tokenizer) is LEXEME
    tokenizer.add_tokens([AddedToken("a b", lstrip=True)])
    assert boundaries(tokenizer) is None


def test_what_has_no_boundary_is_not_cut() -> None:
    """Nor what is short enough."""
    assert narrow("😀 " * 100, 10, "left", SPACE) is None
    assert narrow("a b", 10, "left", SPACE) is None
    assert narrow("a b c d e", 4, "left", SPACE) == "a b c"
    assert narrow("a b c d e", 4, "right", SPACE) == " d e"


def slow(template: Template, tokenizer: TextTokenizer, text: str) -> tuple[str, str, str]:
    """Head, window and tail of the edited field, by reading all of it and dropping lexeme after lexeme."""
    field = next(field for field in template.fields if field.name == template.edits)
    parts = lexemes(text)
    sizes = [len(tokenizer.text_ids(part)) for part in parts]
    first, last = 0, len(parts)
    while last - first > 1 and (sum(sizes[first:last]) > field.max_tokens or last - first >= MARK_TOKENS):
        first, last = (first + 1, last) if field.truncate == "left" else (first, last - 1)
    return "".join(parts[:first]), "".join(parts[first:last]), "".join(parts[last:])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=texts.filter(str.strip), times=st.integers(1, 30), side=st.sampled_from(["left", "right"]))
def test_an_edited_field_is_cut_as_if_it_were_read_whole(text: str, times: int, side: str) -> None:
    """The window that the model sees, and what stands before and behind it."""
    tokenizer = TextTokenizer(Tokenizer.from_str(TOKENIZERS["ours"].to_str()))
    fields = [{**field, "truncate": side} for field in EDITS.to_json()["fields"]]
    template = Template.from_json({**EDITS.to_json(), "fields": fields})
    encoded = template.encode(tokenizer, text * times)
    assert (encoded.head, encoded.window, encoded.tail) == slow(template, tokenizer, text * times)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=texts.filter(str.strip), times=st.integers(1, 30))
def test_a_field_over_its_budget_keeps_its_last_tokens(text: str, times: int) -> None:
    """And says that it was cut just where it was."""
    tokenizer = TextTokenizer(Tokenizer.from_str(TOKENIZERS["ours"].to_str()))
    whole = tokenizer.text_ids(text * times)
    encoded = PLAIN.encode(tokenizer, text * times)
    assert encoded.ids == [*whole[-24:], *tokenizer.literal_ids("</s>")]
    assert encoded.truncated == (("text",) if len(whole) > 24 else ())
