"""The code blocks of a Markdown page, and what a test does with each.

An HTML comment right before a block says how it is run:

- ``<!-- file: NAME -->``: written to NAME; a later block uses it.
- ``<!-- background: TEXT -->``: started, and the page goes on once it has printed TEXT; ended with the page.
- ``<!-- exit: N -->``: a shell block that must end with exit code N.
- ``<!-- in CI -->``: too big for a test; its lines must stand in .ci/run.

Without one, ``sh`` runs in a shell, ``lua`` as a scenario that must pass, ``python`` as a program. ``text`` is output,
not code. Any other block, and a YAML block without a file name, is a mistake in the page.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:^<!-- (?P<directive>[a-zA-Z ]+?)(?:: (?P<value>[^\n]*?))? -->\n+)?"
    r"^```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_INDENTED = re.compile(r"^[ \t>]+```", re.MULTILINE)
_DIRECTIVES = {None, "file", "background", "exit", "in CI"}


@dataclass(frozen=True)
class Block:
    """A code block: where it stands, its language, its text, and the directive before it."""

    page: Path
    line: int
    language: str
    code: str
    directive: str | None
    value: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page that people read, decision records included."""
    return [
        ROOT / "README.md",
        *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "generated"),
    ]


def blocks(page: Path) -> Iterator[Block]:
    """The page's blocks that are code. Raises ValueError for one that no test could run."""
    text = page.read_text()
    if _INDENTED.search(text):
        raise ValueError(f"{page}: an indented code block would not be run; move it to the margin")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        block = Block(page, line, match["language"], match["code"], match["directive"], match["value"] or "")
        if block.language == "text" or block.language.startswith("{"):
            continue
        if block.directive not in _DIRECTIVES:
            raise ValueError(f"{block}: unknown directive {block.directive!r}")
        if block.directive is None and block.language not in ("sh", "lua", "python"):
            raise ValueError(
                f"{block}: nothing runs this {block.language or 'unnamed'} block; name its file, or mark it as text"
            )
        yield block
