"""The paper's claims beside what was measured, one list per notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from difcore.artefacts import Claim
from difcore.experiments.published import RELATED
from difcore.fingerprints import Fingerprint
from difcore.grids import grid_share
from difcore.paper import DISPLAY, GAN, LOW_SAMPLES, LOW_SAMPLES_DROP, README_ACCURACY, WITH_IMAGES

DEMO = "demo data: procedural scenes and a small decoder, not the paper's generators"


def judge(text: str, paper: str | float | None, ours: str | float | None, holds: bool, otherwise: str) -> Claim:
    """A claim that holds, or does not for the reason ``otherwise``."""
    return Claim(text, paper, ours, "holds" if holds else "does not hold", "" if holds else otherwise)


def judge_gap(
    text: str, paper: str | float | None, ours: str, gap: tuple[float, float, float], otherwise: str
) -> Claim:
    """A claim that a gap (mean, low, high) is above 0; if its interval does not say which side, ``why`` does."""
    claim = judge(text, paper, ours, gap[0] > 0, otherwise)
    if gap[1] > 0 or gap[2] < 0:
        return claim
    return replace(claim, why=f"{claim.why}; by the mean alone, the interval includes 0".removeprefix("; "))


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """A fraction as percent, with its interval if given: "95.0 % [76.4, 99.1]"."""
    text = f"{100 * value:.1f} %"
    return text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def measured(row: pd.Series) -> str:
    """Accuracy and AUC of a row of any detection table, with intervals and counts."""
    accuracy = percent(row.accuracy, row.accuracy_low, row.accuracy_high)
    area = f"AUC {row.auc:.3f} [{row.auc_low:.3f}, {row.auc_high:.3f}]"
    return f"{accuracy}, {area}, n = {row.n_real}+{row.n_fake}"


def demo_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``00_start_here``: DIF detects, and beats averaging, with few training images."""
    dif, mean = (table[table.method == m].iloc[0] for m in ("DIF", "Marra18"))
    return [
        Claim(
            f"DIF detects images of a known generator from {dif.n_train}+{dif.n_train} training images",
            f"at N_S = {LOW_SAMPLES} most models lose {LOW_SAMPLES_DROP:.0f} points (S C.1)",
            measured(dif),
            "not comparable",
            DEMO,
        ),
        Claim(
            "DIF is better than the averaged residual (Marra18)",
            "92.3 % against 62.6 % (Tab. A)",
            f"{percent(dif.accuracy)} against {percent(mean.accuracy)}",
            "not comparable",
            DEMO,
        ),
    ]


def gray_claims(table: pd.DataFrame, size: int) -> list[Claim]:
    """Of ``01_gray_image``: the output's grid is far stronger than chance, and stays as the loss falls."""
    first, last = table.iloc[0], table.iloc[-1]
    periods = [int(c.rsplit("_", 1)[1]) for c in table.columns if c.startswith("grid_period_")]
    excess = {p: last[f"grid_period_{p}"] / (p * p / size**2) for p in periods}
    strongest = max(excess, key=lambda p: excess[p])
    return [
        judge(
            "An architecture with up-sampling leaves a grid although its target is plain gray",
            "seen as peaks in Fourier space",
            f"grid of period {strongest} px holds {excess[strongest]:.0f} times white noise's share",
            excess[strongest] > 10,
            "no period stands out ten-fold",
        ),
        judge(
            "The pattern remains while the output approaches gray",
            "visible at every epoch shown",
            f"loss {first.loss:.2g} to {last.loss:.2g}, share of period {strongest}: "
            f"{first[f'grid_period_{strongest}']:.3f} to {last[f'grid_period_{strongest}']:.3f}",
            bool(last[f"grid_period_{strongest}"] > 10 * strongest**2 / size**2 and last.loss < first.loss),
            "the grid faded to noise, or the loss did not fall",
        ),
    ]


def fingerprint_table(
    fingerprints: Mapping[str, Fingerprint], periods: tuple[int, ...] = (2, 4, 8, 16)
) -> pd.DataFrame:
    """How periodic each fingerprint is: its grid's share of the energy over white noise's, per period, and centres."""
    rows = []
    for name, fingerprint in fingerprints.items():
        pattern = fingerprint.pattern.numpy()
        noise = {p: p * p / (pattern.shape[1] * pattern.shape[2]) for p in periods}
        shares = {f"grid_{p}_over_noise": grid_share(pattern, p) / noise[p] for p in periods}
        centres = {"mu_real": fingerprint.mu_real, "mu_fake": fingerprint.mu_fake}
        rows.append({"generator": name, "size": pattern.shape[-1], **centres, **shares})
    return pd.DataFrame(rows)


