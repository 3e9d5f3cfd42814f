"""Do the next items' work in a thread while the current one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

import torch

Item = TypeVar("Item")

_END = object()


def ahead(items: Iterable[Item], depth: int = 2) -> Generator[Item, None, None]:
    """The items, in their order, made in one thread of its own up to `depth` ahead.

    An error of the source is raised here in its turn. Close the generator (`contextlib.closing`) when
    leaving early: that ends the thread.

    Args:
        items: What is made; touched by that thread alone.
        depth: Items that may wait.
    """
    waiting: queue.Queue[object] = queue.Queue(depth)
    left = threading.Event()

    def put(item: object) -> bool:
        while not left.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        # One thread for its operations, whatever the network has: this count is each thread's own.
        torch.set_num_threads(1)
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # whatever it is, it belongs to the one who reads
            put(error)
        else:
            put(_END)

    worker = threading.Thread(target=work, name="batches", daemon=True)
    worker.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        left.set()
        worker.join()
