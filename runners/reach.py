"""``python -P -m runners.reach``: whether labd is reached from here, as a runner would. For container engines.

LABD_URL, LABD_CA and LABD_SERVER_NAME say where labd is and whom to trust, as they do for runners. Exit code 1 when
none of its addresses answers, and why.
"""

import os
import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

TIMEOUT_S = 4.0
"""For each address."""


class _NamedConnection(HTTPSConnection):
    """To an address, where somebody of another name is expected."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S)
        self._trust = context
        self._name = name

    def connect(self) -> None:
        """See the base class."""
        HTTPConnection.connect(self)
        self.sock = self._trust.wrap_socket(self.sock, server_hostname=self._name)


def ask(url: SplitResult, variables: Mapping[str, str]) -> None:
    """Returns when labd says its version there. Raises OSError, HTTPException or ValueError."""
    host = url.hostname or ""
    connection: HTTPConnection
    if url.scheme == "https":
        trust = ssl.create_default_context(cafile=variables.get("LABD_CA") or None)
        name = variables.get("LABD_SERVER_NAME") or host
        connection = _NamedConnection(host, url.port or 443, trust, name)
    else:
        connection = HTTPConnection(host, url.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"{url.path.rstrip('/')}/api/v1/version")
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise ValueError(f"HTTP status {status}")


def main(variables: Mapping[str, str]) -> int:
    """0 when any of the addresses answers."""
    urls = [one.strip() for one in variables.get("LABD_URL", "").split(",") if one.strip()]
    if not urls:
        sys.stderr.write("runners.reach: LABD_URL says nowhere\n")
    for one in urls:
        try:
            ask(urlsplit(one), variables)
        except (OSError, HTTPException, ValueError) as error:
            sys.stderr.write(f"runners.reach: {one}: {error}\n")
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
