"""The Kubernetes cluster of ``labctl test``: how commands find it, its TestRuns, and their names while typing."""

import difflib
import functools
import shlex
from collections.abc import Callable
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from labd.cli.exits import ExitCode, Failure
from labd.cli.output import one_line

if TYPE_CHECKING:
    from labd.operator.cluster import Place, TestRuns
    from labd.operator.testrun import TestRun

LOOK_S = 1.0
"""Between two looks at a TestRun that is waited for."""
_PATIENCE_S = 60.0
"""How long the API server may be away while a TestRun is waited for."""
_TAB_S = (1.0, 1.0)
"""How long a Tab may hang when the cluster does not answer."""


class Where:
    """The cluster and the namespace that a command works in."""

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        self._kubeconfig, self._context, self._namespace = kubeconfig, context, namespace

    @functools.cached_property
    def _place(self) -> "Place":
        from labd.operator.cluster import connect

        return connect(self._kubeconfig, self._context)

    @functools.cached_property
    def tests(self) -> "TestRuns":
        """The TestRuns. Raises ClusterError."""
        from labd.operator.cluster import TestRuns

        return TestRuns(self._place)

    @property
    def namespace(self) -> str:
        """The one that is named, or else the kubeconfig's."""
        return self._namespace or self._place.namespace

    @property
    def options(self) -> str:
        """What another command takes to find the same cluster and namespace; empty, or with a blank at its end."""
        given = (("--kubeconfig", self._kubeconfig), ("--context", self._context), ("-n", self._namespace))
        return "".join(f"{option} {shlex.quote(value)} " for option, value in given if value)

    def get(self, name: str) -> "TestRun":
        """One TestRun. Raises Failure when there is none of that name."""
        from labd.operator.cluster import Missing, NotAllowed

        try:
            return self.tests.get(self.namespace, name)
        except Missing as error:
            try:
                names = [one.name for one in self.tests.all(self.namespace)[0]]  # raises NoCrd, if it is that
            except NotAllowed:  # to list them
                names = []
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see labctl test status --all-namespaces"
            text = f"there is no TestRun {name!r} in the namespace {self.namespace!r}{hint}"
            raise Failure(text, ExitCode.REFUSED) from error

    def look(self, test: "TestRun") -> "TestRun":
        """The test as it is now. Raises Failure when it was deleted, ClusterAway when nobody answers for long."""
        from labd.operator.cluster import ClusterAway, Missing

        give_up_at = monotonic() + _PATIENCE_S
        while True:
            try:
                found = self.tests.get(test.namespace, test.name)
            except Missing:
                found = None
            except ClusterAway:
                if monotonic() > give_up_at:
                    raise
                sleep(LOOK_S)
                continue
            if found is None or found.uid != test.uid:
                raise Failure(f"test {test.name!r} was deleted meanwhile", ExitCode.CANCELLED)
            return found

    def names(self) -> dict[str, str]:
        """The tests of the namespace and how they do, asked for in a hurry. Raises ClusterError."""
        from labd.operator.cluster import TestRuns

        tests, _ = TestRuns(self._place, answer_s=_TAB_S).all(self.namespace)
        return {one.name: one.state for one in reversed(tests)}


def where_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds ``--kubeconfig``, ``--context``, ``--namespace``; the command gets them as ``where``. Errors of the cluster
    end it with a line.
    """

    @functools.wraps(command)
    def collect(*, kubeconfig: str | None, context: str | None, namespace: str | None, **others: Any) -> None:
        from labd.operator.cluster import ClusterAway, ClusterError, NotAllowed

        try:
            command(where=Where(kubeconfig, context, namespace), **others)
        except ClusterAway as error:
            raise Failure(one_line(str(error)), ExitCode.UNAVAILABLE) from error
        except NotAllowed as error:
            hint = "what you may do: kubectl auth can-i --list"
            raise Failure(f"{one_line(str(error))} ({hint})", ExitCode.REFUSED) from error
        except ClusterError as error:
            raise Failure(one_line(str(error)), ExitCode.REFUSED) from error

    for option in (
        click.option("-n", "--namespace", metavar="NAME", help="Of the cluster; default: that of the kubeconfig."),
        click.option("--context", metavar="NAME", help="Of the kubeconfig; default: its current one."),
        click.option(
            "--kubeconfig",
            type=click.Path(exists=True, dir_okay=False),
            help="Default: KUBECONFIG, ~/.kube/config, or the cluster around this pod.",
        ),
    ):
        collect = option(collect)
    return collect


def complete_tests(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of TestRuns, the newest first; none when the cluster does not answer."""
    from labd.operator.cluster import ClusterError

    given = (ctx.params.get(name) for name in ("kubeconfig", "context", "namespace"))
    try:
        offers = Where(*given).names()
    except ClusterError:
        return []
    return [CompletionItem(name, help=state) for name, state in offers.items() if name.startswith(incomplete)]
