"""What the machine offers: devices and tensors, the fused convolution, and the cache of what was computed once."""
