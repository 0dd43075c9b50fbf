"""The module env: the variables and secrets of the run's environment."""

from scenarios.bindings.context import Context
from scenarios.sandbox import Function


class EnvBindings:
    """Functions of the module env."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.environment, self.environment_lacks)

    def environment(self) -> dict[str, object]:
        """Values by name."""
        return dict(self._context.assignment["environment"])

    def environment_lacks(self, _name: str) -> str:
        """Why there is no such variable."""
        known = ", ".join(sorted(self._context.assignment["environment"]))
        if known:
            return f"the run's environment has no such variable; it has {known}"
        return "the run was given no environment: name one with 'labctl run --env NAME'"
