"""Where the audit log ended last, in a file apart from the database: who can write to the database alone cannot cut the
log's end off, or write it anew, without being found out.
"""

import json
import os
from pathlib import Path

import structlog

from labd.model.audit import START, Head

ANCHOR_NAME = "audit-head.json"
"""In the data directory. To be removed when a backup is restored into a database that others had."""
_log = structlog.get_logger()


class Anchor:
    """The last end that this labd has seen. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.head = self._read()

    def keep(self, head: Head) -> None:
        """Goes on to a later end. Raises OSError."""
        part = self._path.with_suffix(f".part-{os.getpid()}")
        part.write_text(json.dumps({"seq": head.seq, "hash": head.hash}) + "\n", "utf-8")
        part.replace(self._path)
        self.head = head

    def _read(self) -> Head | None:
        try:
            kept = json.loads(self._path.read_text("utf-8"))
            return Head(int(kept["seq"]), str(kept["hash"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("the former end of the audit log cannot be read", path=str(self._path), reason=str(error))
            return START
