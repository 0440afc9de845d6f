"""Could a detector cheat? What two sets of images differ in besides their generator."""

from difcore.audit.findings import Audit, Finding, audit_classes, look_closer
from difcore.audit.formats import Confounds, confounds_of, matched
from difcore.audit.watermark import MESSAGES, read_marks, write_mark

__all__ = [
    "MESSAGES", "Audit", "Confounds", "Finding", "audit_classes", "confounds_of", "look_closer", "matched",
    "read_marks", "write_mark",
]  # fmt: skip
