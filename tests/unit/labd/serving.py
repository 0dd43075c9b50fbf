"""labd's own web server on a real socket, in a thread."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from labd.api.limits import Limits
from labd.api.proxies import Proxies
from labd.daemon.serving import web_server
from labd.daemon.settings import Door
from labd.services.lab import Lab


@contextmanager
def serving(
    lab: Lab, limits: Limits | None = None, *proxies: str, tls: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[tuple[str, int]]:
    """The address of the lab's REST API, for as long as the block lasts."""
    import asyncio

    server = web_server(lab, tls, Door(limits or Limits(), Proxies(proxies)))
    with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server._serve([listener])), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            lab.hang_up()
            server.should_exit = True
            thread.join(30)
