"""The few questions that a serving process asks MLflow, over its REST API.

A serving process polls an alias each second and fetches a bundle now and then. Through MLflow's own
client that costs 1.4 s and 90 MB at every start of a worker; these calls cost neither. Only versions
whose files MLflow does not hand out itself (a server without `--serve-artifacts`) go through its client.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from tasks.errors import Damaged, NotFound, Unavailable
from tasks.evaluate.examples import DIGEST_TAG, EXAMPLES_TAG

PROXY_SCHEME = "mlflow-artifacts:"
BUNDLE_PATH = "artifacts/bundle"


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model, as the registry describes it."""

    name: str
    version: int
    source: str
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return self.tags.get(DIGEST_TAG, "")


class Registry:
    """A client of the MLflow server's registry and artifact proxy.

    Args:
        tracking_uri: Address of the server, http or https.
        timeout_s: Longest wait for one answer, in seconds.
    """

    def __init__(self, tracking_uri: str, timeout_s: float = 5.0) -> None:
        self.tracking_uri = tracking_uri.rstrip("/")
        self._http = httpx.Client(base_url=self.tracking_uri, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def version_of(self, model: str, alias: str) -> RegisteredVersion:
        """The version that an alias names.

        Raises:
            NotFound: There is no such model or alias.
            Unavailable: MLflow does not answer.
        """
        answer = self._get("registered-models/alias", {"name": model, "alias": alias})
        found = answer["model_version"]
        return RegisteredVersion(
            name=found["name"],
            version=int(found["version"]),
            source=found.get("source", ""),
            run_id=found.get("run_id", ""),
            tags={tag["key"]: tag.get("value", "") for tag in found.get("tags", [])},
        )

    def download_bundle(self, version: RegisteredVersion, folder: Path) -> None:
        """Fetch a version's bundle into an existing, empty folder.

        Raises:
            NotFound: The version's files are gone.
            Unavailable: MLflow does not answer.
        """
        self._download(posixpath.join(self._artifact_root(version), BUNDLE_PATH), folder)

    def download_examples(self, version: RegisteredVersion) -> bytes | None:
        """The examples that were stored when the version was registered; None where there are none."""
        uri = version.tags.get(EXAMPLES_TAG, "")
        if not uri.startswith("runs:/"):
            return None
        run_id, _, path = uri.removeprefix("runs:/").partition("/")
        run = self._get("runs/get", {"run_id": run_id})["run"]
        root = run["info"]["artifact_uri"]
        if not root.startswith(PROXY_SCHEME):
            return _download_by_client(self.tracking_uri, uri).read_bytes()
        return self._fetch(posixpath.join(_proxy_path(root), path))

    def _artifact_root(self, version: RegisteredVersion) -> str:
        """The folder of the version's MLflow model: a path under the proxy or another URI."""
        if version.source.startswith("models:/m-"):
            model_id = version.source.removeprefix("models:/")
            return str(self._get(f"logged-models/{quote(model_id)}", {})["model"]["info"]["artifact_uri"])
        if version.source.startswith("runs:/"):
            run_id, _, path = version.source.removeprefix("runs:/").partition("/")
            run = self._get("runs/get", {"run_id": run_id})["run"]
            return posixpath.join(str(run["info"]["artifact_uri"]), path)
        return version.source

    def _download(self, uri: str, folder: Path) -> None:
        if not uri.startswith(PROXY_SCHEME):
            _download_by_client(self.tracking_uri, uri, folder)
            return
        path = _proxy_path(uri)
        names = list(self._files(path))
        if not names:
            raise NotFound(
                "the version has no bundle", where=uri, allowed="a model that was trained or imported here"
            )
        for name in names:
            # The server's listing names the files; a name that leads out of the folder is refused.
            target = (folder / name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise Damaged("a file of the version has a name that leads out of its folder", where=name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._fetch(posixpath.join(path, name)))

    def _files(self, path: str, prefix: str = "") -> Iterator[str]:
        """Names of all files below a path of the proxy, relative to it."""
        answer = self._get(
            "mlflow-artifacts/artifacts", {"path": posixpath.join(path, prefix)}, root="/api/2.0"
        )
        for entry in answer.get("files", []):
            name = posixpath.join(prefix, entry["path"])
            if entry.get("is_dir"):
                yield from self._files(path, name)
            else:
                yield name

    def _fetch(self, path: str) -> bytes:
        answer = self._send(f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}", {})
        return answer.content

    def _get(self, route: str, params: dict[str, str], root: str = "/api/2.0/mlflow") -> dict[str, Any]:
        answer: dict[str, Any] = self._send(f"{root}/{route}", params).json()
        return answer

    def _send(self, path: str, params: dict[str, str]) -> httpx.Response:
        try:
            answer = self._http.get(path, params=params)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"MLflow does not answer: {error or type(error).__name__}",
                where=self.tracking_uri,
                mend="start the stack, or wait until MLflow is up again",
            ) from error
        if answer.is_success:
            return answer
        detail = answer.text[:300]
        if answer.status_code == 404 or "RESOURCE_DOES_NOT_EXIST" in detail or "not found" in detail:
            raise NotFound(f"MLflow does not know it: {detail}", where=f"{self.tracking_uri}{path} {params}")
        raise Unavailable(
            f"MLflow answered {answer.status_code}: {detail}", where=f"{self.tracking_uri}{path}"
        )


def _proxy_path(uri: str) -> str:
    """`mlflow-artifacts:/1/models/…` or `mlflow-artifacts://host/1/…` as a path under the proxy."""
    path = uri.removeprefix(PROXY_SCHEME)
    if path.startswith("//"):
        path = path[2:].partition("/")[2]
    return path.lstrip("/")


def _download_by_client(tracking_uri: str, uri: str, folder: Path | None = None) -> Path:
    """Fetch files that MLflow does not hand out itself, with the client's own access to their store."""
    import shutil

    import mlflow

    path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=tracking_uri))
    if folder is not None:
        shutil.copytree(path, folder, dirs_exist_ok=True)
    return path
