"""Controls over figures: change a value, see the figure again."""
