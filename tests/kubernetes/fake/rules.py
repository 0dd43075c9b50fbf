"""CEL rules of custom resources (`x-kubernetes-validations`)."""

import functools
import json
from collections.abc import Iterator
from typing import Any

from tests.kubernetes.fake.errors import Cause, Object
from tests.kubernetes.fake.schema import Schema

_PREFIXES = {
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
}


@functools.lru_cache(maxsize=512)
def _program(rule: str) -> Any:
    import celpy  # takes half a second, and only CRDs with rules need it

    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def compiled_fault(rule: str) -> str:
    """Why a rule is no CEL; "" for one that is."""
    from celpy.celparser import CELParseError

    try:
        _program(rule)
    except CELParseError as error:
        return str(error).splitlines()[0]
    return ""


def _asks_for_old(rule: str) -> bool:
    return "oldSelf" in rule


def broken(schema: Schema, value: Any, old: Any, path: str = "") -> Iterator[Cause]:
    """The rules that a value breaks; those about `oldSelf` count only where there is an old value."""
    if value is None:
        return
    for _, rule in schema.rules():
        if _asks_for_old(rule["rule"]) and old is None:
            continue
        said = _verdict(rule, value, old)
        if said:
            kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else None
            shown = f'"{kind}"' if kind else json.dumps(value)
            prefix = _PREFIXES.get(rule.get("reason", ""), f"Invalid value: {shown}")
            yield {"field": (path + rule.get("fieldPath", "")) or "<nil>", "message": f"{prefix}: {said}"}
    if isinstance(value, dict):
        for name, inner in value.items():
            before = old.get(name) if isinstance(old, dict) else None
            yield from broken(schema.child(name), inner, before, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        by_key = {}
        if schema.list_type == "map" and isinstance(old, list):
            by_key = {schema.key_of(one): one for one in old}
        for n, inner in enumerate(value):
            before = by_key.get(schema.key_of(inner)) if by_key else None
            yield from broken(schema.items, inner, before, f"{path}[{n}]")


def _verdict(rule: Object, value: Any, old: Any) -> str:
    from celpy import celtypes
    from celpy.adapter import json_to_cel
    from celpy.evaluation import CELEvalError

    known = {"self": json_to_cel(value)}
    if _asks_for_old(rule["rule"]):
        known["oldSelf"] = json_to_cel(old)
    try:
        good = _program(rule["rule"]).evaluate(known)
    except CELEvalError as error:
        return f"rule evaluation error: {error}: {rule['rule']}"
    if good == celtypes.BoolType(True):
        return ""
    if "messageExpression" in rule:
        try:
            return str(_program(rule["messageExpression"]).evaluate(known))
        except CELEvalError:
            pass  # the server falls back to the message too
    return str(rule.get("message") or f"failed rule: {rule['rule']}")
