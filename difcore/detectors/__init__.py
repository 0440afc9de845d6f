"""The methods that the paper compares behind one interface: fingerprints, Joslin20, ResNet-50, Grag21, ResNet-M."""
