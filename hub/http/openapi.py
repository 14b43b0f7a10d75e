"""The OpenAPI 3.1 document of the HTTP API, made from its operations and their structs.

`python -m hub.http.openapi` prints it without a running hub; with `--schemas`, without the operations.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.responses import Response

from hub.http import problem
from hub.http.problem import Problem
from hub.http.routes import RESOURCES
from hub.http.routing import Operation, json_response, operations_of

DESCRIPTION = "Times are integer nanoseconds since 1970 UTC. Sign in with `Authorization: Bearer TOKEN`."

ERRORS = (401, 403, 422, 429)
"""Statuses that any operation for authenticated callers may answer with."""

BODY_ERRORS = (400, 413, 415, 422)

REFERENCE = "#/components/schemas/{name}"

components_of = partial(msgspec.json.schema_components, ref_template=REFERENCE)


class DescriptionRoutes:
    """The operation that answers with the document. It is made at the first request, in a thread: it takes 0.2 s."""

    def __init__(self, resources: Iterable[type], public_url: str | None = None) -> None:
        self._resources = resources
        self._public_url = public_url

    @Operation("GET", "/api/v1/openapi.json", described=False)
    async def description(self) -> Response:
        """Describe every operation."""
        return await asyncio.to_thread(lambda: json_response(self._document))

    @cached_property
    def _document(self) -> dict[str, Any]:
        document = describe(self._resources)
        if self._public_url is not None:
            document["servers"] = [{"url": self._public_url}]
        return document


def describe(resources: Iterable[type]) -> dict[str, Any]:
    """Return the document of these resources."""
    operations = [found for resource in resources for found in operations_of(resource) if found.described]
    structs = {Problem, *filter(None, (kind for op in operations for kind in (op.hints.get("body"), op.answer)))}
    _, schemas = components_of(sorted(structs, key=lambda struct: struct.__name__))
    bodies = {op.hints["body"].__name__ for op in operations if "body" in op.hints}
    for name, schema in schemas.items():
        _simplify(schema, is_answer=name not in bodies)
    paths: dict[str, dict[str, Any]] = {}
    for found in operations:
        paths.setdefault(found.path, {})[found.method.lower()] = _operation(found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Telemetry Hub", "description": DESCRIPTION, "version": version("telemetry-hub")},
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _simplify(schema: dict[str, Any], *, is_answer: bool) -> None:
    """Drop the title, which repeats the name, and line breaks. An answer always contains every field."""
    del schema["title"]
    schema["description"] = " ".join(schema["description"].split())
    if is_answer:
        schema["required"] = list(schema["properties"])
        for field in schema["properties"].values():
            field.pop("default", None)


def _operation(found: Operation) -> dict[str, Any]:
    body = found.hints.get("body")
    name = found.handler.__name__
    described = {
        "operationId": name,
        "summary": name.replace("_", " ").capitalize(),
        "description": " ".join((found.handler.__doc__ or "").split()),
        "parameters": _parameters(found),
        "responses": _responses(found, takes_body=body is not None),
    }
    if body is not None:
        described["requestBody"] = {"required": True, "content": _content(["application/json"], body)}
    elif found.body_types:
        described["requestBody"] = {"required": True, "content": _content(found.body_types, None)}
    return described


def _responses(found: Operation, *, takes_body: bool) -> dict[str, Any]:
    json = ["application/json"] if found.answer is not None else []
    content = {**_content(found.media_types, None), **_content(json, found.answer)}
    statuses = {
        *(ERRORS if found.is_protected else ()),
        *(BODY_ERRORS if takes_body else ()),
        # A path with a control character is not valid HTTP.
        *((400, 404, 422) if found.path_types else ()),
        *found.errors,
    }
    described = {status: _content([problem.MEDIA_TYPE], Problem) for status in statuses}
    described.update(dict.fromkeys((found.status, *found.also), content))
    return {
        str(status): {"description": HTTPStatus(status).phrase, **({"content": content} if content else {})}
        for status, content in sorted(described.items())
    }


def _content(media_types: Sequence[str], struct: Any) -> dict[str, Any]:
    # As msgspec refers to the schema of a struct. It would make the schema for each reference.
    schema = {} if struct is None else {"schema": {"$ref": REFERENCE.format(name=struct.__name__)}}
    return dict.fromkeys(media_types, schema)


def _parameters(found: Operation) -> list[dict[str, Any]]:
    described = [
        {"name": name, "in": "path", "required": True, "schema": msgspec.json.schema(kind)}
        for name, kind in found.path_types.items()
    ]
    if (kind := found.hints.get("query")) is not None:
        schema = components_of([kind])[1][kind.__name__]
        for name, field in schema["properties"].items():
            text = {"description": field.pop("description")} if "description" in field else {}
            required = name in schema["required"]
            described.append({"name": name, "in": "query", "required": required, "schema": field, **text})
    return described


def main() -> None:
    """Print the document."""
    document = describe(RESOURCES)
    if "--schemas" in sys.argv:
        document["paths"] = {}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


if __name__ == "__main__":
    main()
