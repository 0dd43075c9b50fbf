"""The certificate that labd itself shows."""

import threading
from collections.abc import Sequence

from bench_agent.protocol.certificates import renewal_at
from bench_agent.protocol.identity import Credentials
from labd.services.authority import Authority


class OwnCertificate:
    """Issued by labd's authority to labd, and replaced in good time. Any thread may ask."""

    def __init__(self, authority: Authority, hosts: Sequence[str] = ()) -> None:
        """``hosts`` are names and addresses by which people reach labd."""
        self._authority = authority
        self._hosts = hosts
        self._lock = threading.Lock()
        self._credentials = authority.server_credentials(hosts)

    def current(self) -> Credentials:
        """A new one once it is time; the same object until then."""
        with self._lock:
            if self._authority.now() >= renewal_at(self._credentials.chain):
                self._credentials = self._authority.server_credentials(self._hosts)
            return self._credentials
