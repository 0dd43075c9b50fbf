"""A proxy that ends TLS before labd, as nginx does: it says by X-Forwarded-For who asks, and speaks TLS to labd."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator

HEAD_MAX = 64 * 1024
_PATIENCE_S = 60.0


@contextlib.contextmanager
def tls_proxy(
    shown: ssl.SSLContext, to: tuple[str, int], trust: ssl.SSLContext | None = None, server_name: str = ""
) -> Iterator[tuple[str, int]]:
    """The address of a proxy that shows a certificate of its own, and knows the server by another one, or by none."""
    open_sockets: list[socket.socket] = []

    def serve(plain: socket.socket, client: str) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            down = stack.enter_context(shown.wrap_socket(plain, server_side=True))
            plain_up = socket.create_connection(to, _PATIENCE_S)
            up = stack.enter_context(
                plain_up if trust is None else trust.wrap_socket(plain_up, server_hostname=server_name)
            )
            open_sockets.extend((down, up))
            head = b""
            while b"\r\n\r\n" not in head and len(head) < HEAD_MAX:
                more = down.recv(65536)
                if not more:
                    return
                head += more
            first, _, rest = head.partition(b"\r\n")
            # One request a connection: the next one would need its head changed, too.
            added = f"X-Forwarded-For: {client}\r\nConnection: close\r\n".encode()
            up.sendall(first + b"\r\n" + added + rest)
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            missing = 0 if length is None else int(length[1]) - len(head.partition(b"\r\n\r\n")[2])
            while missing > 0 and (more := down.recv(65536)):
                up.sendall(more)
                missing -= len(more)
            while data := up.recv(65536):
                down.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, (client, *_) = listener.accept()
                plain.settimeout(_PATIENCE_S)
                threading.Thread(target=serve, args=(plain, client), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for one in open_sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            thread.join(10)
