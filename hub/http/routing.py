"""Operations of the HTTP API: declared by decorators, validated by msgspec, and served as Starlette routes.

A resource is a class whose methods are operations. The signature of a method says what it takes: `caller` is the
authenticated identity, `query` and `body` are structs, `request` is the request itself, and every other parameter is a
part of the path. The return annotation is the struct that the operation answers with; hub.http.openapi describes both.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.http.authenticator import Authenticator
from hub.http.input_query import accepted_words
from hub.http.problem import Refusal
from hub.model.identity import Action, Identity

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[object]])

NO_STORE = {"Cache-Control": "no-store"}

JSON_EXAMPLE = 'send JSON, with the header "Content-Type: application/json"'

MAX_SHOWN = 40
"""Characters of an unknown parameter's name that the answer repeats."""

GIVEN = frozenset({"self", "return", "caller", "query", "body", "request"})
"""Names in a signature that are no parts of the path."""

BOOLEANS = {
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), "true"),
    **dict.fromkeys(("0", "off", "f", "false", "n", "no"), "false"),
}
"""Words for a boolean in a query parameter, in lower case."""

_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)

encode = msgspec.json.Encoder().encode


@dataclass
class Operation:
    """Declaration of a resource's method: its method and path, and the right `may` that a caller needs.

    `status` is that of the answer, `also` are further statuses of the same answer, `errors` the statuses of problems
    that this operation adds to those of every operation, `media_types` those of an answer that is not, or not always, a
    struct. `body_types` are those of a body that the operation reads itself. `described` is False for what is no part
    of the API.
    """

    method: str
    path: str
    _: KW_ONLY
    may: Action | None = None
    status: int = HTTPStatus.OK
    also: Sequence[int] = ()
    errors: Sequence[int] = ()
    media_types: Sequence[str] = ()
    body_types: Sequence[str] = ()
    described: bool = True
    handler: Callable[..., Awaitable[object]] = field(init=False)

    def __call__(self, handler: Handler) -> Handler:
        """Declare this method, as its decorator."""
        self.handler = handler
        handler.operation = self  # type: ignore[attr-defined]  # functions take attributes
        return handler

    @property
    def hints(self) -> dict[str, Any]:
        """The annotation of each parameter, and of the answer as `return`."""
        return get_type_hints(self.handler, include_extras=True)

    @property
    def answer(self) -> type[msgspec.Struct] | None:
        """The struct of the answer; None where it is something else."""
        answer = self.hints["return"]
        kinds = [kind for kind in (answer, *get_args(answer)) if isinstance(kind, type)]
        return next((kind for kind in kinds if issubclass(kind, msgspec.Struct)), None)

    @property
    def path_types(self) -> dict[str, Any]:
        """The type of each part of the path."""
        return {name: kind for name, kind in self.hints.items() if name not in GIVEN}

    @property
    def is_protected(self) -> bool:
        """True if the caller has to authenticate."""
        return self.may is not None or "caller" in self.hints


def operations_of(resource: type) -> Iterator[Operation]:
    """Return the operations of a resource, in the order of their declaration."""
    return (member.operation for member in vars(resource).values() if hasattr(member, "operation"))


def routes_of(resource: object, authenticator: Authenticator) -> list[Route]:
    """Return the routes of a resource's operations."""
    routes = []
    for declared in operations_of(type(resource)):
        route = Route(declared.path, _endpoint(declared, resource, authenticator), methods=[declared.method])
        route.methods = {declared.method}  # Starlette adds HEAD to GET, which the API does not offer
        routes.append(route)
    return routes


def json_response(answer: object, status: int = HTTPStatus.OK) -> Response:
    """Return an answer as JSON that nobody caches."""
    return Response(encode(answer), status_code=status, media_type="application/json", headers=NO_STORE)


