"""Examples for every route of the OpenAPI document: of its body and of what it answers, put together from its schemas.

A field shows its schema's own example, or what is usual under its name, or the simplest value that its type takes. So
no route can lack an example, and none can show one that its schema refuses.
"""

from collections.abc import Iterator
from typing import Any

USUAL: dict[str, Any] = {
    "Run.id": "r-0b6e7715c9aa",
    "Run.name": "identify.lua",
    "Assignment.name": "identify.lua",
    "Ecu.name": "ECM",
    "Did.name": "VIN",
    "Bus.name": "powertrain",
    "Team.name": "powertrain",
    "User.name": "ada",
    "WhoAmI.name": "ada",
    "Agent.name": "bench-host-1",
    "CaseResult.name": "the ECU names itself",
    "CleanUpStep.name": "stop cyclic frames",
    "action": "lease.granted",
    "actor": "ada",
    "address": "bench-host-1.lab.example:8472",
    "affinity": "firmware-4711",
    "agent": "bench-host-1",
    "baudrate": 115200,
    "bench": "bench-1",
    "by": "ada",
    "channel": "can0",
    "column": 14,
    "detail": "there is no lease 'l-5f3a9c01d2e4'",
    "did": 0xF190,
    "document": None,
    "driver": "scpi",
    "duration_s": 1800.0,
    "elapsed_ms": 12,
    "epoch": 7,
    "field": "selector",
    "file": "identify.lua",
    "fingerprint": "9f2c41d6a7b8e35c0d1f4a6b8c9e2d3f",
    "frame": "7E8#0462F19057564757",
    "hash": "6b1d0f5c9e3a7b2448d1e6f0a5c3b97d2e8f4a1c6b0d5e9f3a7c2b4d8e1f6a05",
    "health_reason": "",
    "holder": "ada",
    "id": "l-5f3a9c01d2e4",
    "interface": "socketcan",
    "issuer": "https://login.example.com",
    "junit": '<testsuites><testsuite name="identify.lua" tests="1"/></testsuites>',
    "keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "labd-1"}],
    "labels": {"platform": "meb", "region": "eu"},
    "lease_id": "l-5f3a9c01d2e4",
    "level": "info",
    "line": 7,
    "memory_bytes": 536870912,
    "message": "expected 1500, got 812",
    "methods": ["open", "close"],
    "name": "bench-1",
    "obstacle": None,
    "output_bytes": 67108864,
    "owner": None,
    "port": "/dev/ttyUSB0",
    "position": None,
    "prefix": "labd_7Qx2",
    "reason": "",
    "request_id": 0x7E0,
    "response_id": 0x7E8,
    "role": "engineer",
    "roles": {"powertrain": "engineer"},
    "run_id": "r-0b6e7715c9aa",
    "script": 'local uds = require("uds")\nprint(uds.ecu("ECM"):read("VIN"))\n',
    "selector": "platform=meb",
    "status": 404,
    "subject": "lease/l-5f3a9c01d2e4",
    "supply": "main",
    "team": "powertrain",
    "terminal": "kl30",
    "text": "the ECU names itself",
    "timeout_s": 120.0,
    "title": "Not Found",
    "token": "eyJhbGciOiJFZERTQSJ9.eyJsZWFzZSI6Imwt4oCmIn0.c2lnbmF0dXJl",
    "ttl_s": 30.0,
    "type": "about:blank",
    "unit": "",
    "value": "platform=mqb",
    "version": "0.1.0",
    "why": "looked at it: a fuse",
}
_TIME = "2026-11-21T09:30:00.125000Z"
_EVENTS = {
    "log": 'id: 1\nevent: line\ndata: {{"seq":1,"time":"{time}","level":"info","text":"the ECU names itself"}}\n\n',
    "events": 'id: 0c5e0b8f4d1a9b7c3e2f1a0b\nevent: {noun}\ndata: {{"id":"{id}", ...}}\n\n',
}
_DEPTH_MAX = 12


