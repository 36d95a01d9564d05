"""From the records of a document to its JSON Schema: types from their annotations, descriptions from their docstrings."""

from __future__ import annotations

import ast
import inspect
import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from textwrap import dedent
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pocketseq_bench.document import BenchDocument
from pocketseq_bench.replay.document import ReplayDocument

RECORDS: Final[Mapping[str, type]] = {"bench-1.json": BenchDocument, "replay-1.json": ReplayDocument}
"""Records by the file of their schema; the number is the format's."""


def schema_of(kind: type) -> dict[str, Any]:
    """The JSON Schema of a dataclass: what ``pocketseq.records`` reads, no more and no less."""
    definitions: dict[str, Any] = {}
    _define(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.__name__,
        "$ref": f"#/$defs/{kind.__name__}",
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text(name: str, kind: type) -> str:
    """The content of a schema's file."""
    return json.dumps({"$id": name, **schema_of(kind)}, ensure_ascii=False, indent=2) + "\n"


def _define(kind: type, definitions: dict[str, Any]) -> None:
    if kind.__name__ in definitions:
        return
    definitions[kind.__name__] = {}
    hints, words = get_type_hints(kind), _docstrings(kind)
    properties = {}
    for each in fields(kind):
        properties[each.name] = _schema(hints[each.name], definitions)
        if each.name in words:
            properties[each.name] = {"description": words[each.name], **properties[each.name]}
    if "format" in properties:
        properties["format"]["const"] = next(each.default for each in fields(kind) if each.name == "format")
    needed = [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]
    definitions[kind.__name__] = {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": properties,
        "required": needed + (["format"] if "format" in properties else []),
        "additionalProperties": False,
    }


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        _define(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin in (Union, types.UnionType):
        kinds = [{"type": "null"} if option is type(None) else _schema(option, definitions) for option in arguments]
        return {"anyOf": kinds}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if origin is Literal:
        return {"enum": list(arguments)}
    names = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return {"type": names[hint]} if hint in names else {}


def _docstrings(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    (body,) = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found[name] = " ".join(node.value.value.split())
            name = ""
        else:
            name = ""
    return found
