"""Reading ahead: results of a function of 0, 1, 2, … are computed in threads and come out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Calls ``make(0)``, ``make(1)``, … before they are asked for.

    The threads hold no reference to this object while they wait, so they end with it, and at the exit of the program.

    Args:
        make: must give the same for a number in whichever thread and order it is called.
        workers: threads; 0 computes in the caller, on demand.
        ahead: how many results wait at most (default: one for each worker).
    """

    def __init__(self, make: Callable[[int], T], workers: int = 1, ahead: int | None = None) -> None:
        self._make = make
        self._workers = workers
        self._ahead = (workers if ahead is None else ahead) if workers else 0
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[T]] = deque()
        self._next = 0

    def get(self) -> T:
        """The next result. Whatever ``make`` raises is raised here, and the next call tries the same number again."""
        if not self._workers:
            result = self._make(self._next)
        else:
            self._fill(1)
            try:
                result = self._waiting[0].result()
            except BaseException:
                self.restart(self._next)
                raise
            self._waiting.popleft()
        self._next += 1
        self._fill(self._ahead)
        return result

    def restart(self, number: int) -> None:
        """Forget what was read ahead and go on from a number."""
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._next = number

    def close(self) -> None:
        """End the threads. ``get`` starts them anew."""
        self.restart(self._next)
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _fill(self, count: int) -> None:
        while len(self._waiting) < count:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="read-ahead")
            self._waiting.append(self._pool.submit(self._make, self._next + len(self._waiting)))
