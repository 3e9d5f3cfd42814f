"""`trainyard run`: start the main job on datasets, show how it goes, and say where the result is."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import httpx
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.settings import Settings
from infra.terminal import Markdown, console
from tasks.errors import NotFound, Unavailable
from tasks.workspace.jobs import AWAITING_SLOTS

FLOW = "retrain"
SUMMARY_KEY = "retrain-summary"
_FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_CHECK_S = 0.5
_PATIENCE_S = 180.0
"""How long Prefect may take to answer: on SQLite and a busy machine it stands still for a minute."""
_LATE_S = 60.0
_LATE = "the run is still waiting for the worker; see `trainyard status`"
_COMMAND = re.compile(r"```bash\n(.*?)\n```", re.DOTALL)
_STYLES = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "PENDING": "yellow",
    "SCHEDULED": "yellow",
    "PAUSED": "yellow",
    "FAILED": "red",
    "CRASHED": "red",
    "CANCELLING": "yellow",
    "CANCELLED": "yellow",
}


class Api:
    """What this command asks of Prefect's API."""

    def __init__(self, settings: Settings) -> None:
        self._client = httpx.Client(base_url=settings.prefect_api_url, timeout=30, trust_env=False)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request, again where the server is being restarted or is busy.

        Raises:
            NotFound: There is no such thing.
            Unavailable: The server refuses, or does not come back.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                answer = self._client.request(method, path, json=body)
                if answer.status_code != 503 or time.monotonic() > deadline:
                    break
                time.sleep(_CHECK_S)  # its database is busy
            except httpx.TransportError as error:
                if (
                    method == "POST"
                    and path.endswith("create_flow_run")
                    and not isinstance(error, httpx.ConnectError)
                ):
                    raise Unavailable(
                        "Prefect's API went away while the run was being created",
                        where=path,
                        mend="run the same command again; it follows the run, if there is one",
                    ) from error
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "Prefect's API does not answer", where=path, mend="see `trainyard status`"
                    ) from error
                time.sleep(_CHECK_S)
        if answer.status_code == 404:
            raise NotFound(f"Prefect does not know {path}")
        if answer.is_error:
            raise Unavailable(
                f"Prefect refuses: {_reason(answer)}",
                where=path,
                mend="give the parameters in deployments/prefect.yaml, or start it in the Prefect pages, "
                "where a form asks for them"
                if answer.status_code < 500
                else "see `trainyard logs prefect`",
            )
        return answer.json() if answer.content else None

    def deployment(self, dataset: str) -> dict[str, Any]:
        """The main job's deployment for a dataset; NotFound names those that exist."""
        try:
            found: dict[str, Any] = self.ask("GET", f"/deployments/name/{FLOW}/{dataset}")
        except NotFound:
            body = {"flows": {"name": {"any_": [FLOW]}}}
            known = sorted(d["name"] for d in self.ask("POST", "/deployments/filter", body))
            raise NotFound(
                f"There is no main job for {dataset}",
                allowed=", ".join(known),
                mend="choose one of these, or declare yours in deployments/prefect.yaml",
            ) from None
        return found

    def unfinished(self, deployment: dict[str, Any]) -> dict[str, Any] | None:
        """A run of the deployment, with its own parameters, that is under way or due already."""
        body = {
            "flow_runs": {
                "deployment_id": {"any_": [deployment["id"]]},
                "state": {"type": {"any_": ["RUNNING", "PENDING", "SCHEDULED", "PAUSED"]}},
                "expected_start_time": {"before_": datetime.now(UTC).isoformat()},
            },
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": 200,
        }
        runs: list[dict[str, Any]] = self.ask("POST", "/flow_runs/filter", body)
        return next(
            (
                run
                for run in runs
                if run["parameters"] == deployment["parameters"]
                and (run["state"]["type"] != "PAUSED" or run["state"]["name"] == AWAITING_SLOTS)  # no draft
            ),
            None,
        )

    def steps(self, run_id: str) -> list[dict[str, Any]]:
        """The task runs of a run, in the order in which they started."""
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 200}
        runs: list[dict[str, Any]] = self.ask("POST", "/task_runs/filter", body)
        return sorted(runs, key=lambda run: run["start_time"] or run["expected_start_time"] or run["created"])

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "CREATED_DESC", "limit": 200}
        return list(self.ask("POST", "/artifacts/filter", body))

    def cancel(self, run_id: str) -> None:
        state = {
            "state": {"type": "CANCELLING", "name": "Cancelling", "message": "Interrupted in the terminal."}
        }
        self.ask("POST", f"/flow_runs/{run_id}/set_state", state)


