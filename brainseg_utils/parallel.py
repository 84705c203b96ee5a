"""Many cases on several processes, a constant number of them in memory."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from brainseg_utils.errors import BrainsegError

A = TypeVar("A")
R = TypeVar("R")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def default_workers() -> int:
    """The CPUs this process may use, as the operating system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread() -> None:
    """Makes this process compute on one thread: threads that spin against each other cost five to eight times."""
    import sys

    for name in THREAD_SETTINGS:
        os.environ[name] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def imap(function: Callable[[A], R], items: Iterable[A], workers: int | None = None) -> Iterator[R]:
    """Results of `function` over items, in the items' order.

    At most three items a worker are under way, so a cohort of any size streams through in constant memory.

    Args:
        function: a module-level function (it is sent to other processes).
        items: its arguments, picklable.
        workers: processes; 1 computes in this process. Default: `default_workers()`.

    Raises:
        Exception: what `function` raised, when its turn comes.
        BrainsegError: a process died, so that the rest cannot be computed.
    """
    workers = default_workers() if workers is None else workers
    if workers <= 1:
        yield from map(function, items)
        return
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        pending: deque[Future[R]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 3 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise BrainsegError(
            "a worker process ended before its work was done",
            expected=f"{workers} processes, each with memory for one case",
            remedy="use fewer workers; in a script, call it below `if __name__ == '__main__':`",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    """One thread for the work, and one that waits for the parent: killed, it cannot tell its workers to stop."""
    one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
