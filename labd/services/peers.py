"""What the use cases ask of the other labds on the same database; here, when there are none."""

from typing import Protocol

from labd.model.run import Run
from labd.services.ledger import Effects
from labd.store.unit import Unit


class LeadLost(Exception):
    """Another labd leads now."""


class KeyDiffers(Exception):
    """This labd signs with another key than the lab's."""


class Peers(Protocol):
    """The other labds."""

    @property
    def replica(self) -> str | None:
        """Which one this is; None when there can be no other."""

    @property
    def leads(self) -> bool:
        """Whether this one does what happens by itself when its time has come."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Of the REST APIs of the others that live, as other machines reach them."""

    @property
    def others(self) -> tuple[str, ...]:
        """The names of the others that live."""

    def announce(self, unit: Unit, effects: Effects) -> None:
        """Tells the others what this transaction causes, once it is durable."""

    def confirm_lead(self, unit: Unit) -> None:
        """Raises LeadLost when this labd has been taken for gone meanwhile, and another leads."""

    def take_stall(self, unit: Unit, now: float) -> bool:
        """Whether no labd lived for a while: this transaction has to make up for it."""

    def attach(self, unit: Unit, agent: str, session: str, last_seen: float) -> None:
        """The agent is attached here."""

    def detach(self, unit: Unit, agent: str, session: str) -> None:
        """It is not any more."""

    def has(self, unit: Unit, agent: str, session: str) -> bool:
        """Whether it has not attached elsewhere meanwhile."""

    def sees_to(self, run: Run) -> bool:
        """Whether the run's process is for this labd to start, watch and end, if it is the process executor's."""


class Alone:
    """The only labd: on SQLite, and in most tests."""

    replica: str | None = None
    leads = True
    urls: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def announce(self, unit: Unit, effects: Effects) -> None:
        """See `Peers.announce`."""

    def confirm_lead(self, unit: Unit) -> None:
        """See `Peers.confirm_lead`."""

    def take_stall(self, unit: Unit, now: float) -> bool:
        """See `Peers.take_stall`. Whoever asks has stood still, and there is nobody else."""
        return True

    def attach(self, unit: Unit, agent: str, session: str, last_seen: float) -> None:
        """See `Peers.attach`."""

    def detach(self, unit: Unit, agent: str, session: str) -> None:
        """See `Peers.detach`."""

    def has(self, unit: Unit, agent: str, session: str) -> bool:
        """See `Peers.has`."""
        return True

    def sees_to(self, run: Run) -> bool:
        """See `Peers.sees_to`."""
        return True
