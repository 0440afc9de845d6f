"""From cross-detection to families of models: kinship with confidence, block means, permutation tests."""
