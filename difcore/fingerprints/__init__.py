"""Fingerprints: priors, DIF and averaged residuals, correlation, nulls and verdicts, the files of both kinds."""
