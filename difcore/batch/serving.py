"""The app: detection by drop in a browser, served by Voila on loopback behind a token, without code and terminals."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from difcore.experiments.showroom import known_fingerprints
from difcore.files import atomic_json
from difcore.fingerprints.detector import Bank

TITLE = """# Which known generator made this image?

*Generated* is said where a real image would match as well in at most the chosen share of cases. *No match* does not
mean real."""
ELSEWHERE = re.compile(r"<link[^>]*https://[^>]*>")  # style sheets that Voila's template loads from other hosts
LARGEST = 2**29  # bytes of all images of one upload


def serve(fingerprints: Sequence[str], port: int = 0, browser: bool = True) -> int:
    """Serve until interrupted; the exit status. ``fingerprints``: as ``known_fingerprints``; ``port`` 0: a free one."""
    Bank(list(known_fingerprints(fingerprints).values()))  # what cannot be used is said here, not in the browser
    words = [str(Path(word).resolve()) if Path(word).is_file() else word for word in fingerprints]
    with TemporaryDirectory(prefix="difcore-") as root:
        code = f"from difcore.batch.examiner import drop_app\ndrop_app({words!r})"
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        page = new_notebook(cells=[new_markdown_cell(TITLE), new_code_cell(code)], metadata=kernel)
        nbformat.write(page, Path(root, "app.ipynb"))
        template = Path(root, "voila", "templates", "difcore")
        atomic_json(template / "conf.json", {"base_template": "lab"})
        (theirs,) = [f for f in files("voila") or () if f.parts[-3:] == ("templates", "lab", "index.html.j2")]
        text = Path(str(theirs.locate())).read_text(encoding="utf-8")
        Path(template, "index.html.j2").write_text(ELSEWHERE.sub("", text), encoding="utf-8")
        if not port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        token = secrets.token_hex(16)
        # In a file of this user's, which Voila reads in its folder: all users see a command line.
        settings = {"ip": "127.0.0.1", "port": port, "token": token, "open_browser": False, "log_level": "ERROR"}
        settings["tornado_settings"] = {"websocket_max_message_size": LARGEST}
        atomic_json(Path(root, "voila.json"), {"Voila": settings, "VoilaConfiguration": {"template": "difcore"}})
        command = [sys.executable, "-m", "voila", "app.ipynb"]
        paths = os.pathsep.join(filter(None, (root, os.environ.get("JUPYTER_PATH"))))
        address = f"http://127.0.0.1:{port}/?token={token}"
        print(f"difcore app: {address} (Ctrl-C ends it)", flush=True)
        server = subprocess.Popen(command, cwd=root, env=os.environ | {"JUPYTER_PATH": paths})
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else the server would outlive this process
        try:
            if browser and listening(port, server):
                webbrowser.open(address)
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            server.terminate()
            server.wait()


def listening(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Wait until a server listens; False if it ends instead."""
    while server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.1)
    return False
