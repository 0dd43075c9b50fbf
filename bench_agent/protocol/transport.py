"""gRPC over mutually authenticated TLS, with the names of `identity` instead of addresses."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc

from bench_agent.protocol.identity import Credentials

Options = tuple[tuple[str, Any], ...]

QUIET_S = 5
"""After this long without a word from the other side it is asked for a sign of life."""
ANSWER_S = 5
"""It has so long to answer, or to acknowledge what it was sent; then the connection is given up."""
CUT_S = QUIET_S + ANSWER_S
"""Both sides know of a network that swallows everything by then: calls end, and with them what they held."""
PINGS: Options = (
    ("grpc.keepalive_time_ms", QUIET_S * 1000),
    # Kernel and gRPC answer, not Python: whoever is merely busy is not mistaken for gone. gRPC also sets
    # TCP_USER_TIMEOUT to this (gRFC A18), so that data which nobody acknowledges ends the connection as soon.
    ("grpc.keepalive_timeout_ms", ANSWER_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    # As a client: however little else is sent. As a server: clients may ask as often as they do, and some more.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", QUIET_S * 500),
)
"""For every channel and every server: a connection that is cut without a word is noticed within `CUT_S`."""

_PEER_NAMES = "x509_subject_alternative_name"


def channel_credentials(own: Credentials) -> grpc.ChannelCredentials:
    """For a client."""
    return grpc.ssl_channel_credentials(own.trust, own.key, own.chain)


def expecting(server_name: str) -> Options:
    """Channel options: the server must show this name, whatever the address that is dialled."""
    return (("grpc.ssl_target_name_override", server_name),)


def server_credentials(current: Callable[[], Credentials]) -> grpc.ServerCredentials:
    """For a server that takes only clients with a certificate; ``current`` is asked at every handshake.

    Hence a certificate that was renewed, or an authority that is trusted from now on, needs no restart.
    """
    last = current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        own = current()
        if own is last:
            return None
        last = own
        return _configuration(own)

    # The stubs do not know that None means "as before".
    return grpc.dynamic_ssl_server_credentials(
        _configuration(last),
        fetch,  # type: ignore[arg-type]
        require_client_authentication=True,
    )


def peer_names(auth_context: Mapping[str, Iterable[bytes]]) -> list[str]:
    """The names in the certificate of a call's peer, which was verified; none when there is no TLS."""
    return [name.decode("utf-8", "replace") for name in auth_context.get(_PEER_NAMES, ())]


def _configuration(own: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(own.key, own.chain)], root_certificates=own.trust)
