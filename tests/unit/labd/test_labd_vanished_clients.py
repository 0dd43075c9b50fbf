"""What labd asks of the kernel, so that clients whose machines have vanished do not keep their connections."""

import socket
import sys

import pytest

from labd.daemon.serving import PEER_GONE_S, listen


@pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")
def test_every_connection_that_is_accepted_ends_with_a_machine_that_vanished() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == PEER_GONE_S * 1000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == PEER_GONE_S // 2
