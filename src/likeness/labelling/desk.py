"""One thread owns the ballots; everyone who waits shares one flush of the disk, and hears back after it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from likeness.core.errors import LikenessError
from likeness.labelling.ballots import Ballots

T = TypeVar("T")
_Ask = tuple[Callable[[Ballots], Any], Future[Any]]


class Desk:
    """Runs operations in the order in which they came, many to a commit (group commit).

    A flush takes milliseconds, so a server that flushed for each vote would make twenty voters wait for twenty. While
    one flush runs, the next batch gathers: nobody waits for more than two.
    """

    def __init__(self, ballots: Ballots) -> None:
        self.ballots = ballots
        self._asks: SimpleQueue[_Ask | None] = SimpleQueue()
        self._stale = False
        self._thread = Thread(target=self._work, name="ballots", daemon=True)
        self._thread.start()

    def ask(self, operation: Callable[[Ballots], T]) -> Future[T]:
        """What ``operation`` returns, once its changes are durable. One that raises must have changed nothing."""
        future: Future[T] = Future()
        self._asks.put((operation, future))
        return future

    def close(self) -> None:
        """Serve what was asked, then stop."""
        self._asks.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            batch = [self._asks.get()]
            while True:
                try:
                    batch.append(self._asks.get_nowait())
                except Empty:
                    break
            going = None not in batch
            self._serve([ask for ask in batch if ask is not None and ask[1].set_running_or_notify_cancel()])

    def _serve(self, batch: list[_Ask]) -> None:
        answers: list[Any] = []
        try:
            if self._stale:
                self.ballots.load()
                self._stale = False
            for operation, _ in batch:
                try:
                    answers.append(operation(self.ballots))
                except LikenessError as refusal:
                    answers.append(refusal)
            self.ballots.record.commit()
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, as from any executor
            self._stale = True  # memory is ahead of the disk, on which nothing of this batch happened
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
