"""A PNG without the chunks that have nothing to do with its pixels.

Pillow refuses a PNG for what stands beside the image: a generator's workflow of more than a megabyte of text, a colour
profile of an unknown compression, a short pHYs. Its limits are globals that all code in the process shares, so what is
not needed is left out before Pillow sees the file.
"""

from __future__ import annotations

import zlib

SIGNATURE = 8  # bytes before the first chunk
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
ORIENTED = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # texts that may say how the image is turned
LIMIT = 2**20  # bytes of such a text, inflated


def pixel_chunks(content: bytes) -> bytes:
    """The PNG ``content`` with nothing but its (first, still) image and what tells its orientation.

    A chunk cut off by the file's end stays, so that the damage is seen.
    """
    kept, at = [content[:SIGNATURE]], SIGNATURE
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if end > len(content) or kind in PIXELS or (kind in TEXTS and _may_turn(kind, content[at + 8 : end - 4])):
            kept.append(content[at:end])
        if kind == b"IEND":
            break
        at = end
    return b"".join(kept)


def _may_turn(kind: bytes, data: bytes) -> bool:
    """Whether a text chunk may hold an orientation, and does not inflate beyond ``LIMIT``."""
    keyword, _, rest = data.partition(b"\0")
    if keyword not in ORIENTED or len(data) > LIMIT:
        return False
    packed = rest[1:] if kind == b"zTXt" else b""
    if kind == b"iTXt" and rest[:1] == b"\1":
        packed = rest[2:].split(b"\0", 2)[-1]  # behind flag, method, language and translated keyword
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(packed, LIMIT)
    except zlib.error:
        return False
    return not inflate.unconsumed_tail
