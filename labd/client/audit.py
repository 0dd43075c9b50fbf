"""What may be asked of the audit log."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries; empty and None: all. ``since`` and ``until`` are RFC 3339 text."""

    action: str = ""
    """``noun.verb``, or a noun for all its verbs."""
    subject: str = ""
    actor: str = ""
    team: str = ""
    since: str | None = None
    until: str | None = None
    oldest_first: bool = False

    def params(self) -> dict[str, str]:
        """As the API takes them."""
        chosen = {name: value for name, value in asdict(self).items() if value}
        return {name: "true" if value is True else value for name, value in chosen.items()}
