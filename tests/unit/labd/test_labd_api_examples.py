import json
from typing import Any

import jsonschema_rs
import pytest

from labd.api.app import openapi_document
from labd.api.examples import operations, successes

DOCUMENT = openapi_document()
OPERATIONS = [(operation["operationId"], operation) for _, operation in operations(DOCUMENT)]


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_route_shows_a_valid_body_and_valid_answers(name: str, operation: dict[str, Any]) -> None:
    answers = list(successes(operation))
    assert answers
    for part in (operation.get("requestBody"), *answers):
        for kind, content in (part or {}).get("content", {}).items():
            example = content["example"]
            assert example is not None
            if kind == "application/json":
                json.dumps(example, allow_nan=False)
                whole = {**content["schema"], "components": DOCUMENT["components"]}
                jsonschema_rs.validate(whole, example)
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            assert parameter["schema"].get("examples"), parameter["name"]
        if parameter["in"] == "header":
            assert parameter["description"], parameter["name"]
