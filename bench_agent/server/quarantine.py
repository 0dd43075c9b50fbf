"""Benches that nobody may have until somebody has looked at them, on disk: a restart of the agent changes nothing."""

import json
import threading
from pathlib import Path

import structlog

from bench_agent.server import files

_log = structlog.get_logger()


class QuarantineError(Exception):
    """The quarantine file cannot be read; names the file and the reason."""


class QuarantineStore:
    """The reason by bench, in one small JSON file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Reads the file if it exists. Raises QuarantineError when it is there and not sound."""
        self._path = path
        self._lock = threading.Lock()
        self._reasons = _read(path)

    def reason(self, bench: str) -> str | None:
        """Why the bench is in quarantine; None when it is not."""
        with self._lock:
            return self._reasons.get(bench)

    def save(self, bench: str, reason: str | None) -> None:
        """Puts the bench into quarantine, or ends it (None). Blocks for the disk; a full one is logged, no more."""
        with self._lock:
            reasons = {name: kept for name, kept in self._reasons.items() if name != bench}
            if reason is not None:
                reasons[bench] = reason
            self._reasons = reasons
            try:
                files.replace(self._path, json.dumps(reasons, indent=1, sort_keys=True).encode())
            except OSError as error:
                _log.error("quarantine holds until the agent ends only", bench=bench, reason=str(error))


def _read(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_bytes())
        return {str(name): str(reason) for name, reason in document.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise QuarantineError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, AttributeError) as error:
        raise QuarantineError(f"{path} is not sound ({error}); delete it to end all quarantines") from error
