"""Residual filters f_D with their bias F_D, the training of DnCNN-S, and residuals of many images, denoised once."""

from difcore.residuals.denoiser_training import TrainingPlan, export_snapshot, psnr, train_dncnn
from difcore.residuals.denoisers import LIMIT, SHIPPED, Denoiser, DnCNN, load_denoiser, save_denoiser
from difcore.residuals.sets import ResidualSet, residuals_of

__all__ = [
    "LIMIT", "SHIPPED", "Denoiser", "DnCNN", "ResidualSet", "TrainingPlan", "export_snapshot", "load_denoiser", "psnr",
    "residuals_of", "save_denoiser", "train_dncnn",
]  # fmt: skip
