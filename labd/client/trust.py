"""Which labd is which: authorities that `labctl login --fingerprint` has found to be the right ones.

One file for each URL, in ``labd/authorities`` under XDG_CONFIG_HOME (``~/.config``).
"""

import re
from hashlib import sha256
from pathlib import Path

from labd.client.credentials import credentials_path
from labd.client.errors import LabError
from labd.client.urls import key, split

_SHA256 = re.compile("[0-9a-fA-F]{64}")


def trusted(url: str) -> Path | None:
    """The file of the authority (PEM) that the labd at ``url`` is known by; None when it is not known."""
    return next((path for one in (url, *split(url)) if (path := _path(one)).exists()), None)


def trust(url: str, fingerprint: str) -> None:
    """Knows the lab at ``url`` by the authority with this fingerprint (SHA-256, hexadecimal) from now on.

    One of its labds has to answer. Raises LabError when none does that has it, or it is no fingerprint.
    """
    from bench_agent.protocol.first_contact import FirstContactError, ask, authority

    pin = fingerprint.replace(":", "").strip()
    if not _SHA256.fullmatch(pin):
        raise LabError(f"{fingerprint!r} is no fingerprint: it has 64 hexadecimal digits, colons between them or not")
    unknown: FirstContactError | None = None
    for one in split(url):
        try:
            root = authority(one, pin)
            ask(one, root, "GET", "/version")
            break
        except FirstContactError as error:
            unknown = error
    else:
        raise LabError(str(unknown)) from unknown
    path = _path(url)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(root, "ascii")
    part.replace(path)


def _path(url: str) -> Path:
    return credentials_path().parent / "authorities" / f"{sha256(key(url).encode()).hexdigest()[:32]}.pem"
