"""``python -m difcore.cli``."""

from difcore.cli.app import app

app(prog_name="difcore")
