"""File names on a terminal and in files. They may hold anything but "/" and NUL, also what is not UTF-8.

Python keeps bytes that are not UTF-8 as lone surrogates. JSON holds a name as it is, by its own escapes, so reading it
gives the path again; CSV and Markdown hold surrogates as "\\udcff". People are shown ``shown(name)``.
"""

from __future__ import annotations

import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (also of writing direction), surrogates, line separators


def shown(name: object) -> str:
    r"""``name`` as text for people: what a terminal would obey or not show becomes \n, \x1b, \udcff or alike."""
    text = str(name)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in HIDDEN else character
        for character in text
    )
