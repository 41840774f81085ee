"""Detects the format of a picture from its first bytes. Names and media types are not trusted."""

START = 256  # bytes of the picture that are enough

_AVIF = {b"avif", b"avis"}


def sniff_format(content: bytes) -> str | None:
    """PNG, JPEG, GIF, WEBP, AVIF, or None. Data after the picture is ignored."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    if content[4:8] == b"ftyp":
        length = min(int.from_bytes(content[:4], "big"), START)
        brands = {content[8:12], *(content[at : at + 4] for at in range(16, length, 4))}
        return "AVIF" if brands & _AVIF else None
    return None
