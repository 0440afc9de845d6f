"""difcore: Deep Image Fingerprint, re-implemented to be read, re-run and measured."""

__version__ = "0.1.0"