def add_examples(document: dict[str, Any]) -> None:
    """Gives every body and every success answer of the document an example."""
    schemas = document["components"]["schemas"]
    for path, operation in operations(document):
        for part in (operation.get("requestBody"), *successes(operation)):
            for kind, content in (part or {}).get("content", {}).items():
                if "example" not in content and "examples" not in content:
                    content["example"] = _content(kind, content, path, schemas)
        for answer in successes(operation):
            for content in answer.get("content", {}).values():
                content["example"] = _whole(content.get("schema", {}), content["example"], schemas)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, operation) of a document."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def successes(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answers below 300."""
    return (answer for status, answer in operation["responses"].items() if str(status) < "300")


def _content(kind: str, content: dict[str, Any], path: str, schemas: dict[str, Any]) -> Any:
    if kind == "text/event-stream":
        noun, identifier = ("run", USUAL["run_id"]) if "/runs/" in path else ("lease", USUAL["lease_id"])
        return _EVENTS[path.rsplit("/", 1)[1]].format(noun=noun, id=identifier, time=_TIME)
    if kind == "application/xml":
        return USUAL["junit"]
    if kind == "application/octet-stream":
        return "(the file's bytes)"
    return _example(content["schema"], "", schemas, 0)


def _example(schema: dict[str, Any], name: str, schemas: dict[str, Any], depth: int) -> Any:
    if depth > _DEPTH_MAX:
        raise ValueError(f"the schema of {name!r} has no end")
    if "$ref" in schema:
        target = schema["$ref"].rsplit("/", 1)[1]
        return _example(schemas[target], name, schemas, depth + 1)
    if "example" in schema:
        return schema["example"]
    if schema.get("examples"):
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return _chosen(schema[choice], name, schemas, depth)
    if "allOf" in schema:
        return _example(schema["allOf"][0], name, schemas, depth + 1)
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        return {
            field: USUAL[f"{schema.get('title')}.{field}"]
            if f"{schema.get('title')}.{field}" in USUAL
            else _example(part, field, schemas, depth + 1)
            for field, part in schema["properties"].items()
            if field in schema.get("required", ()) or "default" not in part
        }
    if name in USUAL and _fits(USUAL[name], kind):
        return USUAL[name]
    return _simplest(schema, kind, name, schemas, depth)


def _whole(schema: dict[str, Any], value: Any, schemas: dict[str, Any]) -> Any:
    """An answer has all fields, also those that a request may leave out: with their defaults."""
    if "$ref" in schema:
        return _whole(schemas[schema["$ref"].rsplit("/", 1)[1]], value, schemas)
    if isinstance(value, list):
        return [_whole(schema.get("items", {}), item, schemas) for item in value]
    if not isinstance(value, dict):
        return value
    for choice in schema.get("anyOf", ()):
        value = _whole(choice, value, schemas)
    if "properties" not in schema:
        more = schema.get("additionalProperties")
        return {name: _whole(more, one, schemas) for name, one in value.items()} if isinstance(more, dict) else value
    return {
        field: _whole(part, value[field] if field in value else _default(part, field, schemas), schemas)
        for field, part in schema["properties"].items()
    }


def _default(schema: dict[str, Any], name: str, schemas: dict[str, Any]) -> Any:
    return schema["default"] if "default" in schema else _example(schema, name, schemas, 0)


def _chosen(choices: list[dict[str, Any]], name: str, schemas: dict[str, Any], depth: int) -> Any:
    if USUAL.get(name, "") is None and {"type": "null"} in choices:
        return None
    if name.endswith(("ended_at", "ending_at", "revoked_at", "revoke_at", "invited_until")) or name == "next":
        return None
    return _example(next(one for one in choices if one != {"type": "null"}), name, schemas, depth + 1)


def _fits(value: Any, kind: str | None) -> bool:
    kinds: dict[str | None, Any] = {
        "string": str, "integer": int, "number": (int, float), "object": dict, "array": list, "boolean": bool,
    }  # fmt: skip
    return kind is None or isinstance(value, kinds[kind])


def _simplest(schema: dict[str, Any], kind: str | None, name: str, schemas: dict[str, Any], depth: int) -> Any:
    if kind == "array":
        items = schema.get("items", {})
        return [_example(items, name.removesuffix("s"), schemas, depth + 1)] if items or schema.get("minItems") else []
    if kind == "object":
        values = schema.get("additionalProperties")
        return {"NAME": _example(values, name, schemas, depth + 1)} if isinstance(values, dict) and values else {}
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
    if kind == "string":
        return _TIME if schema.get("format") == "date-time" else name or "text"
    return None
