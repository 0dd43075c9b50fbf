"""What every command gets: the way to labd, opened when it is first needed."""

import functools
from dataclasses import dataclass

import click

from bench_agent.protocol import tracing
from labd.client import LabClient


@dataclass
class Session:
    """One labctl process."""

    url: str

    @functools.cached_property
    def lab(self) -> LabClient:
        """The client of the labd at `url`. Raises LabError when the URL is none."""
        tracing.adopt_environment()
        return LabClient(self.url)

    def close(self) -> None:
        """Closes the client, if there is one."""
        if "lab" in self.__dict__:
            self.lab.close()


pass_session = click.make_pass_decorator(Session)
