"""Input templates: how the named fields of an input become one token sequence, and tokens become the answer.

A bundle and a checkpoint carry the same template, so that training, every runtime and the cloud read an input alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from pocketseq.characters import check_text
from pocketseq.edits import apply_edit, find_edit
from pocketseq.errors import InputError, InputTooLongError
from pocketseq.marks import MARK_TOKENS, encode_marked, first_mark, read_edit
from pocketseq.tokenizer import TextTokenizer
from pocketseq.windows import Side

Input: TypeAlias = str | Mapping[str, str]
"""What a user may give: the primary field's text, or a mapping of field names to texts."""

Overflow: TypeAlias = Literal["truncate", "refuse"]


@dataclass(frozen=True, slots=True)
class Field:
    """One named part of an input."""

    name: str
    """Key in the mapping that a user gives."""
    max_tokens: int
    """Budget in tokens, marks and prefix not counted."""
    truncate: Side = "left"
    """The side on which a longer text is cut: ``left`` keeps its end."""
    prefix: str = ""
    """Literal put before the text; may hold special tokens (it comes from the bundle, never from the user)."""


@dataclass(slots=True)
class EncodedInput:
    """An input as the model reads it; never changed, and made too often to be frozen."""

    ids: list[int]
    """Token ids of the whole sequence, at most ``Template.longest``."""
    truncated: tuple[str, ...]
    """Names of the fields that were cut."""
    head: str
    """What was cut off the left of the edited field: it stands before the edited text again in the answer."""
    lexemes: Sequence[str]
    """Those of the edited field that the model saw; empty where the output is plain text."""
    tail: str
    """What was cut off the right of the edited field."""
    primary_ids: list[int]
    """Those of ``ids`` that are the primary field, without its prefix."""

    @property
    def window(self) -> str:
        """The part of the edited field that the model saw; empty where the output is plain text."""
        return "".join(self.lexemes)


