"""Start one service: `python -m infra.stack.start SERVICE`, run by the supervisor.

This process becomes the service, so that the supervisor watches the service itself. Before that it
ties its life to the supervisor's, ends what an earlier service of its name left behind (a killed
server's own children would keep the port), and waits for what the service needs.
"""

from __future__ import annotations

import os
import sys
import time

from infra import settings as stack_settings
from infra.settings import WORK_POOL, Settings
from infra.stack import database, http, processes, services
from tasks.errors import Unavailable
from tasks.parent_death import die_with_parent


def die_with_supervisor() -> None:
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:  # it ended before the call
        sys.exit(1)


def end_leftovers(settings: Settings, service: str) -> int:
    """End processes of an earlier service of this name, but not the flow runs that a worker started."""
    left = processes.of_service(os.environ[processes.STACK_ID], service)
    return processes.end(left - processes.own_line(), grace_s=0)


def wait_for_work_pool(settings: Settings) -> None:
    """Wait until Prefect answers and the bootstrap has made the worker's pool; without end."""
    url = f"{settings.prefect_api_url}/work_pools/{WORK_POOL}"
    while True:
        try:
            http.call("GET", url, timeout_s=5)
            return
        except Unavailable:
            time.sleep(0.25)


def main() -> None:
    name = sys.argv[1]
    die_with_supervisor()
    settings = stack_settings.of_home()
    service = next(s for s in services.declared(settings) if s.name == name)
    if left := end_leftovers(settings, name):
        print(f"Ended {left} processes that an earlier {name} left.", flush=True)
    if name in database.DATABASES and (sentence := database.heal(settings, name)):
        print(sentence, flush=True)
    if name in ("worker", "queue"):
        wait_for_work_pool(settings)
    os.execve(service.command[0], service.command, services.environment(settings, service))


if __name__ == "__main__":
    main()