def fingerprint_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``02_fingerprints``: published fingerprints are periodic."""
    published = table[table.generator.isin(DISPLAY)]
    columns = [c for c in table.columns if c.startswith("grid_")]
    periodic = published[columns].max(axis=1) > 10
    names = ", ".join(DISPLAY[g] for g in published.generator[~periodic])
    return [
        judge(
            "Fingerprints are periodic: a grid holds over ten times the energy it would in white noise",
            f"{len(published)} fingerprints",
            f"{int(periodic.sum())} of {len(published)}",
            bool(periodic.all()),
            f"not: {names}",
        )
    ]


def detection_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``03_published_detection``: the README's row of 13 accuracies, one claim each, and the control."""
    native = table[table.encoding == "native"].set_index("generator")
    claims = []
    for name, value in README_ACCURACY.items():
        text = f"{DISPLAY[name]}: accuracy of the published fingerprint with the published centres"
        if name not in native.index:
            claims.append(Claim(text, f"{value} %", None, "not comparable", "the release has no images of it"))
            continue
        row = native.loc[name]
        inside = row.accuracy_low <= value / 100 <= row.accuracy_high
        why = "the paper's value is outside our interval; the denoiser is ours, the authors' weights are not public"
        claims.append(judge(text, f"{value} %", measured(row), bool(inside), why))
    control = table[table.encoding != "native"].set_index("generator")
    if len(control):
        kept = [g for g in WITH_IMAGES if control.auc[g] >= native.auc_low[g]]
        lost = ", ".join(DISPLAY[g] for g in WITH_IMAGES if g not in kept)
        claims.append(
            judge(
                "Detection does not need the classes' file formats to differ: it survives one last encoding "
                f"of both ({control.encoding.iloc[0]})",
                "not tested (58 of the 60 reals are JPEG, all fakes PNG)",
                f"mean AUC {native.auc.mean():.2f} becomes {control.auc.mean():.2f}; "
                f"within the native interval for {len(kept)} of {len(WITH_IMAGES)}",
                len(kept) == len(WITH_IMAGES),
                f"falls for {lost}: the encoding takes the pattern away. The lineage table, in which all fakes are "
                "PNG and most fingerprints stay near chance, speaks against the format as the reason",
            )
        )
    return claims


def detection_figure_frame(table: pd.DataFrame) -> pd.DataFrame:
    """The 13 generators with the paper's accuracy and ours (native encoding), in percent, for the figure."""
    native = table[table.encoding == "native"].set_index("generator").reindex(list(README_ACCURACY))
    ours = {"ours": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    frame = pd.DataFrame({key: 100 * native[column] for key, column in ours.items()})
    return frame.assign(paper=pd.Series(README_ACCURACY)).rename_axis("generator").reset_index()


def lineage_claims(detection: pd.DataFrame, correlation: pd.DataFrame) -> list[Claim]:
    """Of ``04_published_lineage``: MJ and SD 1.4 detect each other, nothing unrelated does."""
    table = detection.pivot(index="fingerprint", columns="images", values="auc")
    cross = {pair: table.loc[pair[0], pair[1]] for pair in sorted(RELATED)}
    gans = table.loc[list(GAN), ["sd14", "mj"]]
    off = correlation[correlation.a < correlation.b].assign(size=lambda t: t.ncc.abs())
    top = off.loc[off["size"].idxmax()]
    of_pair = float(off.set_index(["a", "b"])["size"][("mj", "sd14")])
    rank = int((off["size"] > of_pair).sum()) + 1
    return [
        judge(
            f"{DISPLAY[a]}'s fingerprint detects {DISPLAY[b]}'s images (MJ is a fine-tuned SD 1.4)",
            "high, both ways",
            f"AUC {value:.3f}",
            bool(value >= 0.97),
            "AUC below 0.97",
        )
        for (a, b), value in cross.items()
    ] + [
        judge(
            "GAN fingerprints do not detect SD 1.4 or MJ images",
            "unrelated models near chance",
            f"highest AUC {np.max(gans.to_numpy()):.2f}",
            bool(np.max(gans.to_numpy()) <= 0.8),
            "some GAN fingerprint exceeds 0.80",
        ),
        judge(
            "Correlating fingerprints with each other does not show the lineage (S C.5)",
            "F_E correlations look random",
            f"|NCC| of MJ and SD 1.4 is {of_pair:.3f}, rank {rank} of {len(off)}; the highest is "
            f"{DISPLAY[top.a]} and {DISPLAY[top.b]}, {top['size']:.3f}",
            rank > 1,
            "the related pair has the highest correlation of all",
        ),
    ]


def denoiser_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``05_train_denoiser``: training raises PSNR; agreement with the published fingerprints need not rise."""
    claims = []
    for label, rows in table.groupby("denoiser", sort=False):
        rows = rows.sort_values("step")
        best = rows.loc[rows.mean_auc.idxmax()]
        last = rows.iloc[-1]
        claims.append(
            judge(
                f"{label}: a stronger filter agrees better with the published fingerprints",
                "not tested (weights trained for 2000 epochs, not public)",
                f"mean AUC {best.mean_auc:.3f} at step {best.step} ({best.psnr_10:.1f} dB at sigma 10), "
                f"{last.mean_auc:.3f} at step {last.step} ({last.psnr_10:.1f} dB)",
                bool(best.step == last.step),
                "the best agreement comes before the best PSNR",
            )
        )
    return claims
