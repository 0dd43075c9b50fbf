"""Proxies in front of labd: the addresses whose header ``X-Forwarded-For`` says who asks."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network


class Proxies:
    """The addresses of those that are trusted. From all others the header counts for nothing."""

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        """``addresses`` such as ``10.1.2.3`` or ``10.1.2.0/24``. Raises ValueError, naming the one that is none."""
        self._networks = [_network(one) for one in addresses]
        self.networks = [str(one) for one in self._networks]
        """As uvicorn takes them."""

    def __contains__(self, host: object) -> bool:
        try:
            address = ip_address(str(host))
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: expected an address or a network, such as 10.1.2.3 or 10.1.2.0/24") from error
    if network.prefixlen == 0:
        raise ValueError(f"{text!r} is everybody: anybody could say who they are")
    return network
