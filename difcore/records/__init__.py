"""What an experiment leaves behind: grids cell by cell, claims beside the paper's, tables, figures and run.json."""

from difcore.records.artefacts import Artefact, artefact
from difcore.records.claims import Claim
from difcore.records.tables import show_table

__all__ = ["Artefact", "Claim", "artefact", "show_table"]
