"""The options of ``labd serve`` on where figures go."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_MB = 10**6


@dataclass(frozen=True, slots=True)
class InfluxOptions:
    """As they were given."""

    url: str | None
    org: str | None
    bucket: str | None
    token_file: Path | None
    ca_file: Path | None
    spool_bytes: int


def influx_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options, as one argument ``influx``."""

    @wraps(command)
    def with_influx(
        *arguments: Any,
        influx_url: str | None,
        influx_org: str | None,
        influx_bucket: str | None,
        influx_token_file: Path | None,
        influx_ca: Path | None,
        influx_spool_mb: int,
        **others: Any,
    ) -> Any:
        given = InfluxOptions(
            influx_url, influx_org, influx_bucket, influx_token_file, influx_ca, influx_spool_mb * _MB
        )
        return command(*arguments, influx=given, **others)

    for option in reversed(_OPTIONS):
        with_influx = option(with_influx)
    return with_influx


def check_influx(given: InfluxOptions) -> None:
    """Raises ValueError, with what would be right."""
    others = {
        "--influx-org": given.org,
        "--influx-bucket": given.bucket,
        "--influx-token-file": given.token_file,
        "--influx-ca": given.ca_file,
    }
    if given.url is None:
        if alone := [name for name, value in others.items() if value is not None]:
            raise ValueError(f"{alone[0]} goes with --influx-url: where is InfluxDB?")
        return
    parts = urlsplit(given.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"--influx-url is {given.url!r}: expected an address such as https://influx.example.com:8086")
    for name in ("--influx-org", "--influx-bucket"):
        if not others[name]:
            raise ValueError(f"{name} is missing: InfluxDB has to know where to put the points")
    if given.ca_file is not None and parts.scheme != "https":
        raise ValueError(f"--influx-ca goes with https, but --influx-url is {given.url}")


def _option(name: str, envvar: str, metavar: str, text: str, **more: Any) -> Callable[..., Any]:
    return click.option(name, envvar=envvar, show_envvar=True, metavar=metavar, help=text, **more)


_OPTIONS = (
    _option(
        "--influx-url",
        "LABD_INFLUX_URL",
        "URL",
        "InfluxDB 2 (or what takes its v2 write API), to which all figures are sent. Without it, labd keeps those of "
        "the last 24 hours itself, and no others.",
    ),
    _option("--influx-org", "LABD_INFLUX_ORG", "NAME", "The organisation there, by name or ID."),
    _option("--influx-bucket", "LABD_INFLUX_BUCKET", "NAME", "The bucket to write into; best one for labd alone."),
    _option(
        "--influx-token-file",
        "LABD_INFLUX_TOKEN_FILE",
        "FILE",
        "File with a token that may write into the bucket. Read again when InfluxDB refuses it.",
        type=_FILE,
    ),
    _option(
        "--influx-ca",
        "LABD_INFLUX_CA",
        "FILE",
        "Certificates (PEM) of the authorities to trust for https, in place of the system's.",
        type=_FILE,
    ),
    _option(
        "--influx-spool-mb",
        "LABD_INFLUX_SPOOL_MB",
        "MB",
        "How much may wait on the disk while InfluxDB is away; beyond it the oldest points are dropped, and counted.",
        type=click.IntRange(1, 1_000_000),
        default=1000,
        show_default=True,
    ),
)
