"""The REST API as an ASGI application."""

import functools
from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI

from bench_agent.protocol.release import VERSION
from labd.api import problems
from labd.api.access_document import SCHEMES, add_access
from labd.api.body import BodyLimit
from labd.api.context import listed
from labd.api.dispatch import Dispatch
from labd.api.examples import add_examples
from labd.api.guard import Guard
from labd.api.limits import Limits
from labd.api.metering import Metering
from labd.api.routes import (
    agents,
    audit,
    backup,
    benches,
    environments,
    figures,
    identities,
    leases,
    meta,
    policy,
    retention,
    runner,
    runs,
)
from labd.api.routing import PREFIX, relate, routes_of
from labd.model.access import Admits
from labd.model.access_table import REST
from labd.services.lab import Lab

_DESCRIPTION = """
Leases ECU benches to people and CI, and runs Lua scenarios on them.

Times are RFC 3339 text in UTC, durations are in seconds. Every error answer is a problem document (RFC 9457).
"""


class _Api(FastAPI):
    """Adds the schema of problem documents, which no route returns by type, and examples."""

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            document = super().openapi()
            schema = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            parts = {**schema.pop("$defs"), "Problem": schema}
            document["components"]["schemas"].update(parts)
            document["components"]["securitySchemes"] = SCHEMES
            _add_access(document)
            add_examples(document)
        return super().openapi()


def _add_access(document: dict[str, Any]) -> None:
    """What the guard asks for and may answer, by the authorisation table, before a route is reached."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            rule = REST.get(f"{method.upper()} {path}")
            refusals = [HTTPStatus.TOO_MANY_REQUESTS]
            if rule is None or rule.admits is not Admits.PUBLIC:
                refusals += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN]
            if rule is not None:
                add_access(operation, rule)
            for status, entry in problems.problem_entries(*refusals).items():
                operation["responses"].setdefault(str(status), entry)


def create_app(lab: Lab, limits: Limits | None = None) -> FastAPI:
    """The application; the lab is started and stopped by the caller."""
    app = _application(limits or Limits())
    app.state.lab = lab
    return app


@functools.cache
def openapi_document() -> dict[str, Any]:
    """The API's description of itself (OpenAPI 3.1), without a lab behind it; always the same one."""
    return _application(Limits()).openapi()


def _application(limits: Limits) -> FastAPI:
    app = _Api(
        title="labd",
        summary="The lab daemon: who may use which bench, when, and what ran there",
        description=_DESCRIPTION,
        version=VERSION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=f"{PREFIX}/docs",
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(listed)],
    )
    problems.install(app)
    parts = (
        agents,
        benches,
        leases,
        policy,
        runs,
        environments,
        audit,
        backup,
        identities,
        retention,
        figures,
        runner,
        meta,
    )
    routers = [*(part.router for part in parts), environments.secrets, runner.pods, meta.well_known]
    routes = routes_of(routers)
    relate(routes)
    app.router.routes += routes  # as they are: FastAPI would make each once more for a router that it includes
    # The last one is the outermost.
    app.add_middleware(Dispatch, routes=routes)
    of = {f"PUT {PREFIX}/runs/{{run_id}}/result": limits.result_bytes}
    app.add_middleware(BodyLimit, most=limits.request_bytes, of=of)
    app.add_middleware(Guard, limits=limits)
    app.add_middleware(Metering, prefix=PREFIX, paths=[route.path_format for route in routes])
    return app
