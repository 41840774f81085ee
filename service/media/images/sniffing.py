"""What kind of picture a file is, by its first bytes, whatever its name and its sender say."""

_AVIF = {b"avif", b"avis"}


def kind_of(content: bytes) -> str | None:
    """PNG, JPEG, GIF, WEBP or AVIF, or None. What has something behind it is a picture all the same."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    if content[4:8] == b"ftyp":
        length = min(int.from_bytes(content[:4], "big"), 256)
        brands = {content[8:12], *(content[at : at + 4] for at in range(16, length, 4))}
        return "AVIF" if brands & _AVIF else None
    return None
