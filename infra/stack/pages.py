"""The static pages of a stack: Data Docs, pictures of the reports, exports to fetch.

An address there is known from the run that wrote it. Folders are not listed: a list would hand out the
pages and pictures of private datasets to whoever asks for the folder.
"""

from __future__ import annotations

import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class PagesHandler(SimpleHTTPRequestHandler):
    """Serves files, and of a folder its `index.html` only."""

    def list_directory(self, path: object) -> None:
        """Answer as if the folder were not there."""
        self.send_error(HTTPStatus.NOT_FOUND, "File not found")


def server(folder: Path, port: int, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server of the folder that listens from now on; the caller lets it serve."""
    return ThreadingHTTPServer((host, port), partial(PagesHandler, directory=str(folder)))


def main() -> None:
    """Serve until the process is ended: `python -m infra.stack.pages FOLDER PORT`."""
    folder, port = sys.argv[1:]
    with server(Path(folder), int(port)) as pages:
        pages.serve_forever()


if __name__ == "__main__":
    main()
