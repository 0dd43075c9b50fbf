"""The files of a simulated ECU, and transfers to and from them (RequestFileTransfer, 0x38)."""

from dataclasses import dataclass, field

from ecu_adapters.service_settings import Files


class FileStore:
    """Files by path. Folders are nothing but the part of a path before the last slash."""

    def __init__(self, settings: Files) -> None:
        self.files: dict[str, bytes] = dict(settings.content)
        self._max_total = settings.max_total

    def room_for(self, path: str, size: int) -> bool:
        """Whether a file of that size fits, instead of the one that is there."""
        others = sum(len(content) for other, content in self.files.items() if other != path)
        return others + size <= self._max_total

    def is_folder(self, path: str) -> bool:
        """Whether files lie in it; the empty path and "/" are the top."""
        return path in ("", "/") or any(other.startswith(path.rstrip("/") + "/") for other in self.files)

    def listing(self, path: str) -> bytes:
        """The paths of the files in a folder, one a line."""
        prefix = "" if path in ("", "/") else path.rstrip("/") + "/"
        names = sorted(other for other in self.files if other.startswith(prefix))
        return "".join(f"{name}\n" for name in names).encode("ascii")


@dataclass(slots=True)
class FileTransfer:
    """A file on its way in (written when it is complete), or bytes on their way out."""

    store: FileStore
    path: str
    max_block: int
    incoming: bool
    size: int
    content: bytearray = field(default_factory=bytearray)
    """What has arrived, or everything that goes out."""
    counter: int = 0
    begun: bool = False
    _done: int = 0
    _last: bytes = b""

    @property
    def left(self) -> int:
        """Bytes to come."""
        return self.size - self._done

    @property
    def moved(self) -> bytes:
        """What was transferred so far."""
        return bytes(self.content[: self._done])

    def accept(self, data: bytes) -> bytes:
        """Takes the next block, or gives the next one."""
        if self.incoming:
            self.content += data
            self._done += len(data)
        else:
            self._last = bytes(self.content[self._done : self._done + self.max_block - 2])
            self._done += len(self._last)
        self.begun = True
        self.counter = (self.counter + 1) & 0xFF
        return self._last

    def repeated(self) -> bytes:
        """The answer to the last block once more."""
        return self._last

    def finish(self) -> None:
        """The file is there now."""
        if self.incoming:
            self.store.files[self.path] = bytes(self.content)
