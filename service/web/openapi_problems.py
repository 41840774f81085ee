"""The problems in the OpenAPI document: those of each operation, and those that any operation can return."""

import re

from litestar.handlers.http_handlers import HTTPRouteHandler

from service.errors import PROBLEMS
from service.web.openapi_config import Json
from service.web.openapi_schemas import reference_to
from service.web.problems import MEDIA_TYPE

DEFAULT = "common-problem"
_COMMON = (
    "unauthorized", "request-timeout", "too-large", "url-too-long", "unsupported-media-type", "too-many-requests",
    "headers-too-large", "internal", "unavailable",
)  # fmt: skip
_WITH_BODY = ("not-found", "conflict", "validation")
_QUOTED = re.compile(r"(?<!\w)'([^']+)'(?!\w)")  # as code in Markdown, which would drop an angle bracket


def problems_of(handler: HTTPRouteHandler, operation: Json, path: str, method: str, *, has_quota: bool) -> Json:
    """References to the responses of an operation, by their statuses."""
    slugs = {"bad-request"}
    if handler.guards or not handler.opt.get("public"):
        slugs.add("forbidden")
    if "{" in path or "404" in operation["responses"]:
        slugs.add("not-found")
    if "requestBody" in operation:
        slugs |= {*_WITH_BODY}
    if "if_match" in handler.parsed_fn_signature.parameters:
        slugs.add("precondition-failed")
    if method == "put":
        slugs.add("conflict")
    ordered = sorted(slugs, key=lambda slug: PROBLEMS[slug].status)
    found = {str(PROBLEMS[slug].status.value): {"$ref": f"#/components/responses/{slug}"} for slug in ordered}
    if has_quota:
        found["403"] = {"$ref": "#/components/responses/quota-exceeded"}
    return found | {"default": {"$ref": f"#/components/responses/{DEFAULT}"}}


def problem_response(slug: str) -> Json:
    slugs = ["forbidden", slug] if slug == "quota-exceeded" else [slug]  # both have the status 403
    return _response(" Or: ".join(f"{PROBLEMS[each].meaning} [Example](/problems/{each})" for each in slugs))


def common_problems() -> Json:
    kinds = [PROBLEMS[slug] for slug in _COMMON]
    listed = ", ".join(f"[{kind.status.value} {kind.title()}](/problems/{kind.slug})" for kind in kinds)
    return _response(f"A problem that any operation can return: {listed}.")


def _response(text: str) -> Json:
    content = {MEDIA_TYPE: {"schema": {"$ref": reference_to("Problem")}}}
    return {"description": _QUOTED.sub(r"`\1`", text), "content": content}
