"""Sphinx' configuration: Markdown pages, and two reference pages made from the code itself."""

from pathlib import Path

from sphinx.application import Sphinx

project = "labd"
author = "the labd authors"
extensions = ["myst_parser"]
html_theme = "alabaster"
html_theme_options = {"description": "Leases ECU benches, runs Lua scenarios on them", "fixed_sidebar": True}
myst_heading_anchors = 3


def _generate(app: Sphinx) -> None:
    # Imported late: it brings all of labd with it, which only a build needs.
    from docs.generate import write_reference

    write_reference(Path(app.srcdir) / "reference" / "generated")


def setup(app: Sphinx) -> None:
    """Writes the generated pages before Sphinx reads its sources."""
    app.connect("builder-inited", _generate)
