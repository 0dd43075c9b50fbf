"""What the server says of itself: versions, groups, resources, and as much OpenAPI as kubectl asks for."""

from collections.abc import Iterable

from tests.kubernetes.fake.errors import Object
from tests.kubernetes.fake.resources import REVIEWS, VERBS, Resource
from tests.kubernetes.fake.schema import RELEASE

VERSION: Object = {
    "major": RELEASE.partition(".")[0],
    "minor": RELEASE.partition(".")[2],
    "gitVersion": f"v{RELEASE}.0+fake",
    "gitCommit": "fake",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}


def api_versions() -> Object:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(resources: Iterable[Resource]) -> Object:
    """The APIGroupList."""
    versions: dict[str, list[str]] = {group: ["v1"] for group, _ in REVIEWS}
    for resource in resources:
        known = versions.setdefault(resource.group, [])
        if resource.version not in known:
            known.append(resource.version)
    listed = []
    for name, found in versions.items():
        if name:
            served = [{"groupVersion": f"{name}/{version}", "version": version} for version in found]
            listed.append({"name": name, "versions": served, "preferredVersion": served[0]})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def resource_list(group: str, version: str, resources: Iterable[Resource]) -> Object | None:
    """The APIResourceList; None for a group version that is not served."""
    listed: list[Object] = []
    for one in resources:
        if (one.group, one.version) != (group, version):
            continue
        entry: Object = {
            "name": one.plural,
            "singularName": one.singular or one.kind.lower(),
            "namespaced": one.namespaced,
            "kind": one.kind,
            "verbs": [*VERBS],
        }
        if one.short_names:
            entry["shortNames"] = [*one.short_names]
        if one.categories:
            entry["categories"] = [*one.categories]
        listed.append(entry)
        for name, kind, verbs in _subresources(one):
            listed.append(
                {
                    "name": f"{one.plural}/{name}",
                    "singularName": "",
                    "namespaced": one.namespaced,
                    "kind": kind,
                    "verbs": verbs,
                }
            )
    for (place, plural), kind in REVIEWS.items():
        if (place, "v1") == (group, version):
            review = {"name": plural, "singularName": kind.lower(), "namespaced": False, "kind": kind}
            listed.append({**review, "verbs": ["create"]})
    if not listed:
        return None
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed}


def _subresources(resource: Resource) -> list[tuple[str, str, list[str]]]:
    found = [("status", resource.kind, ["get", "patch", "update"])] if resource.status else []
    if resource.full == "pods":
        found += [("log", "Pod", ["get"]), ("binding", "Binding", ["create"]), ("eviction", "Eviction", ["create"])]
    if resource.full == "serviceaccounts":
        found.append(("token", "TokenRequest", ["create"]))
    return found


def openapi_paths(resources: Iterable[Resource]) -> Object:
    """The index of OpenAPI v3."""
    found = {f"apis/{one.api_version}" if one.group else "api/v1" for one in resources}
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash=fake"} for path in sorted(found)}}


_QUERY = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("dryRun", "fieldValidation")]


def openapi(path: str, resources: Iterable[Resource]) -> Object:
    """The OpenAPI v3 document of one group version: which patches it takes, no schemas."""
    paths: Object = {}
    for one in resources:
        if path != (f"apis/{one.api_version}" if one.group else "api/v1"):
            continue
        place = "namespaces/{namespace}/" if one.namespaced else ""
        kind = {"group": one.group, "version": one.version, "kind": one.kind}
        patch = {"x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind, "parameters": _QUERY}
        answer = {"responses": {"200": {"description": "OK"}}}
        paths[f"/{path}/{place}{one.plural}/{{name}}"] = {"patch": {**patch, **answer}}
    info = {"title": "Kubernetes", "version": f"v{RELEASE}.0"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}
