"""``python -m difcore.cli``."""

from difcore.cli.app import app

if __name__ == "__main__":
    app(prog_name="difcore")
