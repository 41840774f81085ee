"""Operations whose bodies Litestar cannot document, because a handler's signature does not show them."""

from dataclasses import dataclass

from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)

from service.errors import Problem
from service.web.event_stream import EVENT_STREAM

NOT_FOUND = {404: ResponseSpec(Problem, generate_examples=False)}
QUOTA = {403: ResponseSpec(Problem, generate_examples=False)}  # also when a quota is used up
ETAG = ResponseHeader(name="ETag", documentation_only=True)

_TEXT = Schema(type=OpenAPIType.STRING)
_BYTES = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)


@dataclass
class UploadOperation(Operation):
    """Takes one file, as a form or as the body itself."""

    def __post_init__(self) -> None:
        # Generators take the first content, and few know image/*.
        self.request_body = RequestBody(
            required=True,
            content=_form(_BYTES)
            | {media_type: OpenAPIMediaType(schema=_BYTES) for media_type in ("application/octet-stream", "image/*")},
        )


@dataclass
class UploadsOperation(Operation):
    """Takes a form of files."""

    def __post_init__(self) -> None:
        files = Schema(type=OpenAPIType.ARRAY, items=_BYTES, min_items=1, max_items=100)
        self.request_body = RequestBody(required=True, content=_form(files))


@dataclass
class UpdateOrUploadOperation(Operation):
    """Takes JSON, or a form with one file."""

    def __post_init__(self) -> None:
        if isinstance(self.request_body, RequestBody):
            self.request_body.content |= _form(_BYTES)


@dataclass
class OptionalBodyOperation(Operation):
    """Takes JSON, or no body."""

    def __post_init__(self) -> None:
        if not isinstance(self.request_body, RequestBody):
            return
        self.request_body.required = False
        for content in self.request_body.content.values():
            if isinstance(content.schema, Schema) and content.schema.one_of:
                content.schema = content.schema.one_of[0]  # without null, which no client sends instead of no body
                content.example = {}


@dataclass
class EmptyOperation(Operation):
    """Answers without a body."""

    def __post_init__(self) -> None:
        for status in {"202", "204"} & (self.responses or {}).keys():
            response = (self.responses or {})[status]
            if not isinstance(response, Reference):
                response.content = None


@dataclass
class PictureOperation(Operation):
    """Answers a picture, or redirects to it."""

    def __post_init__(self) -> None:
        _add_content(self, "image/webp", _BYTES)
        location = OpenAPIHeader(description="The URL of the picture.", schema=_TEXT)
        self.responses = (self.responses or {}) | {
            "307": OpenAPIResponse(
                description="The picture is at another URL, which is valid for ten minutes.",
                headers={"Location": location},
            )
        }


@dataclass
class CardOperation(Operation):
    """Answers a card in one of its formats."""

    def __post_init__(self) -> None:
        for media_type in ("image/png", "application/zip"):
            _add_content(self, media_type, _BYTES)


@dataclass
class GraphOperation(Operation):
    """Answers a graph as JSON or as Mermaid."""

    def __post_init__(self) -> None:
        _add_content(self, "text/vnd.mermaid", _TEXT)


@dataclass
class LinesOperation(Operation):
    """Answers lines of JSON."""

    def __post_init__(self) -> None:
        _add_content(
            self,
            "application/x-ndjson",
            Schema(type=OpenAPIType.STRING, description="One JSON object a line."),
        )


@dataclass
class EventStreamOperation(Operation):
    """Answers JSON or server-sent events."""

    def __post_init__(self) -> None:
        _add_content(self, EVENT_STREAM, _TEXT)


def _form(file: Schema) -> dict[str, OpenAPIMediaType]:
    schema = Schema(type=OpenAPIType.OBJECT, properties={"file": file}, required=["file"], additional_properties=False)
    return {"multipart/form-data": OpenAPIMediaType(schema=schema)}


def _add_content(operation: Operation, media_type: str, schema: Schema) -> None:
    response = (operation.responses or {})["200"]
    if not isinstance(response, Reference):
        response.content = (response.content or {}) | {media_type: OpenAPIMediaType(schema=schema)}
