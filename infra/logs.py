"""Show the stack's log files."""

from __future__ import annotations

import subprocess

from infra.settings import Settings
from tasks.errors import NotFound


def show(settings: Settings, service: str | None, *, lines: int, follow: bool) -> None:
    """Print the end of one or all logs, and new lines as they come where `follow` is set.

    Raises:
        NotFound: There is no log of that name.
    """
    files = sorted(settings.log_folder.glob("*.log"))
    if service is not None:
        files = [file for file in files if file.stem in (service, f"endpoint-{service}")]
    if not files:
        known = ", ".join(sorted(file.stem for file in settings.log_folder.glob("*.log")))
        raise NotFound(
            f"There is no log of {service}" if service else "There are no logs yet",
            where=str(settings.log_folder),
            allowed=known,
            mend="" if known else "start the stack with `trainyard up`",
        )
    # tail copes with rotation (-F), and with several files at once.
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), "--", *map(str, files)]
    try:
        subprocess.run(command, check=False)
    except KeyboardInterrupt:
        return
