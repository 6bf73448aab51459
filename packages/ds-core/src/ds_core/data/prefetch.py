"""Batches drawn in a thread while the step before is taken."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from ds_core.data.batches import Batches


class Prefetch:
    """The batches of `batches`, the next ones drawn ahead: a `Batches` as well.

    A batch is a function of its index, so it does not matter when it is drawn, or that one is drawn in vain when the
    index jumps. An error is raised where the batch is asked for that has it. The thread starts with the first batch and
    ends at `close()`, or with the `with` block; a batch asked for later starts another.

    It helps where drawing leaves Python's interpreter free: copying and decoding in torch or numpy, reading files.

    Args:
        batches: what to draw from; nobody else should at the same time, unless it may be used from two threads.
        ahead: how many batches wait at most, beside the one being asked for.

    Raises:
        ValueError: `ahead` below 1.
    """

    def __init__(self, batches: Batches, ahead: int = 2) -> None:
        if ahead < 1:
            raise ValueError(f"Prefetch: given ahead={ahead}, expected at least 1")
        self.batches = batches
        self.ahead = ahead
        self._thread: ThreadPoolExecutor | None = None
        self._drawn: dict[int, Future[tuple[Any, Any]]] = {}

    def batch(self, index: int) -> tuple[Any, Any]:
        """Batch `index` of `batches`; those after it are drawn from now on."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        wanted = range(index, index + self.ahead + 1)
        for other in [other for other in self._drawn if other not in wanted]:
            self._drawn.pop(other).cancel()
        for number in wanted:
            if number not in self._drawn:
                self._drawn[number] = self._thread.submit(self.batches.batch, number)
        return self._drawn.pop(index).result()

    def close(self) -> None:
        """End the thread, after the batch that it may be drawing."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._thread = None
        self._drawn.clear()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
