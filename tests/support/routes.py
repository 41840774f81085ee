"""The table of all routes: the scope that each needs, its status for each caller, and its properties.

A row has a method, a path, the scope that an API key needs (``session``: API keys are refused, ``-``: any key), and the
status for an anonymous caller, the owner, another user, a read-only API key of the owner, and the suspended owner. Of
two statuses, the first is for a private resource, the second for a public one. The tests call the rows in their order,
so routes that delete something come last.

The last columns are the route's properties:

dry-run   It takes ``?dry_run=true``: tests/platform/test_dry_run.py needs an example.
ends      It ends the caller's session, or deletes something that other routes need.
etag      Its response has an ETag: tests/contracts/test_etags.py needs an address.
if-match  It takes If-Match.
key       It takes an Idempotency-Key: tests/api/idempotency/test_idempotency.py needs an example.
list      It returns pages.
tells     Its response may contain data of an existing character: tests/api/characters/test_visibility.py needs a probe.
"""

import re
from typing import Any, NamedTuple

from service.app import app as application
from tests.conftest import FIGHTER, PASSWORD
from tests.support.pictures import draw_picture

PICTURE = draw_picture()
CALLERS = ("stranger", "owner", "other", "key", "suspended")

# A route that is open to anonymous callers is open to the whole world: review such a row with care.
TABLE = """
GET    /                                                                  -                302     302 302     302 302
GET    /admin                                                             -                307     307 307     307 307
GET    /docs                                                              -                200     200 200     200 200
GET    /docs-assets/{file_path}                                           -                200     200 200     200 200
GET    /docs/api                                                          -                200     200 200     200 200
GET    /docs/guide                                                        -                200     200 200     200 200
GET    /docs/openapi.json                                                 -                200     200 200     200 200
GET    /docs/{path}                                                       -                404     404 404     404 404
GET    /health/live                                                       -                200     200 200     200 200
GET    /health/ready                                                      -                200     200 200     200 200
GET    /media/{name}                                                      -                404     404 404     404 404
GET    /metrics                                                           -                200     200 200     200 200
GET    /openapi.json                                                      -                200     200 200     200 200
GET    /problems                                                          -                200     200 200     200 200
GET    /problems/{slug}                                                   -                200     200 200     200 200
GET    /v1/api-keys                                                       session          401     200 200     403 401
GET    /v1/api-keys/{key_id}                                              session          401     200 404     403 401
GET    /v1/changes                                                        characters:read  401     200 200     200 401   tells
GET    /v1/characters                                                     characters:read  200     200 200     200 401   list tells
GET    /v1/characters/{character_id}                                      characters:read  404/200 200 404/200 200 401   etag tells
GET    /v1/characters/{character_id}/card                                 characters:read  404/200 200 404/200 200 401   etag tells
GET    /v1/characters/{character_id}/graph                                characters:read  404/200 200 404/200 200 401   tells
GET    /v1/characters/{character_id}/portrait                             characters:read  404/200 200 404/200 200 401   etag tells
GET    /v1/characters/{character_id}/prompt                               characters:read  404/200 200 404/200 200 401   tells
GET    /v1/characters/{character_id}/relationships                        characters:read  404/200 200 404/200 200 401   list tells
GET    /v1/characters/{character_id}/revisions                            characters:read  401     200 404     200 401   list tells
GET    /v1/characters/{character_id}/revisions/{number}                   characters:read  401     200 404     200 401   tells
GET    /v1/characters/{character_id}/revisions/{number}/changes           characters:read  401     200 404     200 401   tells
GET    /v1/characters/{character_id}/validation                           characters:read  404/200 200 404/200 200 401   tells
GET    /v1/relationship-types                                             -                200     200 200     200 200
GET    /v1/relationships/{relationship_id}                                characters:read  404/200 200 404/200 200 401   etag tells
GET    /v1/sessions                                                       session          401     200 200     403 401
GET    /v1/templates                                                      templates:read   200     200 200     200 401   list
GET    /v1/templates/{template_id}                                        templates:read   404/200 200 404/200 200 401   etag
GET    /v1/templates/{template_id}/usage                                  templates:read   404/200 200 404/200 200 401   tells
GET    /v1/templates/{template_id}/versions                               templates:read   404/200 200 404/200 200 401   list
GET    /v1/templates/{template_id}/versions/{number}                      templates:read   404/200 200 404/200 200 401   etag
GET    /v1/templates/{template_id}/versions/{number}/changes              templates:read   404/200 200 404/200 200 401
GET    /v1/templates/{template_id}/versions/{number}/schema               templates:read   404/200 200 404/200 200 401   etag
GET    /v1/trash                                                          characters:read  401     200 200     200 401   list tells
GET    /v1/users/me                                                       session          401     200 200     403 401   etag
GET    /v1/users/me/avatar                                                session          401     200 404     403 401   etag
GET    /v1/users/me/export                                                session          401     200 200     403 401   tells
GET    /v1/users/me/usage                                                 characters:read  401     200 200     200 401
GET    /v1/users/{username}                                               -                200     200 200     200 404
GET    /v1/users/{username}/avatar                                        -                200     200 200     200 404   etag
POST   /v1/api-keys                                                       session          401     201 201     403 401
POST   /v1/characters                                                     characters:write 401     201 201     403 401   dry-run key
POST   /v1/characters/bulk                                                characters:write 401     200 200     403 401   dry-run key tells
POST   /v1/characters/{character_id}/copies                               characters:write 401     201 404/201 403 401   dry-run key tells
POST   /v1/characters/{character_id}/relationships                        characters:write 401     201 404     403 401   dry-run key tells
POST   /v1/characters/{character_id}/revisions/{number}/restorations      characters:write 401     200 404/403 403 401   dry-run if-match tells
POST   /v1/email-verifications                                            session          202     202 202     403 202
POST   /v1/imports                                                        characters:write 401     200 200     403 401   dry-run key
POST   /v1/password-resets                                                session          202     202 202     403 202
GET    /v1/tokens/current                                                 -                401     200 200     200 401
POST   /v1/sessions                                                       session          201     201 201     403 401
POST   /v1/templates                                                      templates:write  401     201 201     403 401   dry-run key
POST   /v1/templates/{template_id}/copies                                 templates:write  401     201 404/201 403 401   dry-run key
POST   /v1/templates/{template_id}/versions                               templates:write  401     201 404/403 403 401   dry-run key
POST   /v1/templates/{template_id}/versions/{number}/migration            characters:write 401     200 404/200 403 401   dry-run tells
POST   /v1/trash/{character_id}/restorations                              characters:write 401     201 404     403 401   dry-run tells
POST   /v1/users                                                          -                201     201 201     201 201
PUT    /v1/characters/{character_id}/card                                 characters:write 401     200 404/403 403 401   dry-run if-match tells
PUT    /v1/characters/{character_id}/portrait                             characters:write 401     200 404/403 403 401   dry-run if-match tells
PUT    /v1/email-verifications                                            session          404     404 404     403 404
PUT    /v1/password-resets                                                session          404     404 404     403 404
PUT    /v1/templates/{template_id}/versions/{number}/deprecation          templates:write  401     409 404/403 403 401   dry-run
PUT    /v1/templates/{template_id}/versions/{number}/publication          templates:write  401     200 404/403 403 401   dry-run
PUT    /v1/users/me/avatar                                                session          401     200 200     403 401   if-match
PATCH  /v1/characters/{character_id}                                      characters:write 401     200 404/403 403 401   dry-run if-match tells
PATCH  /v1/relationships/{relationship_id}                                characters:write 401     200 404/403 403 401   dry-run if-match tells
PATCH  /v1/templates/{template_id}                                        templates:write  401     200 404/403 403 401   dry-run if-match
PATCH  /v1/users/me                                                       session          401     200 200     403 401   if-match
DELETE /v1/characters/{character_id}/portrait                             characters:write 401     204 404/403 403 401   dry-run if-match tells
DELETE /v1/relationships/{relationship_id}                                characters:write 401     204 404/403 403 401   dry-run if-match tells
DELETE /v1/characters/{character_id}                                      characters:write 401     204 404/403 403 401   dry-run if-match tells
DELETE /v1/templates/{template_id}                                        templates:write  401     204 404/403 403 401   dry-run if-match
DELETE /v1/sessions/{session_id}                                          session          401     204 404     403 401   ends
DELETE /v1/trash/{character_id}                                           characters:write 401     204 404     403 401   dry-run tells
DELETE /v1/api-keys/{key_id}                                              session          401     204 404     403 401
DELETE /v1/users/me/avatar                                                session          401     204 204     403 401   if-match ends
DELETE /v1/sessions/current                                               session          401     204 204     403 401   ends
DELETE /v1/sessions                                                       session          401     204 204     403 401   ends
PUT    /v1/users/me/password                                              session          401     204 204     403 401   ends
DELETE /v1/users/me                                                       session          401     204 204     403 401   ends
"""  # noqa: E501 (a table)

