"""What stands in for data that cannot be shipped: scenes, small generators, ProGANs, and their training."""
