"""Bodies in the OpenAPI document that are not JSON."""

_BYTES = {"type": "string", "format": "binary"}
PICTURE = {"image/webp": {"schema": _BYTES}}
ELSEWHERE = {
    "description": "The picture is at another URL, which is valid for ten minutes.",
    "headers": {"Location": {"description": "The URL of the picture.", "schema": {"type": "string"}}},
}
_FILE = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"file": _BYTES},
            "required": ["file"],
            "additionalProperties": False,
        }
    }
}
# Generators take the first content, and few know image/*.
UPLOAD = {
    "required": True,
    "content": _FILE | {"application/octet-stream": {"schema": _BYTES}, "image/*": {"schema": _BYTES}},
}
CARDS = {"image/png": {"schema": _BYTES}, "application/zip": {"schema": _BYTES}}
_FILES = {"type": "array", "items": _BYTES, "minItems": 1, "maxItems": 100}
UPLOADS = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": _FILES},
                "required": ["file"],
                "additionalProperties": False,
            }
        }
    },
}
LINES = {"schema": {"type": "string", "description": "One JSON object a line."}}
