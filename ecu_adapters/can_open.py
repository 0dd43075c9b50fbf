"""The driver of a bus, by its settings."""

from typing import Any

import can

from ecu_adapters import raw_socket
from ecu_adapters.can_config import SILENT_OPTIONS, CanConfig
from ecu_adapters.can_driver import Driver, PythonCan

_VIRTUAL_QUEUE = 100_000
"""Frames that wait for a reader on python-can's virtual bus, which has no bound of its own."""


def open_driver(config: CanConfig) -> Driver:
    """Opens the bus: by a socket of our own where that will do, else through python-can. Raises what that raises."""
    if config.interface == "socketcan" and raw_socket.SUPPORTED and not config.options:
        return raw_socket.open_socketcan(config.channel, fd=config.fd)
    if config.interface == "unix":
        return raw_socket.open_unix(config.channel, fd=config.fd)
    options: dict[str, Any] = dict(config.options)
    if config.listen_only:
        options = SILENT_OPTIONS.get(config.interface, {}) | options
    if config.interface == "virtual":
        options.setdefault("rx_queue_size", _VIRTUAL_QUEUE)
    elif config.fd or config.interface == "udp_multicast":
        options.setdefault("fd", config.fd)
    for key in ("bitrate", "data_bitrate"):
        value = getattr(config, key)
        if value is not None and config.interface != "virtual":
            options.setdefault(key, value)

    def open_bus() -> can.BusABC:
        return can.Bus(interface=config.interface, channel=config.channel, ignore_config=True, **options)

    return PythonCan(open_bus(), config.interface, open_bus)
