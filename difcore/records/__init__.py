"""What an experiment leaves behind: grids cell by cell, claims beside the paper's, tables, figures and run.json."""
