"""The stack's supervisor, seen from an endpoint: one program added, replaced or taken away.

The supervisor is reached by its XML-RPC over a Unix socket in the data folder; programs are files in
`supervisor.d/`, so that endpoints come up again with the stack.
"""

from __future__ import annotations

import xmlrpc.client
from pathlib import Path
from typing import Any

from tasks.errors import Unavailable

_NOT_RUNNING = 70
_BAD_NAME = 10
_ALREADY_ADDED = 90
_ALREADY_STARTED = 60


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
