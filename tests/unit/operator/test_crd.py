"""The definition of TestRuns: a valid manifest, whose rules refuse what labd would."""

from pathlib import Path
from typing import Any

import celpy
import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from celpy.adapter import json_to_cel
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "labd/operator/testruns.labd.dev.yaml"
CRD = yaml.safe_load(MANIFEST.read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SPEC = {"appName": "ecm", "script": "print(1)"}
GIT = {"url": "https://git.example.com/tests.git", "path": "smoke/identify.lua", "revision": "main"}


def problems(schema: dict[str, Any], value: Any, old: Any = None) -> list[str]:
    """What an API server says against ``value``: by the schema, and by its rules in CEL."""
    found = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]
    return found or list(_broken_rules(schema, value, old))


def _broken_rules(schema: dict[str, Any], value: Any, old: Any) -> Any:
    environment = celpy.Environment()
    for one in schema.get("x-kubernetes-validations", []):
        if "oldSelf" in one["rule"] and old is None:
            continue  # a rule of changes
        given = {"self": json_to_cel(value), "oldSelf": json_to_cel(old)}
        if not environment.program(environment.compile(one["rule"])).evaluate(given):
            yield one["message"]
    for name, inner in schema.get("properties", {}).items():
        if name in value:
            yield from _broken_rules(inner, value[name], None if old is None else old.get(name))


def wanted(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "labd.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": "smoke"}, "spec": spec}


def spec_problems(**spec: Any) -> list[str]:
    return problems(SCHEMA, wanted(**spec))


@pytest.mark.parametrize("version", ["1.32", "1.33", "1.34"])
def test_it_is_a_definition_that_kubernetes_takes(version: str) -> None:
    kubernetes_validate.validate(CRD, version, strict=True)


def test_the_chart_has_the_same_file() -> None:
    assert (ROOT / "deploy/helm/labd/crds" / MANIFEST.name).read_bytes() == MANIFEST.read_bytes()


def test_its_names_and_columns() -> None:
    assert CRD["metadata"]["name"] == "testruns.labd.dev"
    assert CRD["spec"]["names"]["shortNames"] == ["tr"]
    (version,) = CRD["spec"]["versions"]
    assert version["name"] == "v1alpha1"
    assert version["subresources"] == {"status": {}}
    columns = [one["name"] for one in version["additionalPrinterColumns"] if not one.get("priority")]
    assert columns == ["State", "Result", "Duration", "Bench", "Age"]


def test_the_schema_is_structural_and_bounded() -> None:
    def walk(schema: dict[str, Any], path: str) -> None:
        assert schema.get("type"), f"{path} has no type"
        if schema["type"] == "string" and "enum" not in schema and "format" not in schema and path not in _OPEN:
            assert "maxLength" in schema, f"{path} has no maxLength"
        if schema["type"] == "array":
            assert "maxItems" in schema, f"{path} has no maxItems"
            walk(schema["items"], f"{path}[]")
        for name, inner in schema.get("properties", {}).items():
            walk(inner, f"{path}.{name}")

    walk(SCHEMA, "")


_OPEN = {".apiVersion", ".kind"}


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        {"appName": "ecm", "git": GIT},
        {"appName": "ecm", "git": {"url": "http://git.example.com:8080/team/tests.git", "path": "a.lua"}},
        SPEC | {"timeout": "1h30m", "benches": [{"selector": "platform=meb", "count": 2}, {}]},
        SPEC | {"timeout": "168h", "priority": "urgent", "environment": "night"},
        SPEC | {"script": "x" * 262144},
    ],
)
def test_what_makes_sense_is_taken(spec: dict[str, Any]) -> None:
    assert spec_problems(**spec) == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"appName": "ecm"}, "exactly one of script and git"),
        (SPEC | {"git": GIT}, "exactly one of script and git"),
        ({"script": "print(1)"}, "'appName' is a required property"),
        (SPEC | {"appName": "My App"}, "does not match"),
        (SPEC | {"script": ""}, "should be non-empty"),
        (SPEC | {"script": "x" * 262145}, "too long"),
        (SPEC | {"timeout": "10"}, "does not match"),
        (SPEC | {"timeout": "0s"}, "a time above 0"),
        (SPEC | {"timeout": "168h1s"}, "at most 168h"),
        (SPEC | {"timeout": "-5m"}, "does not match"),
        (SPEC | {"benches": [{"count": 0}]}, "less than the minimum"),
        (SPEC | {"benches": [{"selector": "a=b"}] * 33}, "too long"),
        ({"appName": "ecm", "git": {"url": "https://x/y.git"}}, "'path' is a required property"),
        ({"appName": "ecm", "git": GIT | {"path": "../../etc/passwd"}}, "a path below the root"),
        ({"appName": "ecm", "git": GIT | {"path": "/etc/passwd"}}, "a path below the root"),
        ({"appName": "ecm", "git": GIT | {"path": "smoke//a.lua"}}, "a path below the root"),
        ({"appName": "ecm", "git": GIT | {"url": "--upload-pack=evil"}}, "a URL without a user"),
        ({"appName": "ecm", "git": GIT | {"url": "https://ada:secret@git.example.com/t.git"}}, "a URL without a user"),
        ({"appName": "ecm", "git": GIT | {"revision": "--output=x"}}, "a branch, a tag or a commit"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: dict[str, Any], said: str) -> None:
    assert any(said in one for one in spec_problems(**spec)), spec_problems(**spec)


def test_the_spec_cannot_be_changed_but_the_rest_can() -> None:
    old = wanted(**SPEC)
    assert problems(SCHEMA, wanted(**SPEC | {"script": "print(2)"}), old) == [
        "the spec of a TestRun cannot be changed; create another TestRun"
    ]
    assert problems(SCHEMA, old | {"status": {"state": "Running"}}, old) == []


def test_a_name_has_63_characters_at_most() -> None:
    long = wanted(**SPEC) | {"metadata": {"name": "x" * 64}}
    assert problems(SCHEMA, long) == ["the name of a TestRun has at most 63 characters"]
    assert problems(SCHEMA, wanted(**SPEC) | {"metadata": {"name": "x" * 63}}) == []


_PATH = SCHEMA["properties"]["spec"]["properties"]["git"]["properties"]["path"]


@given(st.lists(st.sampled_from(["a", "b.lua", "..x", "x.", ".hidden", "", ".", ".."]), min_size=1, max_size=4))
def test_a_path_leaves_the_repository_only_by_parts_that_are_refused(parts: list[str]) -> None:
    path = "/".join(parts)
    if path:
        assert (problems(_PATH, path) == []) is not any(part in ("", ".", "..") for part in parts)
