"""Which files go up with a script: the Lua files that its ``require`` could find, and those that are named."""

import os
from collections.abc import Iterable
from pathlib import Path

from labd.cli.exits import ExitCode, Failure

MAX_FILES = 256
"""Further files of one run."""
MAX_BYTES = 1024 * 1024
"""Script and further files together."""
MAX_DATA_BYTES = 16 * 1024 * 1024
"""Named files together."""
MAX_ENTRIES = 20_000
"""Directory entries that are looked at: a script in a home directory must not make labctl read the whole disk."""
_INSTEAD = "move the script into a folder of its own, or upload it alone with --no-files"


def read_script(script: Path) -> str:
    """The text of the script. Raises Failure when it cannot be read, is not UTF-8, or is too large."""
    text = _read(script)
    if len(text.encode()) > MAX_BYTES:
        raise Failure(f"{script} is larger than {MAX_BYTES // 1024} KiB, the most that a run takes", ExitCode.USAGE)
    return text


def files_beside(script: Path) -> dict[str, str]:
    """All other ``*.lua`` files in the script's folder and below, by path relative to it, with ``/``.

    Hidden folders and links to folders are left out. Raises Failure beyond `MAX_FILES`, `MAX_BYTES` (the script
    counts) or `MAX_ENTRIES`, and for a file that cannot be read.
    """
    folder = script.parent
    total, seen = script.stat().st_size, 0
    found: dict[str, str] = {}
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        seen += len(folders) + len(names)
        if seen > MAX_ENTRIES:
            raise Failure(f"below {folder} there are more than {MAX_ENTRIES} files; {_INSTEAD}", ExitCode.USAGE)
        for name in sorted(names):
            file = Path(path, name)
            if file.suffix != ".lua" or not file.is_file() or file.samefile(script):
                continue
            if len(found) == MAX_FILES:
                raise Failure(f"below {folder} there are more than {MAX_FILES} *.lua files; {_INSTEAD}", ExitCode.USAGE)
            total += file.stat().st_size
            if total > MAX_BYTES:
                raise Failure(
                    f"the *.lua files below {folder} have more than {MAX_BYTES // 1024} KiB, with {file}; {_INSTEAD}",
                    ExitCode.USAGE,
                )
            found[file.relative_to(folder).as_posix()] = _read(file)
    return found


def data_files(script: Path, named: Iterable[Path]) -> dict[str, bytes]:
    """What is in files that the script names, by path relative to its folder; of those elsewhere, by mere name.

    Raises Failure beyond `MAX_FILES` or `MAX_DATA_BYTES`, for two of one name, and for one that cannot be read.
    """
    folder, total = script.resolve().parent, 0
    found: dict[str, bytes] = {}
    for file in named:
        whole = file.absolute()
        name = whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else file.name
        if name in found:
            raise Failure(f"two files are called {name!r} for the script; rename {file}", ExitCode.USAGE)
        if len(found) == MAX_FILES:
            raise Failure(f"a run takes at most {MAX_FILES} files", ExitCode.USAGE)
        total += file.stat().st_size
        if total > MAX_DATA_BYTES:
            raise Failure(
                f"the files have more than {MAX_DATA_BYTES // 2**20} MiB, with {file}, the most that a run takes",
                ExitCode.USAGE,
            )
        try:
            found[name] = file.read_bytes()
        except OSError as error:
            raise Failure(f"{file} cannot be read: {error.strerror}", ExitCode.USAGE) from error
    return found


def _read(file: Path) -> str:
    try:
        # Bytes first: text mode would turn \r\n inside Lua's long strings into \n.
        return file.read_bytes().decode()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}", ExitCode.USAGE) from error
    except UnicodeDecodeError as error:
        raise Failure(
            f"{file} is not UTF-8 text: byte 0x{error.object[error.start]:02X} at offset {error.start}", ExitCode.USAGE
        ) from error
