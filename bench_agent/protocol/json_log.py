"""The log as JSON, a line each, with the same names from labd, its operator and the agents.

``timestamp`` (RFC 3339, UTC), ``level``, ``event``, and where the line is about them ``run``, ``lease``, ``bench``, and
``trace`` (32 hexadecimal digits).
"""

import logging
import sys
from typing import Any

import structlog

from bench_agent.protocol.tracing import into_log

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    into_log,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def set_up_json_log(threshold: int) -> None:
    """Has everything from ``threshold`` on (as in `logging`) written to standard error, that of libraries included."""
    structlog.configure(
        processors=[*_SHARED, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)
