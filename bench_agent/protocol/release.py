"""Which release of labd this is, and which ones understand each other: client, labd and agent are one distribution."""

from importlib.metadata import PackageNotFoundError, version

SOURCE = "0+source"


def _installed() -> str:
    try:
        return version("labd")
    except PackageNotFoundError:
        return SOURCE


VERSION = _installed()
"""Of the installed distribution; ``0+source`` in a source tree that is not installed."""


def is_alike(own: str, other: str) -> bool:
    """Whether two releases understand each other: the first two numbers of both are the same.

    One that is not known, of a source tree for example, is given the benefit of the doubt.
    """
    return SOURCE in (own, other) or not own or not other or own.split(".")[:2] == other.split(".")[:2]


def remedy(whose: str, own: str, labd: str) -> str:
    """For people: what is wrong, and what to do where ``whose`` is installed."""
    wanted = ".".join(labd.split(".")[:2])
    return (
        f"{whose} is of version {own}, this labd of {labd}: the first two numbers have to be the same; "
        f"install labd=={wanted}.* there, or bring labd to {own}"
    )
