"""What an image file says of where it is from: it may say anything, so none of it ever decides.

Read from the container that is walked, up to the image's end: what is appended behind it is not the image's. PNG: text
chunks as AUTOMATIC1111 ("parameters") and ComfyUI ("prompt", "workflow") write them, eXIf, XMP. JPEG, WebP, TIFF, HEIC,
AVIF: EXIF and XMP as Pillow finds them. That a C2PA manifest is there is said; it is not verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngStream

from difcore.images.decoding import ImageError, open_image

LONGEST = 2**20  # bytes of a text or a block of metadata that is read
SHOWN = 160  # characters of a value that are kept
CAMERA = {271: "make", 272: "model", 305: "software", 306: "date"}  # EXIF tags
SOURCE_TYPE = re.compile(
    r"digitalSourceType[^>]{0,40}?[\"'>]\s*(?:https?://cv\.iptc\.org/newscodes/)?([\w/:.-]+)", re.I
)
PARAMETERS = {
    "parameters": "AUTOMATIC1111 parameters", "prompt": "ComfyUI prompt", "workflow": "ComfyUI workflow",
    "Software": "software",
}  # fmt: skip
XMP_TEXT, TEXTS = "XML:com.adobe.xmp", (b"tEXt", b"zTXt", b"iTXt")


def stated(path: Path | str) -> dict[str, str]:
    """What the file at ``path`` says of itself by kind of statement, at most ``SHOWN`` characters each; often nothing.

    Kinds: "camera", "software", "date", "AUTOMATIC1111 parameters", "ComfyUI prompt", "ComfyUI workflow", "IPTC digital
    source type", "C2PA". Damaged metadata say nothing; nor does a file that is no image.
    """
    exif, xmp, found = Image.Exif(), "", {}
    content = Path(path).read_bytes()
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        for kind, data in png_chunks(content):
            if kind == b"caBX":
                found["C2PA"] = "a manifest, not verified"
            elif kind == b"eXIf":
                with suppress(Exception):
                    exif.load(data)
            elif kind in TEXTS:
                texts = png_text(kind, data)
                xmp += texts.pop(XMP_TEXT, "")
                found |= {PARAMETERS[key]: text for key, text in texts.items() if key in PARAMETERS}
    else:
        with suppress(ImageError, OSError), open_image(path) as image:
            header: Any = image.header
            with suppress(Exception):
                exif = header.getexif()
            raw = header.info.get("xmp", b"")
            xmp = raw[:LONGEST].decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)[:LONGEST]
            blocks = [data for marker, data in getattr(header, "applist", ()) if marker == "APP11"]
            if any(b"c2pa" in data[:200] for data in blocks):
                found["C2PA"] = "a manifest, not verified"
    values = {name: str(exif[tag]).strip("\0 ") for tag, name in CAMERA.items() if exif.get(tag)}
    if camera := " ".join(filter(None, (values.pop("make", ""), values.pop("model", "")))):
        found["camera"] = camera
    found |= values
    if source := SOURCE_TYPE.search(xmp):
        found["IPTC digital source type"] = source[1].rpartition("/")[2]
    return {key: " ".join(text.split())[:SHOWN] for key, text in found.items() if text.strip()}


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, data) of a PNG's chunks before IEND that are no longer than ``LONGEST``; a chunk cut off ends the walk."""
    at = 8
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if kind == b"IEND" or end > len(content):
            return
        if end - at <= LONGEST:
            yield kind, content[at + 8 : end - 4]
        at = end


def png_text(kind: bytes, data: bytes) -> dict[str, str]:
    """Keyword and text of one text chunk, as Pillow reads it with its limits; empty if it cannot."""
    with suppress(Exception), PngStream(BytesIO(data)) as stream:
        getattr(stream, f"chunk_{kind.decode()}")(0, len(data))
        return {str(key): str(text) for key, text in stream.im_text.items()}
    return {}
