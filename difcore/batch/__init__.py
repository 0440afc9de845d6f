"""All notebooks of a profile in processes of their own, and one report."""
