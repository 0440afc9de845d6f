"""Residual filters f_D with their bias F_D, the training of DnCNN-S, and residuals of many images, denoised once."""