def _endpoint(
    declared: Operation, resource: object, authenticator: Authenticator
) -> Callable[[Request], Awaitable[Response]]:
    hints, path_types = declared.hints, declared.path_types
    query_type, body_type = hints.get("query"), hints.get("body")
    fields = msgspec.structs.fields(query_type) if query_type is not None else ()
    parameters = {parameter.encode_name: _kinds(parameter.type) for parameter in fields}

    async def endpoint(request: Request) -> Response:
        arguments: dict[str, Any] = {}
        if declared.is_protected:
            identity = await _authenticate(request, authenticator, declared.may)
            if "caller" in hints:
                arguments["caller"] = identity
        if declared.described:
            _check_parameters(request, parameters)
        for name, kind in path_types.items():
            arguments[name] = validate(request.path_params[name], kind, f"path.{name}")
        if query_type is not None:
            arguments["query"] = validate(_query(request, parameters), query_type, "query")
        if body_type is not None:
            arguments["body"] = await _body(request, body_type)
        if "request" in hints:
            arguments["request"] = request
        answer = await declared.handler(resource, **arguments)
        if isinstance(answer, Response):
            return answer
        return Response(status_code=declared.status) if answer is None else json_response(answer, declared.status)

    return endpoint


async def _authenticate(request: Request, authenticator: Authenticator, may: Action | None) -> Identity:
    """Return the identity of the caller. Raises Refusal without a valid credential, or without the right `may`."""
    identity = await authenticator.identify(request.scope)
    if identity is None:
        role = "device --device NAME" if may is Action.WRITE else "viewer"
        given = authenticator.access.credential(request.scope)
        if given is not None and given.kind == "token":
            detail = "the token is not valid: this hub does not know it, or it was revoked or has expired"
        else:
            detail = "sign in, or send a token as Authorization: Bearer"
        detail += f"; `hub token create --role {role}` makes one"
        raise Refusal(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer"})
    if may is not None and not identity.may(may):
        raise Refusal(HTTPStatus.FORBIDDEN, f"a token of role {identity.role} may not {may}")
    return identity


def validate(given: object, kind: Any, where: str) -> Any:
    """Convert the text of parameters to their types. Raises Refusal that names each wrong one, with `where` it is."""
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        detail = f"{_located(where, error)}{accepted_words(kind, error)}"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail) from None


def _kinds(annotation: Any) -> set[Any]:
    """Return every type within an annotation."""
    return {annotation, get_origin(annotation)}.union(*map(_kinds, get_args(annotation)))


def _check_parameters(request: Request, known: Collection[str]) -> None:
    """Raise Refusal for a query parameter that the operation does not have.

    A misspelled `from` must not be answered with another range of time.
    """
    for name in request.query_params:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"was {close[0]} meant?" if close else f"there is {', '.join(known)}" if known else "there is none"
            detail = f"{name[:MAX_SHOWN]}: there is no such parameter here; {hint}"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def _query(request: Request, parameters: Mapping[str, set[Any]]) -> dict[str, str | list[str]]:
    """Return the given parameters: every value of a list, the last one of any other type."""
    given = request.query_params
    query: dict[str, str | list[str]] = {}
    for name in given:
        text, kinds = given[name], parameters[name]
        query[name] = given.getlist(name) if list in kinds else text
        if bool in kinds:
            query[name] = BOOLEANS.get(text.lower(), text)
    return query


async def _body(request: Request, kind: Any) -> Any:
    """Decode a JSON body. Raises Refusal for another media type, and for what is not valid."""
    raw = await request.body()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        detail = f"this takes no other body than JSON: {JSON_EXAMPLE}"
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    try:
        return msgspec.json.decode(raw.decode(), type=kind, strict=False)
    except UnicodeDecodeError:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is not UTF-8 text: {JSON_EXAMPLE}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, _located("body", error)) from None


def _located(where: str, error: Exception) -> str:
    """Return msgspec's message, with the place in front and in the form `body.expires_in_s`."""
    text, _, place = str(error).partition(" - at `$")
    path = f"{where}{place.removesuffix('`')}"
    match = _FIELD.match(text)
    if match is None:
        return f"{path}: {text}"
    missing = match[1] == "missing required"
    return f"{path}.{match[2]}: {'required, and it is missing' if missing else 'there is no such field'}"


def methods_for(routes: Iterable[Route], request: Request) -> list[str]:
    """Return the methods that a path has; a path without parameters counts before one whose parameters it fits."""
    matching = [route for route in routes if route.path_regex.match(request.scope["path"]) is not None]
    fewest = min((len(route.param_convertors) for route in matching), default=0)
    return sorted({name for route in matching if len(route.param_convertors) == fewest for name in route.methods or ()})
