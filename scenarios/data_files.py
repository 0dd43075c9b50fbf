"""Files that came with a run: a log to replay, an image to flash. A script knows them by name, never by content."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from labd.client import LabError
from scenarios.sandbox import ScenarioFault

_LISTED = 20


class DataFiles:
    """The data files of one run, fetched when the script first names them, into ``folder``, which goes with the run.

    ``sizes`` is in bytes, by path relative to the script. ``fetch`` raises LabError. Used by one thread.
    """

    def __init__(self, sizes: Mapping[str, int], fetch: Callable[[str], bytes], folder: Path) -> None:
        self._names = {PurePosixPath(name): name for name in sizes}
        self._fetch = fetch
        self._folder = folder
        self._paths: dict[PurePosixPath, Path] = {}

    def path(self, name: object) -> Path:
        """Where the file is, with its own suffix. Raises ScenarioFault when no such file came with the run."""
        if not isinstance(name, str):
            raise ScenarioFault("invalid", f"file is {name!r}; it must be the name of a file that came with the run")
        wanted = PurePosixPath(name)
        if wanted not in self._names:
            raise ScenarioFault("invalid", self._missing(name))
        if wanted not in self._paths:
            self._paths[wanted] = self._fetched(wanted)
        return self._paths[wanted]

    def _fetched(self, wanted: PurePosixPath) -> Path:
        try:
            content = self._fetch(self._names[wanted])
            # Numbered: the folders of its name matter to nobody here.
            path = self._folder / str(len(self._paths)) / wanted.name
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        except LabError as error:
            raise ScenarioFault("lab", f"file {wanted} cannot be fetched: {error}") from error
        except OSError as error:
            raise ScenarioFault("lab", f"file {wanted} cannot be kept beside the run: {error.strerror}") from error
        return path

    def _missing(self, name: str) -> str:
        why = f"no file {name!r} came with this run"
        if not self._names:
            return f"{why}, and no other; give it with: labctl run SCRIPT --file {PurePosixPath(name).name}"
        near = get_close_matches(name, list(map(str, self._names)), 1)
        if near:
            return f"{why}; did you mean {near[0]!r}?"
        listed = sorted(self._names.values())
        more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
        return f"{why}; there are {', '.join(listed[:_LISTED])}{more}"
