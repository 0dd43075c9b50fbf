"""HOST:PORT, as options give it and URLs have it."""

from urllib.parse import urlsplit

from labd.daemon.errors import StartError


def hosts(urls: str) -> list[str]:
    """Those in URLs with commas between them."""
    return [host for url in urls.split(",") if (host := urlsplit(url).hostname) is not None]


def address(text: str, option: str) -> tuple[str, int]:
    """Host and port of what was given with an option. Raises StartError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise StartError(f"{option} is {text!r}: expected HOST:PORT, such as 127.0.0.1:8470")
    return host.strip("[]"), int(port)


def join(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
