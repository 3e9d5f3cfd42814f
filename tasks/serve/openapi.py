"""The endpoint described for machines: OpenAPI 3.1, written for the model that answers."""

from __future__ import annotations

from typing import Any

from tasks.refs import Problem
from tasks.serve.record import EndpointRecord
from tasks.serve.wire import Signature


def describe(record: EndpointRecord, signature: Signature | None) -> dict[str, Any]:
    """The document.

    Args:
        record: The endpoint's settings.
        signature: Of the version that answers; None before one is loaded, then inputs stay open.
    """
    content: dict[str, Any] = {"application/json": {"schema": _request(signature, record.max_instances)}}
    answers: dict[str, Any] = {"application/json": {"schema": _answer(signature)}}
    if signature and signature.problem is Problem.IMAGE_CLASSIFICATION:
        file = {"type": "string", "format": "binary", "description": "An image file."}
        content["multipart/form-data"] = {
            "schema": {"type": "object", "properties": {"input": file}, "required": ["input"]}
        }
        answers["text/plain"] = {"schema": {"type": "string", "examples": ["[3]"]}}
    refusals = {
        str(status): {"description": text, "content": {"application/json": {"schema": _ERROR}}}
        for status, text in _REFUSALS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Endpoint {record.name}", "version": "1"},
        "servers": [{"url": record.base_url}],
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "token"},
                "bearer": {"type": "http", "scheme": "bearer"},
            }
        },
        "security": [{"token": []}, {"bearer": []}],
        "paths": {
            f"/v1/models/{record.model}:predict": {
                "post": {
                    "summary": f"Predictions of {record.model}",
                    "requestBody": {"required": True, "content": content},
                    "responses": {"200": {"description": "Predictions.", "content": answers}, **refusals},
                }
            },
            f"/v1/models/{record.model}": {
                "get": {
                    "summary": "The version that answers, and what it takes",
                    "responses": {"200": {"description": "The model."}, "401": refusals["401"]},
                }
            },
        },
    }


_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}

_REFUSALS = {
    400: "The body is not what the model takes.",
    401: "The token is missing or wrong.",
    408: "The body arrived too slowly.",
    413: "The body, the list or an image is too large.",
    415: "The body is of a type that is not taken.",
    422: "A file is not a readable image, or the model cannot answer the input.",
    503: "Nothing is loaded yet, or too many requests wait; see Retry-After.",
    504: "The model did not answer in time.",
}


_LISTS = {
    Problem.TABLE_CLASSIFICATION: "The probability of each class.",
    Problem.TABLE_CLUSTERING: "The distance to the centre of each cluster; the nearest is the row's own.",
    Problem.TABLE_DIMENSION_REDUCTION: "The row's principal components, that of most variance first.",
}


def _request(signature: Signature | None, max_instances: int) -> dict[str, Any]:
    instances: dict[str, Any] = {"type": "array", "minItems": 1, "maxItems": max_instances}
    if signature and signature.problem.is_table:
        instances["items"] = {
            "type": "array",
            "prefixItems": [
                {"type": "number" if column.numeric else "string", "title": column.name}
                for column in signature.columns
            ],
            "minItems": len(signature.columns),
            "maxItems": len(signature.columns),
        }
    elif signature:
        instances["items"] = {
            "type": "object",
            "properties": {"data": {"type": "string", "contentEncoding": "base64"}},
            "required": ["data"],
            "additionalProperties": False,
        }
    return {
        "type": "object",
        "properties": {"instances": instances},
        "required": ["instances"],
        "additionalProperties": False,
    }


def _answer(signature: Signature | None) -> dict[str, Any]:
    number = {"type": "number"}
    items: dict[str, Any] = {}
    if signature and signature.problem is Problem.TABLE_REGRESSION:
        items = number
    elif signature and signature.problem.is_table:
        items = {"type": "array", "items": number, "description": _LISTS[signature.problem]}
    elif signature:
        scored = {"type": "object", "properties": {"score": number, "label": {"type": "string"}}}
        items = {"type": "array", "items": scored}
    return {"type": "object", "properties": {"predictions": {"type": "array", "items": items}}}
