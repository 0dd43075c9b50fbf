"""Rest-bus: which messages of a database are to be sent in place of the nodes that are not there, and when.

Times and send types are attributes that the databases of the trade share: GenMsgCycleTime, GenMsgSendType,
GenMsgDelayTime (least time between two frames), GenMsgStartDelayTime, GenSigStartValue, GenSigInactiveValue.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cantools.database.can import Message

from ecu_adapters.cyclic.e2e import Checksum
from ecu_adapters.cyclic.payload import Counter, Recipe
from ecu_adapters.dbc import Database, DatabaseError, SignalValue, can_id, is_fd
from ecu_adapters.yaml_file import nearest


@dataclass(frozen=True, slots=True)
class Behaviour:
    """When a message is sent."""

    period_s: float | None
    on_change: bool = False
    """A frame at once when a value changes."""
    on_write: bool = False
    """A frame at once when a value is set, whether it changes or not."""
    if_active: bool = False
    """The period counts only while a signal differs from its inactive value."""
    gap_s: float = 0.0
    delay_s: float | None = None
    """From the start to the first frame; None: as it suits."""
    inactive: Mapping[str, SignalValue] = field(default_factory=dict)

    def active(self, values: Mapping[str, SignalValue]) -> bool:
        """Whether the period counts while the message carries these values."""
        return not self.if_active or any(values.get(name, value) != value for name, value in self.inactive.items())


@dataclass(frozen=True, slots=True)
class Planned:
    """A message that the rest-bus sends."""

    recipe: Recipe
    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the rest-bus does not send."""

    message: str
    reason: str


@dataclass(slots=True)
class Plan:
    """The whole rest-bus of one bus."""

    messages: list[Planned] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def behaviour(database: Database, name: str) -> Behaviour:
    """When a message is sent, from the database's attributes. Raises DatabaseError for an unknown message."""
    message = database.message(name)
    kind = re.sub(r"[^a-z]", "", (message.send_type or "").lower())
    cycle_s = message.cycle_time / 1000 if message.cycle_time else None
    if_active = "ifactive" in kind
    on_write = "onwrite" in kind
    event = on_write or any(word in kind for word in ("spontan", "event", "onchange", "triggered"))
    # A type that says neither (NoMsgSendType, none at all) is sent as the cycle time says.
    cyclic = "cyclic" in kind.replace("cyclicifactive", "") or if_active or not event
    start = _number(message, "GenMsgStartDelayTime")
    return Behaviour(
        period_s=cycle_s if cyclic else None,
        on_change=event or cycle_s is None,
        on_write=on_write,
        if_active=if_active,
        gap_s=(_number(message, "GenMsgDelayTime") or 0) / 1000,
        delay_s=start / 1000 if start is not None else None,
        inactive=_inactive(database, message) if if_active else {},
    )


def plan(
    database: Database,
    *,
    fd: bool,
    absent: Mapping[str, str],
    except_messages: Mapping[str, str],
    protect: Mapping[str, tuple[Counter | None, Checksum | None]],
    diagnostic_ids: Collection[int] = (),
) -> Plan:
    """The messages of the database in the order of their IDs, each either planned or left out with its reason.

    ``absent`` are nodes whose messages are not sent, ``except_messages`` messages, both with the reason; ``fd`` is
    whether the bus takes CAN FD; ``diagnostic_ids`` belong to ISO-TP. Raises DatabaseError or ValueError for a name
    that the database does not know, and for a counter or checksum that does not fit.
    """
    for node in absent:
        if node not in database.nodes:
            raise DatabaseError(f"unknown node {node!r}; {nearest(node, database.nodes)}")
    for name in (*except_messages, *protect):
        database.message(name)
    made = Plan()
    for message in sorted(database.messages.values(), key=can_id):
        reason = _reason(database, message, fd, absent, except_messages, diagnostic_ids)
        if reason is not None:
            made.left_out.append(LeftOut(message.name, reason))
            continue
        counter, checksum = protect.get(message.name, (None, None))
        try:
            recipe = Recipe.of_message(database, message.name, {}, counter, checksum)
        except (DatabaseError, ValueError) as error:
            if message.name in protect:
                raise
            made.left_out.append(LeftOut(message.name, str(error)))
            continue
        made.messages.append(Planned(recipe, behaviour(database, message.name)))
        pages = _other_pages(database, message, recipe)
        if pages:
            made.left_out.append(LeftOut(message.name, pages))
    return made


def _reason(
    database: Database,
    message: Message,
    fd: bool,
    absent: Mapping[str, str],
    except_messages: Mapping[str, str],
    diagnostic_ids: Collection[int],
) -> str | None:
    """Why a message is not sent; None when it is."""
    if message.name in except_messages:
        return except_messages[message.name]
    for sender in message.senders:
        if sender in absent:
            return absent[sender]
    if database.can_id(message.name) in diagnostic_ids:
        return "its ID carries diagnostics (ISO-TP) with an ECU of the bench"
    for attribute in ("DiagRequest", "DiagResponse", "DiagState"):
        if _flag(message, attribute):
            return f"it carries diagnostics ({attribute})"
    if (message.send_type or "").lower() in ("notused", "not used"):
        return "its send type is NotUsed"
    if message.is_container:
        return "it is a container of other messages"
    if is_fd(message) and not fd:
        return "it takes CAN FD, and the bus is classic"
    return None


def _other_pages(database: Database, message: Message, recipe: Recipe) -> str:
    """What of a multiplexed message is not sent, in words."""
    decoded = database.decode(recipe.frame)
    values = decoded[1] if decoded is not None else {}
    found = []
    for signal in message.signals:
        if signal.is_multiplexer and signal.name in values:
            shown = values[signal.name]
            found.append(f"only the page {signal.name} = {shown} is sent, until a signal of another one is set")
    return "; ".join(found)


def _inactive(database: Database, message: Message) -> dict[str, SignalValue]:
    """The signals' values while nothing is going on: GenSigInactiveValue, or else the start value."""
    decoded = database.decode(database.encode(message.name, {}))
    values = dict(decoded[1]) if decoded is not None else {}
    for signal in message.signals:
        raw = _attribute(signal, "GenSigInactiveValue")
        if isinstance(raw, int | float) and signal.name in values:
            named = signal.raw_to_scaled(int(raw), decode_choices=True)
            values[signal.name] = named if isinstance(named, int | float) else str(named)
    return values


def _attribute(of: object, name: str) -> object:
    attributes = getattr(getattr(of, "dbc", None), "attributes", None) or {}
    return getattr(attributes.get(name), "value", None)


def _number(message: Message, name: str) -> float | None:
    value = _attribute(message, name)
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def _flag(message: Message, name: str) -> bool:
    value = _attribute(message, name)
    return value in (1, "Yes", "yes", True)
