"""Locks that a forked child finds free. Floor 4.

A fork copies a lock as it is. When another thread held it, nobody in the child would ever release it, so
the child gets a new one. A lock that the forking thread itself holds stays held: it will release it.
"""

from __future__ import annotations

import os
import threading
import weakref


class Lock:
    """A reentrant lock.

    Attributes:
        depth: how often the thread that holds it has acquired it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner: int | None = None
        self.depth = 0
        _all.add(self)

    def acquire(self, blocking: bool = True) -> bool:
        """Waits for the lock if `blocking`; returns whether this thread holds it now."""
        if not self._lock.acquire(blocking):
            return False
        self._owner = threading.get_ident()
        self.depth += 1
        return True

    def release(self) -> None:
        """Undoes one `acquire` of this thread."""
        self.depth -= 1
        if self.depth == 0:
            self._owner = None
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _after_fork(self) -> None:
        if self._owner != threading.get_ident():
            self._lock = threading.RLock()
            self._owner = None
            self.depth = 0


_all: weakref.WeakSet[Lock] = weakref.WeakSet()


def _free_locks_of_other_threads() -> None:
    for lock in list(_all):
        lock._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks_of_other_threads)
