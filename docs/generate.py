"""Reference pages made from the code: the commands from click, the REST API from its OpenAPI document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from bench_agent.main import main as bench_agent
from labd.api.app import openapi_document
from labd.cli.main import main as labctl
from labd.daemon import main as labd


def write_reference(folder: Path) -> None:
    """Writes commands.md and rest-api.md into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "commands.md").write_text("\n".join(_commands()) + "\n")
    (folder / "rest-api.md").write_text("\n".join(_rest_api(openapi_document())) + "\n")


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
    info = document["info"]
    yield f"# REST API\n\n{info.get('description', '')}\n\nThe document itself is served at `/openapi.json`."
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"\n## {method.upper()} {path}\n\n{operation.get('description') or operation.get('summary', '')}\n"
            for parameter in operation.get("parameters", []):
                yield f"- `{parameter['name']}` ({parameter['in']}): {parameter.get('description', '')}"
            yield from _body(operation, document)
            yield "\nAnswers: " + "; ".join(
                f"{status} {answer.get('description', '')}" for status, answer in operation["responses"].items()
            )


def _body(operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = content.get("schema", {}).get("$ref", "")
    if reference:
        schema = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
        for name, field in schema.get("properties", {}).items():
            required = ", required" if name in schema.get("required", []) else ""
            yield f"- `{name}` (body{required}): {field.get('description', '')}"
