"""An end to each request as a whole: urllib3's time-outs begin anew with every byte, and its answers have no bound."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

ANSWER_MAX = 1 << 20
"""Bytes of an answer."""
_LATE = "no whole answer within {:g} s"


class Deadline:
    """Cuts the connections of a pool manager when time is up. For one thread that sends requests."""

    def __init__(self, manager: PoolManager) -> None:
        """From now on: set it up before the first request."""
        self._lock = threading.Lock()
        self._lines: set[socket.socket] = set()
        self._over = False
        manager.pool_classes_by_scheme = {
            "http": type("_Pool", (HTTPConnectionPool,), {"ConnectionCls": self._watched(HTTPConnection)}),
            "https": type("_Pool", (HTTPSConnectionPool,), {"ConnectionCls": self._watched(HTTPSConnection)}),
        }

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Raises TimeoutError when the block has taken longer, whatever it has made of an answer that was cut off."""
        self._over = False
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if not self._over:
                raise
            raise TimeoutError(_LATE.format(seconds)) from error
        finally:
            timer.cancel()
            timer.join()  # it must not cut the next request
        if self._over:
            raise TimeoutError(_LATE.format(seconds))

    def _cut(self) -> None:
        with self._lock:
            self._over = True
            for line in self._lines:
                _hang_up(line)

    def _watch(self, connection: socket.socket) -> socket.socket:
        """A hold on the connection that outlives its being wrapped into TLS."""
        line = connection.dup()
        with self._lock:
            self._lines.add(line)
            if self._over:
                _hang_up(line)
        return line

    def _forget(self, line: socket.socket) -> None:
        with self._lock:
            self._lines.discard(line)
        line.close()

    def _watched(self, kind: type[HTTPConnection]) -> type[HTTPConnection]:
        deadline = self

        class Watched(kind):  # type: ignore[valid-type, misc]
            response_class = _Bounded
            line: socket.socket | None = None

            def _new_conn(self) -> socket.socket:
                made: socket.socket = super()._new_conn()
                self.line = deadline._watch(made)
                return made

            def close(self) -> None:
                super().close()
                if self.line is not None:
                    line, self.line = self.line, None
                    deadline._forget(line)

        return Watched


class _Bounded(http.client.HTTPResponse):
    """Of an answer, no more is read than anybody has to say here."""

    def read(self, amt: int | None = None) -> bytes:
        if amt is not None:
            return super().read(amt)
        found = super().read(ANSWER_MAX + 1)
        if len(found) > ANSWER_MAX:
            raise http.client.HTTPException(f"the answer has more than {ANSWER_MAX} bytes")
        return found


def _hang_up(line: Any) -> None:
    with contextlib.suppress(OSError):  # it is down already
        line.shutdown(socket.SHUT_RDWR)
