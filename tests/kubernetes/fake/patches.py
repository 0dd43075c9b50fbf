"""The patches that change an object: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch."""

import copy
from typing import Any

from tests.kubernetes.fake.errors import ApiError, Object, bad_request
from tests.kubernetes.fake.schema import Schema


def merge(target: Any, patch: Any) -> Any:
    """The merge patch of RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def json_patch(target: Object, operations: Any) -> Object:
    """RFC 6902; raises ApiError 400 for what is no patch, 422 for what does not apply."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    document: Any = copy.deepcopy(target)
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            said = f"the server rejected our request due to an error in our request: {error}"
            raise ApiError(422, "Invalid", said) from error
    result: Object = document
    return result


def _steps(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"no JSON pointer: {pointer}")
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _get(document: Any, steps: list[str]) -> Any:
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    kind, steps = operation["op"], _steps(operation["path"])
    if kind == "test":
        if _get(document, steps) != operation["value"]:
            raise ValueError(f"testing path {operation['path']} value failed: test failed")
        return document
    if kind in {"move", "copy"}:
        origin = _steps(operation["from"])
        value = copy.deepcopy(_get(document, origin))
        if kind == "move":
            document = _operate(document, {"op": "remove", "path": operation["from"]})
        return _operate(document, {"op": "add", "path": operation["path"], "value": value})
    if not steps:
        return copy.deepcopy(operation["value"]) if kind in {"add", "replace"} else None
    parent, last = _get(document, steps[:-1]), steps[-1]
    if isinstance(parent, list):
        if kind == "add":
            parent.insert(len(parent) if last == "-" else int(last), copy.deepcopy(operation["value"]))
        elif kind == "replace":
            parent[int(last)] = copy.deepcopy(operation["value"])
        else:
            del parent[int(last)]
    elif kind == "add":
        parent[last] = copy.deepcopy(operation["value"])
    elif kind == "replace":
        if last not in parent:
            raise KeyError(f"replace operation does not apply: doc is missing key: {operation['path']}")
        parent[last] = copy.deepcopy(operation["value"])
    elif kind == "remove":
        del parent[last]
    else:
        raise ValueError(f"unexpected kind: {kind}")
    return document


def strategic(target: Any, patch: Any, schema: Schema) -> Any:
    """Merges lists by their merge key where the schema names one; with the directives `$patch` and `$retainKeys`."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key == "$retainKeys":
            result = {name: kept for name, kept in result.items() if name in value}
        elif key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [one for one in result.get(name, []) if one not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _strategic_list(result.get(key), value, schema.child(key))
        else:
            result[key] = strategic(result.get(key), value, schema.child(key))
    return result


def _strategic_list(target: Any, patch: list[Any], schema: Schema) -> list[Any]:
    key = schema.merge_key
    if not schema.merges or any(one == {"$patch": "replace"} for one in patch):
        return copy.deepcopy([one for one in patch if one != {"$patch": "replace"}])
    result = list(target or [])
    if not key:
        return result + [one for one in patch if one not in result]
    for one in patch:
        at = next((n for n, old in enumerate(result) if old.get(key) == one.get(key)), None)
        if one.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(strategic({}, one, schema.items))
        else:
            result[at] = strategic(result[at], one, schema.items)
    return result