def run_all(settings: Settings, datasets: list[str]) -> int:
    """Run the main job on each dataset in turn; returns the exit code."""
    api = Api(settings)
    deployments = [(dataset, api.deployment(dataset)) for dataset in dict.fromkeys(datasets)]
    code = 0
    for dataset, deployment in deployments:
        run = api.unfinished(deployment)
        if run is None:
            body = {"state": {"type": "SCHEDULED", "message": "Started from the terminal."}}
            run = api.ask("POST", f"/deployments/{deployment['id']}/create_flow_run", body)
            console.print(f"\n[bold]{dataset}[/]: run {run['name']}, {_page(settings, run)}", soft_wrap=True)
        else:
            console.print(
                f"\n[bold]{dataset}[/]: run {run['name']} is in progress already; following it, "
                f"{_page(settings, run)}",
                soft_wrap=True,
            )
        try:
            run = _follow(api, run["id"], dataset)
        except KeyboardInterrupt:
            _interrupt(api, run["id"], dataset)
            return 130
        if run["state"]["type"] == "COMPLETED":
            _show_result(settings, api, run, dataset)
        else:
            _show_failure(settings, api, run, dataset)
            code = 1
    return code


def _follow(api: Api, run_id: str, dataset: str) -> dict[str, Any]:
    """Show a run until it has ended; returns it."""
    shown: dict[str, str] = {}
    told = ""
    with Live(console=console, refresh_per_second=4, transient=False, auto_refresh=False) as live:
        while True:
            run: dict[str, Any] = api.ask("GET", f"/flow_runs/{run_id}")
            steps = api.steps(run_id)
            final = run["state"]["type"] in _FINAL
            if console.is_terminal:
                live.update(_picture(run, steps, api.artifacts(run_id), dataset), refresh=True)
            else:
                _print_changes(steps, shown)
                if (waits_for := _waits_for(run)) != told and waits_for:
                    console.print(f"  {waits_for}", markup=False)
                told = waits_for
            if final:
                return run
            time.sleep(_CHECK_S)


def _picture(
    run: dict[str, Any], steps: list[dict[str, Any]], artifacts: list[dict[str, Any]], dataset: str
) -> Group:
    table = Table.grid(padding=(0, 2))
    state = run["state"]
    elapsed_s = run["total_run_time"] if state["type"] in _FINAL else run["estimated_run_time"] or 0.0
    table.add_row("", f"[bold]{dataset}[/]", _styled(state), f"{elapsed_s:.0f} s")
    progress = {a["task_run_id"]: a["data"] for a in reversed(artifacts) if a["type"] == "progress"}
    for step in steps:
        kind = (step["state"] or {}).get("type", "PENDING")
        mark = {"COMPLETED": "[green]●[/]", "RUNNING": "[cyan]◐[/]"}.get(kind, "○")
        mark = "[red]✗[/]" if kind in ("FAILED", "CRASHED") else mark
        share = progress.get(step["id"])
        note = f" {float(share):.0f} %" if share is not None and kind == "RUNNING" else ""
        table.add_row(mark, step["name"], f"{_styled(step['state'])}{note}", f"{_step_s(step):.1f} s")
    waits_for = _waits_for(run)
    return Group(table, Text(waits_for)) if waits_for else Group(table)


