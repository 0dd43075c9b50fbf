"""How the daemons of this package write their logs."""

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

import click
import structlog

from bench_agent.protocol import tracing
from bench_agent.protocol.json_log import set_up_json_log

Command = TypeVar("Command", bound=Callable[..., object])
_LEVELS = ("debug", "info", "warning", "error")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def _plain(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Without what a terminal would obey: others decide what is in paths and names. The renderer escapes new lines."""
    for name, value in entry.items():
        if isinstance(value, str):
            entry[name] = value.translate(_CONTROLS)
    return entry


def log_options(command: Command) -> Command:
    """Adds ``--log-level`` and ``--log-format``; the command gets them as ``log_level`` and ``log_format``."""
    form = click.option(
        "--log-format",
        type=click.Choice(("logfmt", "json")),
        default="logfmt",
        envvar="LABD_LOG_FORMAT",
        show_envvar=True,
        show_default=True,
        help="Of the log: key=value, or a JSON object a line.",
    )
    level = click.option(
        "--log-level",
        type=click.Choice(_LEVELS),
        default="info",
        envvar="LABD_LOG_LEVEL",
        show_envvar=True,
        show_default=True,
        help="Least important log lines to write to standard error.",
    )
    return level(form(command))


def set_up_logging(level: str, form: str = "logfmt") -> None:
    """Writes log lines from ``level`` on to standard error: as ``logfmt`` or as ``json``."""
    threshold = getattr(logging, level.upper())
    if form == "json":
        set_up_json_log(threshold)
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            tracing.into_log,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _plain,
            structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event")),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=max(threshold, logging.WARNING), stream=sys.stderr)