# Bodies of routes that refuse an empty object. Bytes are sent as a file. `target` is another character of the caller.
BODIES: dict[str, Any] = {
    "POST /v1/users": {"email": "dora@example.org", "username": "dora", "password": PASSWORD},
    "PATCH /v1/users/me": {"bio": "Writes."},
    "PUT /v1/users/me/password": {"current_password": PASSWORD, "new_password": "another long password"},
    "DELETE /v1/users/me": {"password": "another long password"},
    "POST /v1/sessions": {"login": "alice", "password": PASSWORD},
    "POST /v1/api-keys": {"name": "program", "scopes": ["characters:read"], "current_password": PASSWORD},
    "POST /v1/templates": {"name": "Fighter", "attribute_schema": FIGHTER},
    "POST /v1/templates/{template_id}/versions": {"attribute_schema": FIGHTER},
    "POST /v1/characters": {"name": "Mira"},
    "PATCH /v1/characters/{character_id}": {"tags": ["new"]},
    "PATCH /v1/templates/{template_id}": {"tags": ["new"]},
    "PATCH /v1/relationships/{relationship_id}": {"attitude": 1},
    "PUT /v1/characters/{character_id}/card": {"nickname": "Mi"},
    "PUT /v1/characters/{character_id}/portrait": PICTURE,
    "PUT /v1/users/me/avatar": PICTURE,
    "POST /v1/email-verifications": {"email": "dora@example.org"},
    "POST /v1/password-resets": {"email": "dora@example.org"},
    "PUT /v1/email-verifications": {"token": "unknown"},
    "PUT /v1/password-resets": {"token": "unknown", "password": "another long password"},
    "POST /v1/imports": b"{}",
    "POST /v1/characters/bulk": {"operations": [{"action": "update", "id": "{character_id}", "body": {}}]},
    "POST /v1/characters/{character_id}/relationships": {"target": "{target}", "type": "serves"},
}


