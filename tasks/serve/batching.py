"""Inference off the event loop: one thread answers what has gathered while it was busy."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.serve import wire
from tasks.serve.versions import LoadedVersion

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(eq=False)
class _Job:
    """One request's inputs on their way through the model."""

    loaded: LoadedVersion
    inputs: list[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[NDArray[Any]]
    abandoned: bool = field(default=False)


class Batcher:
    """Joins waiting requests into batches without ever waiting for more to come.

    While the model works on one batch the next one gathers, so that a lone request sees no delay and
    many at once share the model's cost per call. A request that its client or its deadline has given
    up on is dropped before it reaches the model.

    Args:
        max_rows: Most inputs that go through the model together; a single larger request goes alone.
    """

    def __init__(self, max_rows: int = 256) -> None:
        self.max_rows = max_rows
        self._jobs: deque[_Job] = deque()
        self._arrived = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    async def predict(self, loaded: LoadedVersion, inputs: list[Any]) -> NDArray[Any]:
        """Scores of one request's inputs, `[n, classes]` or `[n]`.

        Cancelling the call takes the request out of the queue.
        """
        loop = asyncio.get_running_loop()
        job = _Job(loaded, inputs, loop, loop.create_future())
        with self._arrived:
            self._jobs.append(job)
            self._arrived.notify()
        try:
            return await job.future
        except asyncio.CancelledError:
            job.abandoned = True
            raise

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        with self._arrived:
            self._stopping = True
            self._arrived.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._arrived:
                while not self._jobs and not self._stopping:
                    self._arrived.wait()
                if not self._jobs:
                    return
                jobs = self._take()
            if jobs:
                self._answer(jobs)

    def _take(self) -> list[_Job]:
        """The waiting requests that may go together: of one version, in order, up to `max_rows`."""
        taken: list[_Job] = []
        rows = 0
        while self._jobs:
            job = self._jobs[0]
            if job.abandoned:
                self._jobs.popleft()
                continue
            if taken and (job.loaded is not taken[0].loaded or rows + len(job.inputs) > self.max_rows):
                break
            taken.append(self._jobs.popleft())
            rows += len(job.inputs)
        return taken

    def _answer(self, jobs: list[_Job]) -> None:
        inputs = jobs[0].inputs if len(jobs) == 1 else [row for job in jobs for row in job.inputs]
        try:
            scores = _predict(jobs[0].loaded, inputs)
        except Exception as error:  # handed to the request that caused it
            if len(jobs) == 1:
                _settle(jobs[0], None, error)
                return
            # One request's inputs must not fail the others that happened to share its batch.
            for job in jobs:
                self._answer([job])
            return
        start = 0
        for job in jobs:
            end = start + len(job.inputs)
            _settle(job, scores[start:end], None)
            start = end


def _predict(loaded: LoadedVersion, inputs: list[Any]) -> NDArray[Any]:
    scores = np.asarray(loaded.predict(inputs))
    wrong = wire.check_scores(scores, len(inputs), loaded.signature)
    if wrong:
        raise wire.Refusal(
            422,
            f"the model cannot answer this input: {wrong}",
            where=f"{loaded.model} v{loaded.version}",
            mend="check that the values are in the range of the training data",
        )
    return scores


def _settle(job: _Job, scores: NDArray[Any] | None, error: Exception | None) -> None:
    def on_loop() -> None:
        if job.future.done():
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            assert scores is not None
            job.future.set_result(scores)

    if not job.loop.is_closed():
        job.loop.call_soon_threadsafe(on_loop)
