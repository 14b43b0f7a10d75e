"""Query parameters that an operation does not have are told and not ignored."""

from __future__ import annotations

from difflib import get_close_matches
from http import HTTPStatus

from fastapi import Request
from fastapi.routing import APIRoute

from hub.http.problem import Refusal

MAX_SHOWN = 40
"""Characters of a wrong name that are repeated to whoever asked."""


async def known_parameters(request: Request) -> None:
    """Raises Refusal for a parameter that this operation does not take: whoever misspells `from` must not be answered
    another stretch of time."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    if not request.query_params:
        return
    described = request.app.openapi()["paths"][route.path_format][request.method.lower()]
    known = [parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"was {close[0]} meant?" if close else f"there is {', '.join(known)}" if known else "there is none"
            detail = f"{name[:MAX_SHOWN]}: there is no such parameter here; {hint}"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
