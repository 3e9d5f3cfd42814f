"""Drafts and groups with a live worker: a draft is left alone, survives a restart and starts when asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.local_stack import LocalStack, wait_until

pytestmark = pytest.mark.slow

TRAINING = {"algorithm": "logistic_regression"}
IRIS = {"name": "iris"}


@pytest.fixture(scope="module")
def trained_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack of its own, since it is restarted, with iris ready to be trained on."""
    stack = LocalStack(tmp_path_factory.mktemp("trainings") / "home")
    try:
        stack.up()
        data = {"source": "sample:iris", "name": "iris", "problem": "table-classification"}
        _done(stack, "ingest/step", data=data)
        _done(stack, "preprocess/step", dataset={"name": "iris", "version": "latest-raw"})
        yield stack
    finally:
        stack.down()


def _done(stack: LocalStack, deployment: str, **parameters: Any) -> str:
    run_id = stack.create_run(deployment, **parameters)
    state = stack.wait_final(run_id, 300)
    assert state["type"] == "COMPLETED", f"{state['message']}{stack.tails()}"
    return run_id


def _tagged(stack: LocalStack, tag: str) -> list[dict[str, Any]]:
    body = {"flow_runs": {"tags": {"all_": [tag]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return list(stack.call("POST", "/flow_runs/filter", body))


def _drafts(stack: LocalStack) -> list[dict[str, Any]]:
    body = {"flow_runs": {"state": {"name": {"any_": ["Draft"]}}}}
    return list(stack.call("POST", "/flow_runs/filter", body))


def test_a_draft_is_left_alone_survives_a_restart_and_is_resumed_from_its_page(
    trained_stack: LocalStack,
) -> None:
    stack = trained_stack
    _done(stack, "draft-training/step", dataset=IRIS, training=TRAINING, draft={"name": "later"})
    (draft,) = _drafts(stack)
    _done(stack, "list-trainings/step")  # the worker has polled, and run what came after the draft
    assert [one["id"] for one in _drafts(stack)] == [draft["id"]]
    stack.down()
    stack.up()
    assert [one["id"] for one in _drafts(stack)] == [draft["id"]]
    stack.call("POST", f"/flow_runs/{draft['id']}/resume", {})  # what the button Resume asks for
    assert stack.wait_final(draft["id"], 300)["type"] == "COMPLETED"


def test_a_group_runs_in_its_order_and_a_stopped_one_starts_nothing_more(trained_stack: LocalStack) -> None:
    stack = trained_stack
    grid = {"seed": [7, 8, 9]}
    _done(stack, "start-group/step", group={"name": "three", "grid": grid}, dataset=IRIS, training=TRAINING)
    for run in _tagged(stack, "group:three"):
        assert stack.wait_final(run["id"], 300)["type"] == "COMPLETED"
    ended = _tagged(stack, "group:three")
    assert [one["parameters"]["training"]["seed"] for one in ended] == grid["seed"]
    starts = [one["start_time"] for one in ended]
    assert starts == sorted(starts)

    many = {"seed": list(range(30))}
    _done(stack, "start-group/step", group={"name": "many", "grid": many}, dataset=IRIS, training=TRAINING)
    wait_until(lambda: any(one["start_time"] for one in _tagged(stack, "group:many")), 120)
    _done(stack, "stop-group/step", group="many")
    for run in _tagged(stack, "group:many"):
        stack.wait_final(run["id"], 120)
    states = [one["state_type"] for one in _tagged(stack, "group:many")]
    assert len(states) == 30
    assert states.count("CANCELLED") > 15
