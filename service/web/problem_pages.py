"""The pages that explain the problems."""

from html import escape

import msgspec
from litestar import Controller, Response
from litestar.enums import MediaType
from litestar.params import FromPath

from service.errors import PROBLEMS, NotFound, ServiceError, Violation
from service.schemas import NAME_LENGTH
from service.web.pages import page
from service.web.routes import get

_PATH = "/problems/"
_CHARACTER = "/v1/characters/0199c0de-0000-7000-8000-000000000000"
_PATHS = {  # of the examples; of others /v1/characters
    "unauthorized": "/v1/users/me",
    "not-found": _CHARACTER,
    "method-not-allowed": "/v1/trash",
    "precondition-failed": _CHARACTER,
    "conflict": "/v1/users",
    "too-large": f"{_CHARACTER}/portrait",
    "unsupported-media-type": f"{_CHARACTER}/portrait",
    "failed-dependency": "/v1/characters/bulk",
    "too-many-requests": "/v1/sessions",
}
_ERRORS = {
    "bad-request": [Violation("Must be at most 100.", parameter="limit")],
    "conflict": [Violation("This username is taken.", pointer="/username")],
    "precondition-failed": [Violation("Is not the current version, which is 3.", header="If-Match")],
    "validation": [
        Violation(f"Must be at most {NAME_LENGTH} characters.", pointer="/name"),
        Violation("30 is greater than the maximum of 20.", pointer="/attributes/wits"),
    ],
}


class ProblemController(Controller):
    path = "/problems"
    include_in_schema = False

    @get("/", media_type=MediaType.HTML)
    async def list_problems(self) -> Response[str]:
        """List all problems."""
        rows = "".join(
            f'<tr><td>{kind.status}</td><td><a href="/problems/{slug}">{escape(slug)}</a></td></tr>'
            for slug, kind in sorted(PROBLEMS.items(), key=lambda item: (item[1].status, item[0]))
        )
        text = "<p>Every error is a problem document (RFC 9457). Its <code>type</code> is one of these:</p>"
        return page(
            "Problems", f"<h1>Problems</h1>{text}<table><tr><th>Status</th><th>Problem</th></tr>{rows}</table>", _PATH
        )

    @get("/{slug:str}", media_type=MediaType.HTML)
    async def get_problem(self, slug: FromPath[str]) -> Response[str]:
        """Explain a problem."""
        if (kind := PROBLEMS.get(slug)) is None:
            raise NotFound
        title = f"{kind.status} {kind.title()}"
        return page(
            title,
            f"<h1>{title}</h1><p>{escape(kind.meaning)}</p><h2>What to do</h2><p>{escape(kind.advice)}</p>"
            f"<h2>Example</h2><pre>{escape(_example(slug, kind))}</pre>",
            _PATH,
        )


def _example(slug: str, kind: type[ServiceError]) -> str:
    scope = {
        "path": _PATHS.get(slug, "/v1/characters"),
        "state": {"request_id": "0199c0de-1111-7000-8000-000000000000"},
    }
    error = kind()
    error.errors = _ERRORS.get(slug, [])
    return msgspec.json.format(msgspec.json.encode(error.problem(scope)), indent=2).decode()
