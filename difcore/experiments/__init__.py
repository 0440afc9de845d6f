"""One function per experiment: each returns tidy tables with n, seed, accuracy, AUC and intervals."""
