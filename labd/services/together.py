"""Makes one transaction of all that a thread does while it answers one request."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from labd.model.identity import Actor
from labd.services.ledger import Ledger

Opener = Callable[[Actor], AbstractContextManager[Ledger]]
Check = Callable[[Ledger], None]


class Together(threading.local):
    """What the present thread does as one transaction. It begins with the first write, not before."""

    def __init__(self) -> None:
        self._stack: ExitStack | None = None
        self._check: Check | None = None
        self._done = 0
        self._lost = False
        self.ledger: Ledger | None = None
        """Of the transaction, once something was written."""

    @property
    def wanted(self) -> bool:
        """Whether the thread is within `scope`."""
        return self._stack is not None

    @contextmanager
    def scope(self, check: Check | None = None) -> Iterator[None]:
        """Everything within is durable once the block is left, or undone when an exception leaves it.

        ``check`` is called as the transaction begins, before anything is written; what it raises keeps it from that.
        """
        if self._stack is not None:
            raise RuntimeError("a request is one transaction already")
        try:
            with ExitStack() as stack:
                self._stack, self._check, self._done, self._lost = stack, check, 0, False
                yield
                if self._lost:
                    raise RuntimeError("what was done before a failure that was passed over is undone")
        finally:
            self._stack = self._check = self.ledger = None

    @contextmanager
    def part(self, opener: Opener, actor: Actor) -> Iterator[Ledger]:
        """One use case's share of the transaction; an exception undoes it, and those before it."""
        if self._stack is None:
            raise RuntimeError("a share of nothing")
        begins = self.ledger is None
        if self.ledger is None:
            self.ledger = self._stack.enter_context(opener(actor))
        self.ledger.actor = actor
        try:
            if begins and self._check is not None:
                self._check(self.ledger)
            yield self.ledger
        except BaseException as error:
            self.ledger, self._lost = None, self._done > 0
            with ExitStack() as undone:
                undone.push(self._stack.pop_all())
                raise error
        self._done += 1
