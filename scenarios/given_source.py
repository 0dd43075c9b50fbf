"""The scenario as a pod was given it: its script in a file, or all of it in a Git repository that was fetched."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labd.client.types import Assignment
from runners.git_source import TREE, SourceError, read_source
from runners.launch import SCRIPT_VARIABLE, SOURCE_VARIABLE

LUA_FILES_MAX = 2000
"""Lua files in the script's folder of a repository and below, which its ``require`` finds ..."""
LUA_BYTES_MAX = 16 * 1024 * 1024
"""... and their bytes."""


@dataclass(frozen=True, slots=True)
class Repository:
    """What was fetched from Git for a run."""

    commit: str
    folder: Path
    """The script's: files are named relative to it."""

    def read(self, name: str) -> bytes:
        """What is in a file. Raises OSError."""
        return (self.folder / name).read_bytes()


def with_given_source(
    assignment: Assignment, variables: Mapping[str, str] = os.environ
) -> tuple[Assignment, Repository | None]:
    """The assignment with the script and the files that the pod was given, and where they are if they are from Git.

    Raises SourceError when they are not what the run is to execute.
    """
    script, folder = variables.get(SCRIPT_VARIABLE), variables.get(SOURCE_VARIABLE)
    if script:
        if _text(Path(script), script) != assignment["script"]:
            raise SourceError(f"{script} is not the script that was submitted: somebody has changed it in the cluster")
        return assignment, None
    if not folder:
        return assignment, None
    source = read_source(Path(folder))
    root = (Path(folder) / TREE / source.path).parent
    main = root / Path(source.path).name
    lua, data = {}, {}
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        if path.suffix == ".lua" and path != main:
            lua[name] = path
        elif path != main:
            data[name] = path.stat().st_size
    size = sum(path.stat().st_size for path in lua.values())
    if len(lua) > LUA_FILES_MAX or size > LUA_BYTES_MAX:
        have = f"beside {source.path} there are {len(lua)} Lua files of {size} bytes"
        raise SourceError(f"{have}; at most {LUA_FILES_MAX} of {LUA_BYTES_MAX} bytes can be: put it in a folder apart")
    texts = {name: _text(path, name) for name, path in lua.items()}
    given: Assignment = {**assignment, "script": _text(main, source.path), "files": texts, "data_files": data}
    return given, Repository(source.commit, root)


def _files(root: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [path for name in sorted(names) if (path := Path(place, name)).is_file()]
    return found


def _text(file: Path, name: str) -> str:
    try:
        # Bytes first: text mode would turn \r\n inside Lua's long strings into \n.
        return file.read_bytes().decode()
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise SourceError(f"{name} is not UTF-8 text: byte 0x{byte:02X} at offset {error.start}") from error
