"""The pages that explain the problems."""

from html import escape

import msgspec
from litestar import Controller, Response
from litestar.enums import MediaType
from litestar.params import FromPath

from service.errors import PROBLEMS, NotFound, ServiceError, Violation
from service.schemas import NAME_LENGTH
from service.web.csp import page_policy
from service.web.routes import get

_STYLE = (
    ":root { color-scheme: light dark } body { font-family: system-ui; line-height: 1.5; max-width: 45em; "
    "margin: 2em auto; padding: 0 1em } pre { overflow-x: auto; padding: 1em; border: 1px solid; border-radius: 4px } "
    "td, th { padding: .2em 1em .2em 0; text-align: left }"
)
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
        return _page("Problems", f"{text}<table><tr><th>Status</th><th>Problem</th></tr>{rows}</table>")

    @get("/{slug:str}", media_type=MediaType.HTML)
    async def get_problem(self, slug: FromPath[str]) -> Response[str]:
        """Explain a problem."""
        if (kind := PROBLEMS.get(slug)) is None:
            raise NotFound
        return _page(
            f"{kind.status} {kind.title()}",
            f"<p>{escape(kind.meaning)}</p><h2>What to do</h2><p>{escape(kind.advice)}</p>"
            f'<h2>Example</h2><pre>{escape(_example(slug, kind))}</pre><p><a href="/problems/">All problems</a></p>',
        )


def _example(slug: str, kind: type[ServiceError]) -> str:
    scope = {
        "path": _PATHS.get(slug, "/v1/characters"),
        "state": {"request_id": "0199c0de-1111-7000-8000-000000000000"},
    }
    error = kind()
    error.errors = _ERRORS.get(slug, [])
    return msgspec.json.format(msgspec.json.encode(error.problem(scope)), indent=2).decode()


def _page(title: str, body: str) -> Response[str]:
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f"<body><h1>{title}</h1>{body}</body></html>"
    )
    return Response(html, media_type=MediaType.HTML, headers={"Content-Security-Policy": page_policy(style=_STYLE)})
