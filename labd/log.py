"""How the daemons of this package write their logs."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from bench_agent.protocol import tracing
from bench_agent.protocol.json_log import set_up_json_log

LEVELS = ("debug", "info", "warning", "error")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def _plain(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Without what a terminal would obey: others decide what is in paths and names. The renderer escapes new lines."""
    for name, value in entry.items():
        if isinstance(value, str):
            entry[name] = value.translate(_CONTROLS)
    return entry


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
