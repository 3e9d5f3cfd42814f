"""The command line: `trainyard up | down | status | logs | run | env | bootstrap`."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from infra import settings as stack_settings
from tasks.errors import TrainyardError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trainyard: from data to a served model. Settings come from TRAINYARD_* variables.",
)

_MESSAGES = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EROFS: "The file system is read-only",
    errno.EACCES: "Permission denied",
    errno.EMFILE: "Too many open files (see ulimit -n)",
}


@app.command()
def up() -> None:
    """Start the stack (or what is missing of it) and wait until all of it is ready."""
    _print_status(_started())


@app.command()
def down() -> None:
    """Stop the stack; runs in progress are cancelled, and no process of it is left."""
    from infra.stack import lifecycle

    settings = stack_settings.of_home()
    ended = lifecycle.down(settings, lambda name, text: typer.echo(f"{name}: {text}"))
    if ended:
        typer.echo(f"Ended {ended} processes that were left over.")
    typer.echo("The stack is down.")


@app.command()
def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of a table.")
    ] = False,
) -> None:
    """Show what runs and where; exits with 1 unless all services are healthy."""
    settings = stack_settings.of_home()
    healthy = _print_status(settings, as_json=as_json)
    raise typer.Exit(0 if healthy else 1)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="Service or endpoint; all, where left out.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on showing new lines.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Lines to show of each log.")] = 20,
) -> None:
    """Show the logs of the services."""
    from infra import logs as stack_logs

    stack_logs.show(stack_settings.of_home(), service, lines=lines, follow=follow)


@app.command()
def run(
    datasets: Annotated[
        list[str] | None, typer.Argument(help="Datasets: digits, iris, fashion-mnist.", metavar="DATASET...")
    ] = None,
) -> None:
    """Run the main job on each dataset and wait for its endpoint; starts the stack if need be."""
    from infra import run as main_job

    settings = _started()
    raise typer.Exit(main_job.run_all(settings, datasets or ["digits", "iris"]))


@app.command()
def env() -> None:
    """Print what a shell needs to use Prefect, MLflow and the SDK with this stack.

    For sh, bash and zsh: eval "$(trainyard env)"
    """
    from infra.stack import services

    for name, value in services.client_environment(stack_settings.of_home()).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def bootstrap(
    force: Annotated[bool, typer.Option("--force", help="Register even where nothing has changed.")] = False,
) -> None:
    """Register work pool, blocks, deployments and automations with the running stack."""
    from infra.stack import lifecycle

    settings = stack_settings.of_home()
    lifecycle.bootstrap(settings, force=force)
    typer.echo(lifecycle.end_of_log(settings.log_folder / "bootstrap.log"))


def main() -> None:
    """Entry point: errors that a user can act on are one sentence on stderr and exit code 1."""
    os.umask(0o077)
    try:
        app()
    except TrainyardError as error:
        sys.exit(f"trainyard: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _MESSAGES:
            raise
        place = Path(os.fsdecode(error.filename)) if error.filename else stack_settings.of_home().home
        sys.exit(
            f"trainyard: {_MESSAGES[error.errno]}. Where: {place}. To mend: free or choose another place."
        )


def _started() -> stack_settings.Settings:
    """Start what is missing of the stack; returns the settings that it runs with."""
    from infra.stack import lifecycle
    from infra.terminal import Progress

    settings = stack_settings.from_environment()
    try:
        with Progress("Starting the stack") as progress:
            lifecycle.up(settings, progress.report)
    except KeyboardInterrupt:
        typer.echo("trainyard: interrupted; run the same command again to go on", err=True)
        raise typer.Exit(130) from None
    return stack_settings.of_home()


def _print_status(settings: stack_settings.Settings, *, as_json: bool = False) -> bool:
    from infra.stack import status as stack_status

    report: dict[str, Any] = stack_status.report(settings)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        from infra.terminal import print_status

        print_status(report)
    return all(service["healthy"] for service in report["services"])


if __name__ == "__main__":
    main()
