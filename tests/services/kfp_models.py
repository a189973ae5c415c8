"""JSON against KFP's published API models (`kfp_server_api`): read strictly, written by KFP's own serialiser."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

import kfp_server_api
from kfp_server_api import models

_WRITER = kfp_server_api.ApiClient()
_INT64 = {"max_concurrency", "interval_second", "execution_id"}  # "str" in the models; numbers are read as well


class Refused(ValueError):
    """What is no value of its model; the message names the field."""


def read(text: bytes, model: type) -> Any:
    """The model's object from JSON. Raises Refused for unknown fields, wrong types and values outside an enumeration."""
    try:
        return _object(json.loads(text), model, model.__name__)
    except json.JSONDecodeError as error:
        raise Refused(f"no JSON: {error}") from None


def write(answer: Any) -> bytes:
    """The object as KFP's gateway sends it: JSON without the fields that have no value."""
    return json.dumps(_WRITER.sanitize_for_serialization(answer)).encode()


def _object(value: Any, model: type, where: str) -> Any:
    allowed = {name for name in vars(model) if name.isupper()}
    if not model.openapi_types:  # an enumeration
        if value not in allowed:
            raise Refused(f"{where}: {value!r} is none of {sorted(allowed)}")
        return value
    if not isinstance(value, dict):
        raise Refused(f"{where}: expected an object, got {value!r}")
    names = {json_name: name for name, json_name in model.attribute_map.items()}
    if unknown := sorted(set(value) - set(names)):
        raise Refused(f"{where}: unknown field {', '.join(unknown)}")
    given = {names[key]: _value(item, model.openapi_types[names[key]], f"{where}.{key}") for key, item in value.items()}
    return model(**given)


def _value(value: Any, kind: str, where: str) -> Any:
    if value is None:
        return None
    if item := re.fullmatch(r"list\[(.*)\]", kind):
        return [_value(part, item[1], where) for part in _of(value, list, where)]
    if item := re.fullmatch(r"dict\(str, (.*)\)", kind):
        return {key: _value(part, item[1], f"{where}.{key}") for key, part in _of(value, dict, where).items()}
    if kind == "object":
        return value
    if kind == "datetime":
        return datetime.datetime.fromisoformat(_of(value, str, where))
    if kind == "str" and where.rpartition(".")[2] in _INT64 and isinstance(value, int):
        return str(value)
    plain = {"str": str, "bool": bool, "int": int, "float": float}
    return _of(value, plain[kind], where) if kind in plain else _object(value, getattr(models, kind), where)


def _of(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise Refused(f"{where}: expected {kind.__name__}, got {value!r}")
    return value
