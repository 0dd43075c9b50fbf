"""TestRuns, for people to read and for programs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from labd.cli.output import ago, one_line, print_json, print_record, print_table

if TYPE_CHECKING:
    from labd.operator.testrun import TestRun


def reason_of(test: "TestRun") -> str:
    """Why it is in its state, in one line; empty where nobody says."""
    return one_line(test.status.get("reason", "" if "state" in test.status else "no operator has seen it yet"))


def print_test(found: "TestRun", as_json: bool) -> None:
    """One of them, whole."""
    if as_json:
        print_json(_document(found))
        return
    told, git = found.status, found.spec.get("git")
    print_record(
        {
            "test": found.name,
            "app": found.spec.get("appName", ""),
            "state": found.state,
            "reason": reason_of(found),
            "result": told.get("result", ""),
            "bench": told.get("bench", ""),
            "source": f"{git['url']} {git['path']} at {git.get('revision', 'HEAD')}" if git else "script",
            "commit": told.get("commit", ""),
            "created": f"{found.metadata['creationTimestamp']} ({ago(found.metadata['creationTimestamp'])})",
            "took": told.get("duration", ""),
            "run": told.get("runID", ""),
            "log": told.get("log", ""),
        }
    )


def print_tests(tests: Sequence["TestRun"], as_json: bool, *, namespaces: bool) -> None:
    """A line each; with their ``namespaces``, where they are of several."""
    if as_json:
        print_json([_document(one) for one in tests])
        return
    rows = [
        (
            *([one.namespace] if namespaces else []),
            one.name,
            one.state,
            one.status.get("result", ""),
            one.status.get("duration", ""),
            one.status.get("bench", ""),
            ago(one.metadata["creationTimestamp"]),
            reason_of(one),
        )
        for one in tests
    ]
    headings = ["test", "state", "result", "duration", "bench", "created", "reason"]
    print_table([*(["namespace"] if namespaces else []), *headings], rows, empty="no tests")


def print_verdict(test: "TestRun", as_json: bool) -> None:
    """Of a test that is over."""
    if as_json:
        print_json(_document(test))
        return
    parts = [test.state, test.name, test.status.get("result", ""), reason_of(test)]
    click.echo("  ".join(part for part in parts if part))


def _document(found: "TestRun") -> dict[str, Any]:
    """As the cluster has it, but for what only the API server has a use for."""
    metadata = {name: value for name, value in found.metadata.items() if name != "managedFields"}
    return {**found.document, "metadata": metadata}
