"""A study's page is kept up to date while it runs: one table and one artifact a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.runtime import flow_run

from blocks.docs_site import DocsSite
from tasks.tune.progress import StudyPage
from tasks.tune.view import Row, StudyView
from tests.helpers.local_stack import wait_until


def _artifacts(run: str) -> dict[str, Any]:
    only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=only)
    assert len({artifact.key for artifact in found}) == len(found)
    return {artifact.key or "": artifact.data for artifact in found}


def test_the_page_follows_the_study_and_shows_the_last_change(tmp_path: Path) -> None:
    rows: list[Row] = []
    docs = DocsSite(folder=str(tmp_path), url="http://127.0.0.1:4300/")

    def look() -> StudyView | None:
        return StudyView("tune mlp", "accuracy", "max", tuple(rows), planned=12) if rows else None

    def add(count: int) -> None:
        rows.extend(
            Row(number, "succeeded", {"rate": 0.1 * number}, number / 20)
            for number in range(len(rows) + 1, count + 1)
        )

    @flow
    def study() -> None:
        run = str(flow_run.id)
        with StudyPage(look, docs, every_s=0.05, weighed_after_s=0.0):
            add(1)
            wait_until(lambda: "study-history" in _artifacts(run))
            add(3)
            wait_until(lambda: "| trial 3 |" in _artifacts(run)["trials"])
            first = _artifacts(run)["study-history"]
            add(12)
        last = _artifacts(run)
        assert "12 of 12 trials ended" in last["trials"]
        assert set(last) == {"trials", "study-history", "study-coordinates", "study-importance"}
        before, after = first.split("?"), last["study-history"].split("?")
        assert before[0] == after[0]
        assert before[1] != after[1], "browsers would keep the old picture"
        picture = tmp_path / after[0].removeprefix("http://127.0.0.1:4300/")
        assert "12 of 12 trials ended" in picture.read_text()

    study()
