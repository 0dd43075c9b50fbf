"""Whether the programs take the options that they are deployed with."""

import click


def parse(program: click.Command, arguments: list[str]) -> None:
    """Raises click.UsageError for what the program does not know; starts nothing."""
    assert isinstance(program, click.Group)
    command = program.get_command(click.Context(program), arguments[0])
    assert command is not None, arguments[0]
    command.make_context(arguments[0], list(arguments[1:]))
