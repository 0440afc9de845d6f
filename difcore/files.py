"""Files of the project: atomic writes, hashes, names that a terminal can show, one writer at a time in a folder.

File names may hold anything but "/" and NUL. Python keeps bytes that are not UTF-8 as lone surrogates: JSON holds such
a name by its own escapes, so reading it gives the path again; CSV and Markdown hold "\\udcff"; people see ``shown``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE_DIR = Path(__file__).resolve().parent
PROJECT_DIR = PACKAGE_DIR.parent  # the checkout; of an installed wheel, a folder without a project
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (also of writing direction), surrogates, line separators
LOCK_NAME = ".lock"
# Weights and facts: a wheel carries them in the package, a checkout at its top level.
DATA_DIR = PACKAGE_DIR / "data" if (PACKAGE_DIR / "data").is_dir() else PROJECT_DIR / "data"


def atomic_write(path: Path | str, write: Callable[[Path], Any]) -> Path:
    """Call ``write`` on a temporary file beside ``path``, then move it into place: a reader never sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return path


def atomic_text(path: Path | str, text: str) -> Path:
    """Write ``text`` as UTF-8 to ``path``, atomically; a lone surrogate as \\udcff, which JSON reads back."""
    return atomic_write(path, lambda p: p.write_text(text, encoding="utf-8", errors="backslashreplace"))


def atomic_json(path: Path | str, document: Any) -> Path:
    """Write ``document`` as indented JSON to ``path``, atomically."""
    return atomic_text(path, json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path | str) -> dict[str, Any]:
    """The mapping in a JSON file; empty if there is none or it is damaged."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def atomic_safetensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write tensors to ``path`` atomically; each metadata value is stored as JSON text. Equal content, equal bytes."""
    from safetensors.torch import save  # imports torch, which the batch and the report do without

    text = {key: json.dumps(value, default=str) for key, value in metadata.items()}
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    return atomic_write(path, lambda p: p.write_bytes(_sorted_header(save(contiguous, text))))


def read_safetensors(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file written by ``atomic_safetensors``; else SafetensorError, ValueError."""
    from safetensors.torch import load

    content = Path(path).read_bytes()  # the library opens no path that is not UTF-8
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, {key: json.loads(value) for key, value in header.get("__metadata__", {}).items()}


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2^32) from others and names: a hash of their texts."""
    return int(sha256_bytes(" ".join(map(str, parts)).encode())[:8], 16)


def _sorted_header(document: bytes) -> bytes:
    """A safetensors document with its header's keys in order: the library writes the metadata in a random one."""
    length = int.from_bytes(document[:8], "little")
    header = json.dumps(json.loads(document[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the data start at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + document[8 + length :]


def sha256_bytes(*parts: bytes | memoryview) -> str:
    """Hex SHA-256 of the concatenated parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def read_registry(path: Path) -> dict[str, str]:
    """File names and their SHA-256, of lines "name hash"."""
    return dict(line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shown(name: object) -> str:
    r"""``name`` as text for people: what a terminal would obey or not show becomes \n, \x1b, \udcff or alike."""
    text = str(name)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in HIDDEN else character
        for character in text
    )


class NeedsData(RuntimeError):
    """Data that this machine does not have; the batch reports the notebook as skipped, not as failed."""


class LockedError(ValueError):
    """Another process writes to the folder; the message says which."""


@contextmanager
def only_writer(
    folder: Path, wait: bool = False, tell: Callable[[str], None] = lambda line: None, name: str = LOCK_NAME
) -> Iterator[None]:
    """Within, no other process that asks for it writes to ``folder``; else LockedError, or ``wait`` after ``tell``.

    The system lets go of the lock when the process ends, however it ends. File systems that cannot lock go without.
    ``name``: of the lock file, where a lock is for a part of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "a+", encoding="utf-8") as stream:  # not inherited by what is started meanwhile
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                other = f"another run writes to {os.path.relpath(folder)}: {stream.read().strip() or 'unknown process'}"
                if not wait:
                    raise LockedError(f"{other}; wait until it is done, or give --wait") from None
                tell(f"{other}; waiting for it")
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError:  # this file system has no locks
                pass
        stream.truncate(0)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        stream.write(f"process {os.getpid()} on {platform.node() or 'this machine'}, since {since}\n")
        stream.flush()
        yield
