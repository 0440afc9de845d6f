"""An artefact a file: what is computed for it, its tidy table, its claims."""
