"""Requests made up from the OpenAPI document: no answer is a 5xx, and each is one that the document declares."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any
from zlib import crc32

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from labd.api.app import create_app
from labd.model.identity import WHOLE_LAB, Role
from labd.telemetry.writer import Writer
from tests.unit.labd.fakes import FakeClock, attach, open_lab, report
from tests.unit.labd.test_labd_secure import token_of

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

_directory = Path(tempfile.mkdtemp(prefix="labd-fuzz-"))
atexit.register(shutil.rmtree, _directory, ignore_errors=True)
_lab = open_lab(_directory, FakeClock())
atexit.register(_lab.core.store.close)
attach(_lab, report("bench-1", {"platform": "meb"}))
schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", create_app(_lab))

_secure_clock = FakeClock()
(_directory / "secure").mkdir()
_writer = Writer(_directory / "points", clock=_secure_clock.now)  # the other lab keeps no figures
_secure_lab = open_lab(_directory / "secure", _secure_clock, secure=True, writer=_writer)
atexit.register(_secure_lab.core.store.close)
atexit.register(_writer.day.close)
attach(_secure_lab, report("bench-1", {"platform": "meb"}))
TOKEN = token_of(_secure_lab, "root", {WHOLE_LAB: Role.ADMIN}, lifetime_s=7 * 86_400)
TOKENS = [
    None,
    TOKEN,
    *(token_of(_secure_lab, role.name.lower(), {"default": role}, lifetime_s=7 * 86_400) for role in Role),
]
"""Of nobody, of an admin of the lab, and of each role in a team."""
secure_app = create_app(_secure_lab)
secure_schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", secure_app)


# The event stream of a run that does not end would be read for ever: its tests are in test_labd_api.
@schema.exclude(path_regex="/(log|events)$", method="GET").parametrize()
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_any_request_gets_a_declared_answer(case: schemathesis.Case[Any]) -> None:
    if case.method == "POST" and "wait" in (case.query or {}):
        case.query["wait"] = 0  # or it would be waited for: its bounds are tested in test_labd_api_versions
    case.call_and_validate(checks=CHECKS)


def _real_ids() -> dict[str, str]:
    """Of a lease and a run that there are, and of what else a path names."""
    with TestClient(secure_app, headers={"Authorization": f"Bearer {TOKEN}"}, raise_server_exceptions=False) as web:
        lease = web.post("/api/v1/leases", json={"holder": "root", "ttl_s": 3600}).json()["id"]
        run = web.post("/api/v1/runs", json={"holder": "root", "script": "return"}).json()["id"]
    return {"lease_id": lease, "run_id": run, "name": "bench-1", "team": "*"}


REAL = _real_ids()


@secure_schema.exclude(path_regex="/(log|events)$", method="GET").parametrize()
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
def test_what_is_there_withstands_every_role(case: schemathesis.Case[Any]) -> None:
    for name in set(REAL) & set(case.path_parameters or {}):
        case.path_parameters[name] = REAL[name]
    if case.query:
        case.query.pop("wait", None)  # it would be waited for
    _secure_clock.advance(0.1)  # or else the limit of the rate would be all that is tested
    # By what is asked for, so that a failure is the same once more.
    who = crc32(repr((case.operation.label, case.query, case.body)).encode()) % len(TOKENS)
    headers = {} if TOKENS[who] is None else {"Authorization": f"Bearer {TOKENS[who]}"}
    response = case.call(headers=headers)
    case.validate_response(response, checks=[not_a_server_error, content_type_conformance])
