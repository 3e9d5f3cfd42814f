"""Prefect tasks of templates: deployments with everything fixed but the data."""

from __future__ import annotations

from typing import Any, cast

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.urls import url_for

from blocks.mlflow_server import MlflowServer
from tasks.containers.task import image_variables
from tasks.data.config import IngestConfig
from tasks.data.storage.access import user_of
from tasks.data.task import asking_user, open_store
from tasks.errors import NotAllowed, NotFound
from tasks.refs import USER_TAG, DatasetRef, Problem
from tasks.templates.config import TemplateConfig, TemplateData
from tasks.train.pages import run_page
from tasks.trainings.tags import FROM_RUN_TAG, PROBLEM_TAG, TEMPLATE_TAG
from tasks.trainings.task import (
    TEMPLATE_FLOW,
    find_templates,
    job_variables_of,
    read_run,
    require_own,
    train_parameters,
)

TRAIN = "train/step"
"""The deployment that trains: templates run where it does."""


@task(name="save template", task_run_name="save template {config.name}")
def save_template(config: TemplateConfig, flow: Flow[..., Any], site: str = "local") -> str:
    """Make a finished training a deployment whose form asks for the data alone; returns its name.

    Args:
        config: The training, and what the template is called.
        flow: The flow that runs templates.
        site: Which set of blocks to use.

    Raises:
        NotFound: There is no such training, its dataset is gone, or nothing says where trainings run.
        InvalidSettings: A template cannot repeat it, or no image is run where trainings are.
        NotAllowed: A template of this name is there.
    """
    from tasks.templates import template

    server = cast(MlflowServer, MlflowServer.load(site))
    server.client()
    run = read_run(config.training, site)
    user = asking_user()
    with get_client(sync_client=True) as client:
        there = _template(client, config.name)
        if there is not None:
            if not config.replace:
                own = user_of(there.tags) == user
                raise NotAllowed(
                    f"There is a template {config.name}" + ("" if own else f" of {user_of(there.tags)}"),
                    where="template",
                    mend="choose another name" + (", or set replace" if own else ""),
                )
            require_own(there, user, "replace")
        where = _place(client)
        image = image_variables(client, where, config.image, job_variables_of(client, run))
        settings = train_parameters(run, site)["training"]
        made = template.made_from(run, settings, open_store(site))
        page = run_page(server.tracking_uri, run.experiment_id, run.run_id)
        about = template.described(run, made, page)
        schema = parameter_schema(flow).model_dump_for_openapi()
        schema["properties"] = {"data": schema["properties"]["data"]}  # the only thing to fill in
        schema["required"] = ["data"]
        client.create_deployment(
            flow_id=client.create_flow_from_name(flow.name),
            name=config.name,
            entrypoint=f"{flow.fn.__module__}.{flow.fn.__name__}",
            parameters={**made.model_dump(mode="json"), "site": site},
            parameter_openapi_schema=schema,
            enforce_parameter_schema=True,
            description="\n\n".join(filter(None, [config.description, about])),
            tags=[TEMPLATE_TAG, PROBLEM_TAG + made.problem.value, FROM_RUN_TAG + run.run_id, USER_TAG + user],
            work_pool_name=where.work_pool_name,
            work_queue_name=where.work_queue_name,
            job_variables={**where.job_variables, **image},
            pull_steps=where.pull_steps or [],
        )
    name = f"{TEMPLATE_FLOW}/{config.name}"
    create_markdown_artifact(
        f"# {config.name}\n\n{about}\n\nRun it: the deployment `{name}` asks for the data alone.",
        key="template",
        description=f"Template {config.name}",
    )
    return name


@task(name="delete template", task_run_name="delete template {name}")
def delete_template(name: str) -> None:
    """Delete a template of one's own; trainings that it made stay.

    Raises:
        NotFound: There is none.
        NotAllowed: It is somebody else's.
    """
    with get_client(sync_client=True) as client:
        there = _template(client, name)
        if there is None:
            known = ", ".join(sorted(one.name for one in find_templates(client))) or "none is there yet"
            raise NotFound(f"There is no template {name}", allowed=known)
        require_own(there, asking_user(), "delete")
        client.delete_deployment(there.id)


@task(name="list templates")
def list_templates() -> list[dict[str, str]]:
    """List templates, and publish the list as the artifact `templates`."""
    from tasks.markdown import cell, link, table
    from tasks.templates.template import trained_by
    from tasks.trainings.listing import value_of

    with get_client(sync_client=True) as client:
        found = sorted(find_templates(client), key=lambda one: one.name)
    lines = [
        {
            "template": one.name,
            "problem": value_of(one.tags, PROBLEM_TAG),
            "algorithm": trained_by(one.parameters["training"]),
            "steps": " → ".join(step["method"] for step in one.parameters["preprocessing"]["steps"]),
            "from run": value_of(one.tags, FROM_RUN_TAG),
            "user": value_of(one.tags, USER_TAG),
            "made": one.created.strftime("%Y-%m-%d %H:%M") if one.created else "",
            "page": url_for("deployment", one.id) or "",
        }
        for one in found
    ]
    shown = [
        [
            link(line["template"], line["page"]),
            *(cell(line[key]) for key in ("problem", "algorithm", "steps")),
            f"`{line['from run']}`",
            *(cell(line[key]) for key in ("user", "made")),
        ]
        for line in lines
    ]
    head = ["template", "problem", "algorithm", "steps", "from run", "user", "made"]
    create_markdown_artifact(
        table(head, shown) if shown else "No template is saved yet.",
        key="templates",
        description=f"{len(lines)} templates",
    )
    return lines


@task(name="ingestion for template", task_run_name="data of {data.name}")
def template_source(data: TemplateData, problem: Problem) -> IngestConfig | None:
    """How new data for a template is ingested; None where a stored dataset is taken."""
    from tasks.templates.template import ingestion

    return ingestion(data, problem) if data.source else None


@task(name="check template", task_run_name="check {ref.name} for template")
def require_fits_template(ref: DatasetRef, problem: Problem) -> DatasetRef:
    """Check that a dataset poses the problem of a template, before anything is done with it."""
    from tasks.templates.template import require_fits

    require_fits(ref, problem)
    return ref


def _place(client: SyncPrefectClient) -> DeploymentResponse:
    try:
        return client.read_deployment_by_name(TRAIN)
    except ObjectNotFound:
        raise NotFound(
            f"There is no deployment {TRAIN}, whose work pool and queue a template takes",
            mend="deploy the flows, as `make up` does",
        ) from None


def _template(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    return next((one for one in find_templates(client) if one.name == name), None)
