"""Files that survive a power cut: either the old content or the new, never half of it."""

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Writes ``content`` durably: when this returns, it is on the disk. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
