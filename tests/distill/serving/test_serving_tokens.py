"""Texts and bytes of single tokens, by every kind of vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.serving.tokens import TokenLogprob, TokenNames


def vocabulary(pieces: Sequence[str], decoder: object) -> TextTokenizer:
    """A vocabulary of these pieces behind ``<pad>`` and ``</s>``."""
    numbers = {piece: number for number, piece in enumerate(["<pad>", "</s>", *pieces])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<pad>"))
    tokenizer.add_special_tokens(["<pad>", "</s>"])
    tokenizer.decoder = decoder
    return TextTokenizer(tokenizer)


def named(tokenizer: TextTokenizer, ids: Sequence[int]) -> list[TokenLogprob]:
    names = TokenNames(tokenizer)
    return [names.name(token, -1.0) for token in ids]


def bytes_of(tokens: Sequence[TokenLogprob]) -> bytes:
    return b"".join(token.spelt or b"" for token in tokens)


SENTENCEPIECE = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
)


@pytest.mark.parametrize(
    ("pieces", "decoder", "texts"),
    [
        (["▁guten", "▁T", "ag", "▁", "ß"], decoders.Metaspace(), ["guten", " T", "ag", " ", "ß"]),
        (["▁", "ß", "▁guten"], decoders.Metaspace(), ["", "ß", " guten"]),
        (["▁guten", "▁T", "ag"], SENTENCEPIECE, ["guten", " T", "ag"]),
        (["guten", "ta", "##g", "!"], decoders.WordPiece(cleanup=True), ["guten", " ta", "g", "!"]),
        (["guten</w>", "T", "ag</w>"], decoders.BPEDecoder(), ["guten", " T", "ag"]),
        (["guten", "ĠT", "ag"], decoders.ByteLevel(), ["guten", " T", "ag"]),
    ],
)
def test_texts_of_tokens_are_the_text(pieces: list[str], decoder: object, texts: list[str]) -> None:
    """Each token has the spaces that it brings, so that all of them together are the answer; each begins where it is said to."""
    tokenizer = vocabulary(pieces, decoder)
    ids = [*range(2, 2 + len(pieces)), 1]
    tokens = named(tokenizer, ids)
    assert [token.text for token in tokens] == [*texts, "</s>"]
    assert bytes_of(tokens).decode() == "".join(texts) == tokenizer.decode(ids)
    assert [token.offset for token in tokens] == [len("".join(texts[:place])) for place in range(len(ids))]


def test_bytes_tell_what_texts_cannot() -> None:
    """A letter over several tokens is whole in their bytes only, in byte-level vocabularies and in those that spell out bytes."""
    letters = dict(zip("日é".encode(), "æĹ¥Ã©", strict=True))
    byte_level = vocabulary(["".join(letters[byte] for byte in "日".encode()[:2]), letters[0xA5], "Ã", "©"], decoders.ByteLevel())
    spelt_out = vocabulary([f"<0x{byte:02X}>" for byte in "日é".encode()], SENTENCEPIECE)
    for tokenizer, parts in (
        (byte_level, [b"\xe6\x97", b"\xa5", b"\xc3", b"\xa9"]),
        (spelt_out, [b"\xe6", b"\x97", b"\xa5", b"\xc3", b"\xa9"]),
    ):
        tokens = named(tokenizer, range(2, 2 + len(parts)))
        assert [token.spelt for token in tokens] == parts
        assert bytes_of(tokens).decode() == "日é"


def test_every_byte_of_a_byte_level_vocabulary() -> None:
    """Each of its 256 letters stands for a byte, and all bytes are there."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = vocabulary(alphabet, decoders.ByteLevel())
    spelt = {token.spelt for token in named(tokenizer, range(2, 2 + len(alphabet)))}
    assert spelt == {bytes([byte]) for byte in range(256)}


def test_what_adds_nothing_has_a_name_and_no_bytes() -> None:
    """Special tokens, and ids that the model knows and the vocabulary does not, are named and are no content."""
    tokenizer = vocabulary(["None"], decoders.ByteLevel())
    tokens = named(tokenizer, [0, 2, 3, 1])
    assert [(token.text, token.spelt) for token in tokens] == [("<pad>", None), ("None", b"None"), ("<3>", None), ("</s>", None)]


def test_a_log_probability_that_json_cannot_hold() -> None:
    """It is told as -9999, as OpenAI tells it."""
    assert TokenNames(vocabulary(["a"], decoders.ByteLevel())).name(2, float("-inf")).logprob == -9999.0
