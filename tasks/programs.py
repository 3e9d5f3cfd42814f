"""Programs that the stack's supervisor keeps running for a stage: endpoints, views.

The supervisor is reached by its XML-RPC over a Unix socket in the data folder; programs are files in
`supervisor.d/`, so that those that start by themselves come up again with the stack.
"""

from __future__ import annotations

import socket
import xmlrpc.client
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import Unavailable

REPOSITORY = Path(__file__).resolve().parents[1]
PORTS_TRIED = 200

_NOT_RUNNING = 70
_BAD_NAME = 10
_ALREADY_ADDED = 90
_ALREADY_STARTED = 60

_PROGRAM = """; Written by the {stage} stage; changes are overwritten.
[program:{program}]
command={command}
directory={directory}
environment={environment}
priority=200
autostart={autostart}
autorestart={autorestart}
exitcodes=0
startsecs=1
startretries=1000000
stopasgroup=true
killasgroup=true
stopwaitsecs=15
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


class Supervisor:
    """A client of the supervisor.

    Args:
        home: Data folder of the stack.
    """

    def __init__(self, home: Path) -> None:
        from supervisor.xmlrpc import SupervisorTransport

        # Under a long home this is a link: a socket's own path must be short.
        self._socket = (home / "run" / "supervisor.sock").resolve()
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        self._methods = xmlrpc.client.ServerProxy("http://supervisor", transport=transport).supervisor

    def state(self, program: str) -> str:
        """`RUNNING`, `STARTING`, `BACKOFF`, `STOPPED`, `FATAL`…; `ABSENT` where it is not known."""
        try:
            return str(self._call("getProcessInfo", program)["statename"])
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                return "ABSENT"
            raise

    def ensure(self, program: str) -> None:
        """Run a program as its file in `supervisor.d/` says; restarts it where the file changed."""
        _, changed, removed = self._call("reloadConfig")[0]
        if program in changed or program in removed:
            self._take_away(program)
        if self.state(program) == "ABSENT":
            self._tolerant("addProcessGroup", program, tolerated=(_ALREADY_ADDED,))
        if self.state(program) in ("STOPPED", "EXITED", "FATAL"):
            self._tolerant("startProcess", program, False, tolerated=(_ALREADY_STARTED,))

    def remove(self, program: str) -> None:
        """Stop a program, wait for its end and forget it; its file must be gone already."""
        self._call("reloadConfig")
        self._take_away(program)

    def _take_away(self, program: str) -> None:
        self._tolerant("stopProcess", program, tolerated=(_NOT_RUNNING, _BAD_NAME))
        self._tolerant("removeProcessGroup", program, tolerated=(_BAD_NAME,))

    def _tolerant(self, method: str, *arguments: Any, tolerated: tuple[int, ...]) -> None:
        """Call a method whose work another caller may have done in the meantime."""
        try:
            self._call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in tolerated:
                raise

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._methods, method)(*arguments)
        except OSError as error:
            raise Unavailable(
                f"the stack's supervisor does not answer: {error}",
                where=str(self._socket),
                mend="start the stack with `trainyard up`",
            ) from error


def program_text(
    stage: str,
    program: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    log_file: Path,
    *,
    lasting: bool = True,
) -> str:
    """A program's file in `supervisor.d/`.

    Args:
        stage: Who writes it.
        program: Its name in the supervisor.
        command: What runs; it is killed outright when the supervisor is.
        environment: Variables besides the supervisor's own.
        log_file: Where its output goes.
        lasting: Whether it comes up with the stack, and again whenever it ends; one that does not is
            only started anew after a failure.
    """
    # A supervisor that is killed outright would else leave the program behind, on the port that the next
    # one needs.
    words = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    return _PROGRAM.format(
        stage=stage,
        program=program,
        command=_escaped(" ".join(f'"{word}"' if " " in word else word for word in words)),
        directory=_escaped(str(REPOSITORY)),
        environment=",".join(f'{name}="{_escaped(value)}"' for name, value in environment.items()),
        autostart=str(lasting).lower(),
        autorestart="true" if lasting else "unexpected",
        log=_escaped(str(log_file)),
    )


def is_taken(address: str, port: int) -> bool:
    """Whether something listens on a port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False


def free_port(what: str, address: str, first: int, used: Collection[int], mend: str) -> int:
    """The lowest port that nobody has and nothing listens on.

    Args:
        what: What it is for.
        address: Where it listens.
        first: Lowest port to try, of `PORTS_TRIED`.
        used: Ports that belong to somebody who may not listen at the moment.
        mend: What to do where there is none.

    Raises:
        Unavailable: There is none.
    """
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        if port not in used and not is_taken(address, port):
            return port
    raise Unavailable(
        f"no free port was found for {what}",
        where=address,
        allowed=f"ports {first} to {first + PORTS_TRIED - 1}",
        mend=mend,
    )


def _escaped(text: str) -> str:
    """Text as the supervisor's files take it: it expands %(…)s everywhere."""
    return text.replace("%", "%%")
