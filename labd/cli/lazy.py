"""Commands whose modules are imported when they are used: what ``labctl bench ls`` does not need costs it nothing."""

import importlib
from collections.abc import Mapping
from typing import Any, cast

import click


class LazyGroup(click.Group):
    """A group that knows of its ``lazy`` commands only where they are, as ``package.module:attribute`` by name."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in order."""
        return sorted({*self._lazy, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; None when there is none of that name."""
        place = self._lazy.pop(cmd_name, None)
        if place is not None:
            module, _, attribute = place.partition(":")
            self.add_command(cast(click.Command, getattr(importlib.import_module(module), attribute)), cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; of an unknown one, those with a similar name are told."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, None, self.list_commands(ctx), ctx) from None
