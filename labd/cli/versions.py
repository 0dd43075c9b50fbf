"""Documents that people take out of the lab, edit, and put back: they carry the version that was seen, as ``etag``."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from labd.cli.exits import ExitCode, Failure
from labd.client.versions import etag_of

Command = TypeVar("Command", bound=Callable[..., object])


def with_etag(thing: Mapping[str, Any]) -> dict[str, Any]:
    """The thing, and the version of it that is shown, where labd says which."""
    etag = etag_of(thing)
    return dict(thing) if etag is None else {"etag": etag, **thing}


def taken(file: TextIO) -> tuple[dict[str, Any], str]:
    """The document in a JSON file, and what it may replace: the version that it was made from, or whatever there is.

    Raises Failure.
    """
    name = Path(file.name).name
    try:
        document = json.load(file)
    except ValueError as error:
        raise Failure(f"{name} holds no JSON: {error}", ExitCode.USAGE) from error
    if not isinstance(document, dict):
        raise Failure(f"{name} holds no JSON object", ExitCode.USAGE)
    etag = document.pop("etag", None) or "*"
    if not isinstance(etag, str):
        raise Failure(f"{name}: etag {etag!r}: expected the text that 'show' gave it", ExitCode.USAGE)
    return document, etag


def if_match_option(command: Command) -> Command:
    """Adds ``--if-match``."""
    return click.option(
        "--if-match",
        metavar="ETAG",
        help="Only if it is still the version that 'show -o json' gave this etag: nobody else's change is overwritten.",
    )(command)