class Row(NamedTuple):
    route: str
    needs: str
    answers: dict[str, str]
    properties: frozenset[str]

    def answer(self, caller: str, visibility: str) -> int:
        """The expected status."""
        private, _, public = self.answers[caller].partition("/")
        return int(public or private if visibility == "public" else private)


def _rows() -> list[Row]:
    rows = []
    for line in TABLE.strip().splitlines():
        method, path, needs, *rest = line.split()
        answers = dict(zip(CALLERS, rest[: len(CALLERS)], strict=True))
        rows.append(Row(f"{method} {path}", needs, answers, frozenset(rest[len(CALLERS) :])))
    return rows


def routes_with(name: str) -> set[str]:
    """The routes that have a property."""
    return {row.route for row in ROWS if name in row.properties}


def route_of(method: str, address: str) -> str:
    """The route that an address such as ``/v1/characters/{id}?from=…`` belongs to."""
    path = address.partition("?")[0]
    matching = [
        route
        for route in (row.route for row in ROWS)
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route)), f"{method} {path}")
    ]
    assert matching, f"{method} {path} is no route of tests/support/routes.py"
    return min(matching, key=lambda route: route.count("{"))


ROWS = _rows()
HANDLERS = {
    f"{method} {route.path_format}": handler
    for route in application.routes
    for handler in getattr(route, "route_handlers", ())
    for method in handler.http_methods
    if method not in ("OPTIONS", "HEAD")
}
ROUTES = HANDLERS.keys() | {
    f"GET {route.path_format}" for route in application.routes if not hasattr(route, "route_handlers")
}
V1 = {route for route in ROUTES if " /v1" in route}
