"""A study as the Prefect UI shows it while it runs. Beside `task.py`, this is where tuning knows Prefect."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from tasks.train.progress import LivePicture
from tasks.tune.figures.figures import FIGURES, figures
from tasks.tune.figures.importance import Importance, importance
from tasks.tune.figures.trial_table import trial_table

if TYPE_CHECKING:
    from blocks.docs_site import DocsSite
    from tasks.tune.view import StudyView

EVERY_S = 5.0
"""Between two pictures of a study, at least."""
WEIGHED_AFTER_S = 30.0
"""Age of a study whose hyperparameters are weighed: before, that would take a large part of its time."""
_SHARE = 0.02
"""Drawing may take this share of the time: the longer one page took, the later comes the next."""
_NOT_WEIGHED = Importance("Which hyperparameters matter is told when the study is older, or has ended.")

_log = logging.getLogger(__name__)


class StudyPage:
    """Shows a study's trials as a table and pictures, by a thread of its own and at a bounded rate.

    The thread looks at the study by itself: whoever runs it spends no time on this, and none of the errors
    here reaches it.

    Args:
        look: Gives the study as it stands; None before it has begun.
        docs: Holds the pictures.
        every_s: Seconds between two pages, at least.
        weighed_after_s: Age of the study at which hyperparameters are weighed.
    """

    def __init__(
        self,
        look: Callable[[], StudyView | None],
        docs: DocsSite,
        every_s: float = EVERY_S,
        weighed_after_s: float = WEIGHED_AFTER_S,
    ) -> None:
        self._look = look
        self._every_s = every_s
        self._weighed_at = time.monotonic() + weighed_after_s
        self._pictures = {key: LivePicture(docs, key) for key in FIGURES}
        self._table: UUID | None = None
        self._version = 0
        self._ended = threading.Event()
        # What is shown belongs to the flow run of whoever made this: its context goes with the thread.
        work = contextvars.copy_context().run
        self._thread = threading.Thread(target=work, args=(self._work,), name="study page", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show what is not shown yet, and end."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        shown: StudyView | None = None
        pause_s = self._every_s / 4  # the first trials are worth seeing soon
        while True:
            ended = self._ended.wait(pause_s)
            began = time.monotonic()
            try:
                view = self._look()
                if view is not None and view != shown:
                    self._show(view)
                    shown = view
            except Exception as error:  # a page that cannot be shown is no reason to end a study
                _log.warning("The study's trials could not be shown: %s", error)
            if ended:
                return
            pause_s = max(self._every_s, (time.monotonic() - began) / _SHARE)

    def _show(self, view: StudyView) -> None:
        found = importance(view) if time.monotonic() >= self._weighed_at else _NOT_WEIGHED
        page, about = trial_table(view, found), "Trials of the study, best first"
        if self._table is None:
            self._table = cast(UUID, create_markdown_artifact(page, key="trials", description=about))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._table, ArtifactUpdate(data=page, description=about))
        self._version += 1
        for key, picture in figures(view, found).items():
            self._pictures[key].show(picture, FIGURES[key], f"version={self._version}")
