"""One kept-alive connection to labd that costs next to nothing: whatever load costs, the labd under it lacks."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

ANSWER_S = 10.0
"""How long labd may take to answer."""


class NoAnswer(Exception):
    """Nobody answered; labd may have carried the request out."""


class Connection:
    """Used by one task. It is made with the first request, and again with the one after it broke."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._host, self._port = str(place.hostname), int(place.port or 80)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, *, body: object = None, key: str = "") -> tuple[int, Any]:
        """Status and JSON value of the answer; raises NoAnswer. ``key`` is the Idempotency-Key."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Length: {len(content)}\r\n"
        if content:
            head += "Content-Type: application/json\r\n"
        if key:
            head += f"Idempotency-Key: {key}\r\n"
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._exchange(head.encode() + b"\r\n" + content)
        except (OSError, EOFError, TimeoutError) as error:
            self.close()
            raise NoAnswer(str(error) or type(error).__name__) from error

    async def _exchange(self, request: bytes) -> tuple[int, Any]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        content = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(first.split(" ", 2)[1]), json.loads(content)

    def close(self) -> None:
        """Closes the connection; the next request makes another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
