"""The command line, ``difcore``."""
