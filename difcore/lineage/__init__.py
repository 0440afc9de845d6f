"""From cross-detection to families of models: kinship with confidence, block means, permutation tests."""

from difcore.lineage.families import EdgeScores, Evidence, edge_scores, evidence, family, kinship
from difcore.lineage.matrices import GroupTest, block_means, group_test, matrix_permutation, parts, rank_correlation

__all__ = [
    "EdgeScores", "Evidence", "GroupTest", "block_means", "edge_scores", "evidence", "family", "group_test", "kinship",
    "matrix_permutation", "parts", "rank_correlation",
]  # fmt: skip
