"""Reference pages made from the code: commands from click, REST API from OpenAPI, YAML files from their models."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from bench_agent.main import main as bench_agent
from bench_agent.server.config import AgentConfig
from ecu_adapters.description import EcuDescription
from labd.api.app import openapi_document
from labd.api.examples import successes
from labd.cli.main import main as labctl
from labd.daemon import main as labd
from labd.executors.kubernetes.settings import Clusters
from labd.model.access import Admits, Rule, TeamOf
from labd.model.access_table import AGENT_GRPC, LABD_GRPC, REST
from labd.services.providers import AccessFile


def write_reference(folder: Path) -> None:
    """Writes the pages into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "commands.md").write_text("\n".join(_commands()) + "\n")
    (folder / "rest-api.md").write_text("\n".join(_rest_api(openapi_document())) + "\n")
    (folder / "authorisation.md").write_text("\n".join(_authorisation()) + "\n")
    for name, title, model in (
        ("agent-fields", "Agent configuration, field by field", AgentConfig),
        ("ecu-fields", "ECU description, field by field", EcuDescription),
        ("access-fields", "Identity providers, field by field", AccessFile),
        ("cluster-fields", "Clusters, field by field", Clusters),
    ):
        (folder / f"{name}.md").write_text("\n".join(_fields(title, model)) + "\n")


def _commands() -> Iterator[str]:
    yield "# Commands\n\nWhat `--help` prints, for every command."
    for name, command in (("labctl", labctl), ("bench-agent", bench_agent), ("labd", labd)):
        yield f"\n## {name}\n"
        yield from _help(command, click.Context(command, info_name=name, terminal_width=100, max_content_width=100))


def _help(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"### `{context.command_path}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _help(child, click.Context(child, info_name=name, parent=context))


def _rest_api(document: dict[str, Any]) -> Iterator[str]:
    yield "# Every route of the REST API"
    yield "\nWhat they have in common is on the page [REST API](../api.md)."
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"\n## {method.upper()} {path}\n\n{operation.get('description') or operation.get('summary', '')}\n"
            for parameter in operation.get("parameters", []):
                yield f"- `{parameter['name']}` ({parameter['in']}): {parameter.get('description', '')}"
            yield from _body(operation, document)
            yield from _exchange(method, path, operation)
            yield "\nAnswers: " + "; ".join(
                f"{status} {answer.get('description', '')}" for status, answer in operation["responses"].items()
            )


def _authorisation() -> Iterator[str]:
    yield "# Who may do what, operation by operation"
    yield "\nWhat the columns mean is on the page [Authorisation](../authorisation.md).\n\n## REST API\n"
    yield "| operation | who | least role | in | scope | reason |\n|---|---|---|---|---|---|"
    for operation, rule in REST.items():
        yield f"| `{operation}` | {_who(rule)} | {_rights(rule)} |"
    for title, table in (("gRPC of labd", LABD_GRPC), ("gRPC of agents", AGENT_GRPC)):
        yield f"\n## {title}\n\n| method | who |\n|---|---|"
        yield from (f"| `{method}` | {rule.admits} |" for method, rule in table.items())


def _who(rule: Rule) -> str:
    also = ", the run's runner" if rule.runner else ""
    own = "the holder; an operator for another's" if rule.own else str(rule.admits)
    return own + also


def _rights(rule: Rule) -> str:
    if rule.admits is not Admits.MEMBER:
        return " | | | "
    where = str(rule.team) if rule.team is not TeamOf.BENCH or rule.role.rank else "the bench's team, if it has one"
    return f"{rule.role} | {where} | `{rule.scope}` | {rule.reason}"


def _exchange(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    """A request as curl sends it, and what comes back."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["schema"]["examples"][0]))
    words = ["curl", *([] if method == "get" else ["-X", method.upper()]), f'"$LABD_URL{path}"']
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    if body is not None:
        words += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(json.dumps(body, ensure_ascii=False))]
    yield f"\n```text\n{' '.join(words)}\n```\n"
    for answer in successes(operation):
        for content in answer.get("content", {}).values():
            example = content["example"]
            text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
            yield f"\n```text\n{text.rstrip()}\n```\n"


def _body(operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = content.get("schema", {}).get("$ref", "")
    if reference:
        schema = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
        for name, field in schema.get("properties", {}).items():
            required = ", required" if name in schema.get("required", []) else ""
            yield f"- `{name}` (body{required}): {field.get('description', '')}"


def _fields(title: str, model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    yield f"# {title}"
    for name, part in {model.__name__: schema, **schema.get("$defs", {})}.items():
        yield f"\n## {name}\n\n{part.get('description', '')}\n\n| field | type | default | meaning |\n|---|---|---|---|"
        for field, details in part.get("properties", {}).items():
            default = "required" if field in part.get("required", []) else f"`{details.get('default', '')}`"
            yield f"| `{field}` | {_type(details)} | {default} | {details.get('description', '')} |"


def _type(details: dict[str, Any]) -> str:
    if "$ref" in details:
        name = details["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "const" in details:
        return f"`{details['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in details:
            return " or ".join(_type(choice) for choice in details[key])
    kind = str(details.get("type", "any"))
    if "prefixItems" in details:
        return f"list of {', '.join(_type(item) for item in details['prefixItems'])}"
    if kind == "array":
        return f"list of {_type(details['items'])}"
    if kind == "object" and isinstance(details.get("additionalProperties"), dict):
        return f"map to {_type(details['additionalProperties'])}"
    low, high = details.get("minimum", details.get("exclusiveMinimum")), details.get("maximum")
    return f"{kind}, {low} .. {high}" if low is not None and high is not None else kind
