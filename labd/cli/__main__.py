"""``python -m labd.cli`` is labctl."""

from labd.cli.main import main

main(prog_name="labctl")
