"""Requests made up from the OpenAPI document: no answer is a 5xx, and each is one that the document declares."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from labd.api.app import create_app
from tests.unit.labd.fakes import FakeClock, attach, open_lab, report

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

_directory = Path(tempfile.mkdtemp(prefix="labd-fuzz-"))
atexit.register(shutil.rmtree, _directory, ignore_errors=True)
_lab = open_lab(_directory, FakeClock())
atexit.register(_lab.core.store.close)
attach(_lab, report("bench-1", {"platform": "meb"}))
schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", create_app(_lab))


# The event stream of a run that does not end would be read for ever: its tests are in test_labd_api.
@schema.exclude(path_regex="/(log|events)$", method="GET").parametrize()
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_any_request_gets_a_declared_answer(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(checks=CHECKS)