def _print_changes(steps: list[dict[str, Any]], shown: dict[str, str]) -> None:
    for step in steps:
        name = (step["state"] or {}).get("name", "Pending")
        if shown.get(step["id"]) != name and name != "Pending":
            shown[step["id"]] = name
            console.print(f"  {step['name']}: {name.lower()} ({_step_s(step):.1f} s)", soft_wrap=True)


def _interrupt(api: Api, run_id: str, dataset: str) -> None:
    console.print(f"\nCancelling the run of {dataset} … (Ctrl-C again leaves at once)")
    try:
        api.cancel(run_id)
        run = _follow(api, run_id, dataset)
        console.print(
            f"The run of {dataset} has ended as {run['state']['name']}. Running again continues from it."
        )
    except KeyboardInterrupt:
        console.print("Left; the run is being cancelled by the worker.")


def _show_result(settings: Settings, api: Api, run: dict[str, Any], dataset: str) -> None:
    summary = next((a for a in api.artifacts(run["id"]) if a["key"] == SUMMARY_KEY), None)
    # Commands, every second part, are printed as they are: wrapped to the window, they cannot be pasted.
    for number, part in enumerate(_COMMAND.split(str(summary["data"]))) if summary else []:
        if number % 2:
            console.print(f"\n{part}\n", soft_wrap=True, markup=False, highlight=False)
        else:
            console.print(Markdown(part, hyperlinks=False))
    console.print(
        f"\n{dataset}: done in {run['total_run_time']:.0f} s. Pages: {_page(settings, run)}", soft_wrap=True
    )


def _show_failure(settings: Settings, api: Api, run: dict[str, Any], dataset: str) -> None:
    state = run["state"]
    bad = [s for s in api.steps(run["id"]) if (s["state"] or {}).get("type") in ("FAILED", "CRASHED")]
    console.print(f"\n[red bold]{dataset}: {state['name'].lower()}[/]")
    if bad and state["type"] == "FAILED":
        console.print(f"Step: {bad[-1]['name']}\n{bad[-1]['state']['message']}", soft_wrap=True, markup=False)
    else:
        console.print(str(state["message"] or ""), soft_wrap=True, markup=False)
    if state["type"] == "CRASHED":
        console.print(
            "The process of the run was ended from outside. "
            "Running again continues from the steps that it finished."
        )
    if state["type"] == "CANCELLED":
        console.print("The run was cancelled. Running again continues from the steps that it finished.")
    console.print(f"Log and steps: {_page(settings, run)}", soft_wrap=True)


def _page(settings: Settings, run: dict[str, Any]) -> str:
    return f"{settings.prefect_url}/runs/flow-run/{run['id']}"


def _styled(state: dict[str, Any] | None) -> str:
    if not state:
        return "waiting"
    style = _STYLES.get(state["type"], "white")
    return f"[{style}]{state['name'].lower()}[/]"


def _step_s(step: dict[str, Any]) -> float:
    if (step["state"] or {}).get("type") == "RUNNING" and step["start_time"]:
        return _age_s(step["start_time"])
    return float(step["total_run_time"] or 0.0)


def _waits_for(run: dict[str, Any]) -> str:
    """What a run waits for before it starts, where that is worth a line."""
    if run["state"]["type"] == "PAUSED":
        return str(run["state"]["message"] or "")
    late = run["state"]["type"] == "SCHEDULED" and _age_s(run["expected_start_time"]) > _LATE_S
    return _LATE if late else ""


def _reason(answer: httpx.Response) -> str:
    """What Prefect says about a refusal; its raw answer where it says it in another form."""
    try:
        return str(answer.json()["detail"])[:500]
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]


def _age_s(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment.replace("Z", "+00:00"))).total_seconds()
