"""The body of a request: its form, its bytes within the limits, the file in it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from tasks.serve.wire import Limits, Refusal, Signature

JSON = "application/json"
MULTIPART = "multipart/form-data"
#: What command line tools and scripts say where nobody chose a type; the body is read as JSON then.
UNSAID = ("", "application/x-www-form-urlencoded", "text/plain")
#: How much of a body that is too large is still taken in: a client that gets no answer while it sends
#: sees a broken connection in place of the sentence that says what is wrong.
DRAIN_BYTES = 256 * 2**20
DRAIN_S = 5.0


def media_type(headers: Headers, signature: Signature) -> str:
    """The request's form; refuses the ones that this model or endpoint does not take."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refusal(
            415,
            f"the body is encoded as {encoding[:40]!r}",
            where="Content-Encoding",
            allowed="a body as it is, without compression",
            mend="leave Content-Encoding out",
        )
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = JSON if kind in UNSAID else kind
    allowed = [JSON] if signature.problem.is_table else [JSON, MULTIPART]
    if kind not in allowed:
        raise Refusal(
            415,
            f"a body of type {kind[:80]!r} is not taken here",
            where="Content-Type",
            allowed=" or ".join(allowed),
            mend=f"send JSON with 'Content-Type: {JSON}'",
        )
    return kind


async def whole_body(request: Request, limits: Limits) -> bytes:
    """The whole body, within the limit.

    Raises:
        Refusal: 413 where it is larger; what the client still sends is taken in and dropped.
    """
    limit = limits.max_body_bytes
    declared = request.headers.get("content-length", "")
    too_large = declared.isdigit() and int(declared) > limit
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(None) as drain:
            if too_large:
                drain.reschedule(asyncio.get_running_loop().time() + DRAIN_S)
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit and not too_large:
                    too_large = True
                    chunks.clear()
                    drain.reschedule(asyncio.get_running_loop().time() + DRAIN_S)
                if size > DRAIN_BYTES:
                    break
                if not too_large:
                    chunks.append(chunk)
    except TimeoutError:
        if not too_large:
            raise
    if too_large:
        raise Refusal(
            413,
            f"the body has {declared or f'more than {limit}'} bytes",
            where="request body",
            allowed=f"at most {limit} bytes ({limit // 2**20} MiB)",
            mend="send fewer instances in one request, or use batch inference",
        )
    return b"".join(chunks)


async def uploaded_file(headers: Headers, body: bytes) -> bytes:
    """The bytes of the file field `input` of a multipart body.

    Raises:
        Refusal: 400 where the body cannot be read, or has not one such file.
    """

    async def whole() -> Any:
        yield body

    try:
        form = await MultiPartParser(headers, whole(), max_files=2, max_fields=20).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "") or str(error) or type(error).__name__
        raise Refusal(
            400,
            f"the multipart body cannot be read: {reason[:120]}",
            where="request body",
            allowed="one file in the field 'input'",
            mend="let the HTTP library write the body and its Content-Type",
        ) from None
    try:
        files = form.getlist("input")
        if len(files) != 1 or not isinstance(files[0], UploadFile):
            found = ", ".join(sorted({repr(key)[:40] for key in form})) or "none"
            raise Refusal(
                400,
                f"the file field 'input' is missing, or there is more than one (fields: {found})",
                where="request body",
                allowed="one file in the field 'input'",
                mend="send the image as the file field 'input'",
            )
        return await files[0].read()
    finally:
        await form.close()
