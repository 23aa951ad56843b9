"""The OpenAPI document, made from the types that the handlers read and write."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from .actions import ACTIONS
from .catalogue import VIEWS, View
from .targets import Done, JobsTarget
from .views.job_query import JobRef

__all__ = ("MatchingAnswer", "document")

REFERENCE = "#/components/schemas/{name}"
# Clients are generated from the document, and have a class of this name.
API_NAMES = {"PayloadView": "Contents"}
_PROBLEMS = {
    "401": "nobody is logged in",
    "403": "the request comes from another site, or from a viewer",
    "404": "what was asked for is not there",
    "413": "the body is too long",
    "415": "the body is not JSON",
    "421": "the dashboard is not served under this name",
    "422": "the query or the body does not fit",
    "503": "Redis does not answer",
}


class Problem(Struct, frozen=True):
    """What is wrong."""

    error: str


class MatchingAnswer(Struct, frozen=True):
    """How many jobs a target names.

    :ivar more: there are more than an action takes at once
    :ivar first: the first hundred of them
    """

    count: int
    more: bool
    first: list[JobRef]


def document(root: str, challenge: str) -> dict[str, Any]:
    """The document.

    :param root: path below which the dashboard is mounted
    :param challenge: of the header WWW-Authenticate: how a client logs in
    """
    types: list[type[Any]] = [Problem, MatchingAnswer, Done, JobsTarget]
    types += [view.answer for view in VIEWS] + [view.query for view in VIEWS]
    types += [action.target for action in ACTIONS.values()]
    components = _components(types)
    paths: dict[str, Any] = {_api_path(view): {"get": _get_operation(view, components)} for view in VIEWS}
    paths["/api/matching"] = {
        "post": _post_operation(
            "matching", "How many jobs an action would be done to; changes nothing", JobsTarget, "MatchingAnswer"
        )
    }
    for name, action in ACTIONS.items():
        paths[f"/api/actions/{name}"] = {
            "post": _post_operation(name.replace("/", "_"), action.summary, action.target, "Done")
        }
    scheme = {"Bearer": {"type": "http", "scheme": "bearer"}, "Basic": {"type": "http", "scheme": "basic"}}
    chosen = challenge.partition(" ")[0]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "arqestra dashboard",
            "version": "1",
            "description": "Times are ms since the epoch, lengths of time seconds, unless the name says otherwise.",
        },
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            **({"securitySchemes": {chosen: scheme[chosen]}} if chosen in scheme else {}),
        },
        **({"security": [{chosen: []}]} if chosen in scheme else {}),
    }


def _components(types: Iterable[type[Any]]) -> dict[str, Any]:
    """The schemas of some types and of all that are in them, by their names in the API."""
    _, found = msgspec.json.schema_components(list(dict.fromkeys(types)), ref_template=REFERENCE)
    text = msgspec.json.encode(found).decode()
    for name, api_name in API_NAMES.items():
        text = text.replace(name, api_name)
    components: dict[str, Any] = msgspec.json.decode(text)
    return components


def _api_path(view: View) -> str:
    return f"/api/{view.name}"


def _get_operation(view: View, components: Mapping[str, Any]) -> dict[str, Any]:
    schema = components[view.query.__name__]
    required = schema.get("required", [])
    return {
        "operationId": f"read_{view.name}",
        "summary": view.summary,
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": _query_schema(each)}
            for name, each in schema["properties"].items()
        ],
        "responses": _responses(view.answer.__name__),
    }


def _query_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without null: a query has no null, it leaves the parameter out."""
    choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    found = dict(choices[0]) if choices else dict(schema)
    return {name: each for name, each in found.items() if not (name == "default" and each is None)}


def _post_operation(name: str, summary: str, body: type[Any], answer: str) -> dict[str, Any]:
    return {
        "operationId": f"do_{name.replace('-', '_')}",
        "summary": summary,
        "requestBody": {"required": True, "content": _content(body.__name__)},
        "responses": _responses(answer),
    }


def _responses(answer: str) -> dict[str, Any]:
    found = {"200": {"description": "done", "content": _content(answer)}}
    return found | {status: {"description": text, "content": _content("Problem")} for status, text in _PROBLEMS.items()}


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REFERENCE.format(name=name)}}}
