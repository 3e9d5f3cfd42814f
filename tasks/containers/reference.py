"""References of container images, by the grammar of the OCI distribution project.

    reference   [host[:port]/]path[:tag][@digest]

Source: github.com/distribution/reference, `regexp.go` and `normalize.go`.
"""

from __future__ import annotations

import re

from tasks.errors import InvalidSettings

IMAGE_HELP = (
    "Container image to run in: a reference with a tag or digest (python:3.11, "
    "registry.example.com/team/trainer:1.4), or the name of a block Container Image."
)

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:__|[._]|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_MOST_LETTERS = 255  # of a name, host included


def is_block_name(image: str) -> bool:
    """Whether an image is named by a block: without slash, colon and `@`.

    A misspelt block is so never taken for one of Docker Hub's images, which have a tag here.
    """
    return not set("/:@") & set(image)


def require_reference(text: str, where: str = "image") -> str:
    """Check the form of a reference; whether the image exists, the worker finds out when it pulls it.

    Args:
        text: Such as `registry.example.com:5000/team/trainer:1.4@sha256:…`.
        where: The field or block that it stands in.

    Returns:
        The same.

    Raises:
        InvalidSettings: It is none.
    """
    match = _REFERENCE.fullmatch(text) if len(text) <= 1_000 else None
    if match is not None and len(match["name"]) <= _MOST_LETTERS:
        return text
    name, _, digest = text.partition("@")
    cause = ""
    if digest and not re.fullmatch(_DIGEST, digest):
        cause = ": its digest is not sha256: and 64 small hexadecimal digits"
    elif name.rpartition("/")[2].partition(":")[0] != name.rpartition("/")[2].partition(":")[0].lower():
        cause = ": its name has capital letters"
    elif text != text.strip() or "://" in text:
        cause = ": it is an address, or has spaces around it"
    raise InvalidSettings(
        f"{text[:200]!r} is no reference of a container image{cause}",
        where=where,
        allowed="[host[:port]/]name[:tag][@digest], such as registry.example.com/team/trainer:1.4",
        mend="copy the reference from the registry's page of the image",
    )