@dataclass(frozen=True, slots=True)
class Template:
    """How fields become tokens and tokens an answer."""

    fields: tuple[Field, ...]
    """In the order in which the model reads them."""
    primary: str
    """The field that a bare string fills; the others are then empty."""
    edits: str | None = None
    """Name of the field of which the output is an edit; None where the output is the text itself."""
    start: str = ""
    """Literal before the first field, such as a language code."""
    end: str = "</s>"
    """Literal after the last field."""
    instruction: str = ""
    """One sentence that tells a general-purpose cloud model what to do with these fields."""

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names) or not names:
            raise InputError(f"a template needs one or more fields with names of their own, found {names}")
        for role, name in (("primary", self.primary), ("edits", self.edits)):
            if name is not None and name not in names:
                raise InputError(f"the template's {role} field {name!r} is none of its fields {names}")

    def longest(self, tokenizer: TextTokenizer) -> int:
        """Upper bound of an encoded input's length in tokens: the budgets, the literals, and marks where the answer is an edit."""
        literals = [self.start, self.end, *(field.prefix for field in self.fields)]
        taken = sum(len(tokenizer.literal_ids(literal)) for literal in literals) + (MARK_TOKENS if self.edits else 0)
        return sum(field.max_tokens for field in self.fields) + taken

    def fields_of(self, source: Input) -> dict[str, str]:
        """Check an input and spread it over the template's fields; absent fields are empty.

        Raises:
            InputError: not a string or mapping of strings, an unknown field, nothing in the primary field,
                or characters that are no Unicode text (lone surrogates).
        """
        texts = {field.name: "" for field in self.fields}
        if isinstance(source, str):
            given: Mapping[str, str] = {self.primary: source}
        elif isinstance(source, dict | Mapping):  # the first is asked faster
            given = source
        else:
            raise InputError(f"expected a string or a mapping of {list(texts)}, found {type(source).__name__}")
        if unknown := [str(name) for name in given if name not in texts]:
            raise InputError(f"expected fields among {list(texts)}, found also {sorted(unknown)}")
        for name, text in given.items():
            if not isinstance(text, str):
                raise InputError(f"field {name!r}: expected a string, found {type(text).__name__}")
            if not text.isascii():
                check_text(f"field {name!r}", text)
            texts[name] = text
        primary = texts[self.primary]
        if not primary or primary.isspace():
            raise InputError(f"expected text in the field {self.primary!r}, found none")
        return texts

    def encode(self, tokenizer: TextTokenizer, source: Input, *, overflow: Overflow = "truncate") -> EncodedInput:
        """Turn an input into token ids.

        Args:
            tokenizer: The bundle's tokenizer.
            source: A string for the primary field, or the fields.
            overflow: ``truncate`` cuts a field that is over its budget and says so in the result; ``refuse`` raises.

        Raises:
            InputError: see ``fields_of``.
            InputTooLongError: a field is over its budget and ``overflow`` is ``refuse``.
        """
        texts = self.fields_of(source)
        ids = [*tokenizer.literal_ids(self.start)]
        truncated: list[str] = []
        head = tail = ""
        parts: Sequence[str] = ()
        primary_ids: list[int] = []
        for field in self.fields:
            text = texts[field.name]
            ids += tokenizer.literal_ids(field.prefix)
            kept: Side = "right" if field.truncate == "left" else "left"
            if field.name == self.edits:
                marked = encode_marked(tokenizer, text, max_tokens=field.max_tokens, kept=kept)
                head, parts, tail, field_ids, cut = marked.head, marked.lexemes, marked.tail, marked.ids, marked.cut
            else:
                field_ids = tokenizer.edge_ids(text, field.max_tokens + 1, kept) if text else []
                cut = len(field_ids) > field.max_tokens
                if cut:
                    field_ids = field_ids[-field.max_tokens :] if field.truncate == "left" else field_ids[: field.max_tokens]
            if cut and overflow == "refuse":
                raise InputTooLongError(
                    f"field {field.name!r}: expected at most {field.max_tokens} tokens, found more in its {len(text)} characters; "
                    "shorten it, or pass overflow='truncate'"
                )
            if cut:
                truncated.append(field.name)
            ids += field_ids
            if field.name == self.primary:
                primary_ids = field_ids
        ids += tokenizer.literal_ids(self.end)
        return EncodedInput(ids=ids, truncated=tuple(truncated), head=head, lexemes=parts, tail=tail, primary_ids=primary_ids)

    def encode_target(self, tokenizer: TextTokenizer, encoded: EncodedInput, target: str) -> list[int] | None:
        """Turn the wanted answer into the token ids that the model should emit, end token not included.

        Returns:
            The ids, or None where the answer cannot be expressed as an edit of what the model saw.
        """
        if self.edits is None:
            return tokenizer.text_ids(target)
        if not (target.startswith(encoded.head) and target.endswith(encoded.tail)):
            return None
        stop = len(target) - len(encoded.tail)
        edit = find_edit(encoded.window, target[len(encoded.head) : stop])
        if edit is None:
            return []
        first = first_mark(tokenizer)
        return [first + edit.start, first + edit.stop, *tokenizer.text_ids(edit.text)]

    def decode(self, tokenizer: TextTokenizer, ids: Sequence[int], encoded: EncodedInput) -> str:
        """Turn the tokens that a model emitted, end token not included, into the answer.

        An answer that is no well-formed edit leaves the field as it is: a repair is never worse than none for that reason.
        """
        if self.edits is None:
            return tokenizer.decode(ids)
        edit = read_edit(tokenizer, ids)
        window = encoded.window if edit is None else apply_edit(encoded.lexemes, edit)
        return encoded.head + window + encoded.tail

    def render_prompt(self, source: Input) -> str:
        """Write an input as one string for a text endpoint: the primary field alone, or a JSON object of the fields."""
        texts = self.fields_of(source)
        used = {name: text for name, text in texts.items() if text}
        if set(used) == {self.primary} and not texts[self.primary].lstrip().startswith("{"):
            return texts[self.primary]
        return json.dumps(used, ensure_ascii=False)

    def parse_prompt(self, prompt: str) -> dict[str, str]:
        """Read back what ``render_prompt`` wrote; any other string is the primary field's text."""
        if prompt.lstrip().startswith("{"):
            try:
                given = json.loads(prompt)
            except (ValueError, RecursionError):
                given = None
            if isinstance(given, dict) and self.primary in given:
                names = {field.name for field in self.fields}
                if set(given) <= names and all(isinstance(text, str) for text in given.values()):
                    return self.fields_of(given)
        return self.fields_of(prompt)

    def to_json(self) -> dict[str, Any]:
        """The template as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Template:
        """Read a template from JSON values.

        Raises:
            InputError: an unknown or missing key.
        """
        try:
            fields = tuple(Field(**field) for field in value["fields"])
            return cls(**{**value, "fields": fields})
        except (KeyError, TypeError) as error:
            raise InputError(f"not an input template: {error}") from None
