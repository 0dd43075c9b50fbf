"""Which operation of the authorisation table a request is."""

import re

from labd.model.access_table import REST


def find(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    """The operation of a request, as the authorisation table has it, and what the path names."""
    operation = f"{method} {path}"
    if operation in REST and "{" not in path:
        return operation, {}
    for pattern, listed in _PATTERNS.get(method, ()):
        match = pattern.fullmatch(path)
        if match is not None:
            return listed, match.groupdict()
    return None


def _pattern(path: str) -> re.Pattern[str]:
    # A path inside the path, as of a data file, comes last and has slashes; so have names of identity providers.
    text = re.sub(r"\\{(path|member|holder)\\}$", r"(?P<\1>.+)", re.escape(path))
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", text), re.DOTALL)


_PATTERNS: dict[str, list[tuple[re.Pattern[str], str]]] = {}
for _operation in REST:
    _method, _path = _operation.split(" ")
    if "{" in _path:
        _PATTERNS.setdefault(_method, []).append((_pattern(_path), _operation))
