"""The serving steps: start an endpoint, try it, switch it off, delete it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.endpoint_host import EndpointHost
from blocks.mlflow_server import MlflowServer
from tasks.data.task import open_store
from tasks.evaluate.task import evaluate_version
from tasks.refs import WORKSPACE_TAG, DatasetRef, EndpointRef, EvaluationRef, ModelVersionRef, tagged
from tasks.serve.config import ServeConfig

if TYPE_CHECKING:
    from tasks.serve.endpoints import Host


@task(name="serve", task_run_name="serve {version.name}")
def serve_model(version: ModelVersionRef, config: ServeConfig, site: str = "local") -> EndpointRef:
    """Have the model's endpoint answer with the version that its alias names; publishes how to call it."""
    from tasks.serve.endpoints import serve
    from tasks.serve.record import EndpointPlace
    from tasks.serve.samples import example_of, page

    log = get_run_logger()
    host = _host(site)
    record, endpoint = serve(version.name, config, host, log.info)
    if endpoint.version != version.version:
        log.warning("The alias %s names v%s of %s now.", config.alias, endpoint.version, version.name)
    log.info("Endpoint %s answers with v%s at %s", endpoint.name, endpoint.version, endpoint.url)
    example = example_of(EndpointPlace(host.home, record.name), endpoint.version)
    create_markdown_artifact(
        key=f"endpoint-{record.name}",
        markdown=page(record, endpoint.version, example),
        description=f"How to call the endpoint {record.name}",
    )
    return endpoint


@task(name="smoke test", task_run_name="smoke test {endpoint.name}")
def smoke_test(
    endpoint: EndpointRef, dataset: DatasetRef, evaluation: EvaluationRef, site: str = "local"
) -> None:
    """Send held-out rows in every request form; each answer must be the evaluation's.

    Where the endpoint serves another version than the evaluated one (a candidate that was refused),
    the answers are held against an evaluation of the served version on the same rows.
    """
    from tasks.evaluate.examples import DIGEST_TAG, read_sendable
    from tasks.evaluate.records import load_evaluation, load_predictions
    from tasks.serve.smoke import ROWS, try_endpoint

    client = cast(MlflowServer, MlflowServer.load(site)).client()
    served = client.get_model_version(endpoint.model, str(endpoint.version))
    if served.run_id != evaluation.run_id:
        ref = ModelVersionRef(
            name=endpoint.model,
            version=endpoint.version,
            run_id=served.run_id,
            model_uri=served.source,
            digest=served.tags.get(DIGEST_TAG, ""),
        )
        evaluation = evaluate_version(ref, dataset, evaluation.split, site)
    raw = read_sendable(open_store(site), dataset, evaluation.split, ROWS)
    result = try_endpoint(
        endpoint,
        Path(endpoint.token_file).read_text().strip(),
        raw,
        load_predictions(client, evaluation),
        dataset.problem,
        load_evaluation(client, evaluation).classes,
    )
    get_run_logger().info(
        "Endpoint %s (v%s) gave the evaluation's answers for %s held-out rows (%s); "
        "the largest difference is %.1g.",
        endpoint.name,
        result.version,
        result.rows,
        " and ".join(result.forms),
        result.largest_difference,
    )


@task(name="stop endpoint", task_run_name="stop {endpoint}")
def stop_endpoint(endpoint: str, site: str = "local") -> None:
    """Switch an endpoint off; its address and token stay for the next start."""
    from tasks.serve.endpoints import stop

    stop(_host(site).home, endpoint)
    get_run_logger().info("Endpoint %s is off.", endpoint)


@task(name="delete endpoint", task_run_name="delete {endpoint}")
def delete_endpoint(endpoint: str, site: str = "local") -> None:
    """Stop an endpoint and remove its address, token and stored versions."""
    from tasks.serve.endpoints import delete

    delete(_host(site).home, endpoint)
    get_run_logger().info("Endpoint %s is deleted.", endpoint)


def _host(site: str) -> Host:
    from tasks.serve.endpoints import Host

    block = cast(EndpointHost, EndpointHost.load(site))
    return Host(
        home=Path(os.path.expanduser(block.home)),
        tracking_uri=cast(MlflowServer, MlflowServer.load(site)).tracking_uri,
        address=block.host,
        first_port=block.first_port,
        workspace=tagged(flow_run.tags, WORKSPACE_TAG),
    )
