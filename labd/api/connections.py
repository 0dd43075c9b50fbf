"""HTTP connections that cost labd little when their client is slow, or means harm.

uvicorn waits for ever for the rest of a request, and for a client to read its answer. Here each wait has an end, the
head of a request has a size, and one address has so many connections.
"""

import asyncio
from collections import Counter
from collections.abc import Container
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from labd.api import cuts
from labd.api.limits import Limits

HEAD_S = 10.0
"""From the first byte of a request, or the connection, to the end of the headers."""
BODY_S = 20.0
"""Without a byte of a body that was announced."""
READ_S = 30.0
"""Without the client reading any of what it was sent."""
HEAD_BYTES_MAX = 64 * 1024

_log = structlog.get_logger()


def limited(connections_max: int, proxies: Container[str | None]) -> type["Connection"]:
    """The kind of connection of a server with these limits."""
    return type("Connection", (Connection,), {"connections_max": connections_max, "proxies": proxies})


class Connection(HttpToolsProtocol):
    """One connection; those that are cut off are counted by the reason."""

    cut: ClassVar[Counter[str]] = cuts.counted
    connections_max: ClassVar[int] = Limits().address_connections
    proxies: ClassVar[Container[str | None]] = ()
    """Addresses that have connections without bound: those of many clients."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self._in_head = self._in_body = self._over = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes it, unless its address has too many."""
        super().connection_made(transport)
        self._begin_head()
        if self._address in self.proxies:
            return
        of_address = (isinstance(one, Connection) and one._address == self._address for one in self.connections)
        if sum(of_address) > self.connections_max:
            self._end("too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets its timers."""
        for timer in (self._timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Goes on with a request, or begins one."""
        if self._over:
            return
        if not self._in_head and not self._in_body:
            self._begin_head()
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse_head()
        elif self._in_body:
            self._arm(BODY_S, self._body_is_late)

    def on_headers_complete(self) -> None:
        """The head is here."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._over or size > HEAD_BYTES_MAX:
            self._refuse_head()
            return
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body is here."""
        if not self._over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._over:
            return
        self._in_body = False
        if self._timer is not None:
            self._timer.cancel()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read as fast as labd writes."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """It has read."""
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        super().resume_writing()

    @property
    def _address(self) -> str | None:
        return self.client[0] if self.client else None

    def _begin_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._arm(HEAD_S, lambda: self._end("late headers"))

    def _body_is_late(self) -> None:
        if self.flow.read_paused:
            self._arm(BODY_S, self._body_is_late)  # it is labd that does not read
        else:
            self._end("late body")

    def _watch_reader(self) -> None:
        waiting = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() < waiting:
                self._watch_reader()
            else:
                self._end("reads nothing")

        self._reader_timer = self.loop.call_later(READ_S, look)

    def _arm(self, after_s: float, act: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(after_s, act)

    def _refuse_head(self) -> None:
        if self._over:
            return
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode())
        self._over = True
        self.cut["head too large"] += 1
        self.transport.close()

    def _end(self, reason: str) -> None:
        self._over = True
        self.cut[reason] += 1
        _log.debug("connection cut off", client=self._address, reason=reason, so_far=self.cut[reason])
        self.transport.abort()
