"""Claims of the notebooks that work on anybody's images; the paper has no values for those.

The paper's claims beside what was measured, one list per notebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest, spearmanr

from difcore.experiments.published_images import RELATED
from difcore.fingerprints.correlation import grid_share
from difcore.fingerprints.detector import Fingerprint
from difcore.fingerprints.verdicts import FALSE_ALARM, GENERATED, NOT_APPLICABLE
from difcore.paper import DISPLAY, GAN, LOW_SAMPLES, LOW_SAMPLES_DROP, README_ACCURACY, WITH_IMAGES
from difcore.records.artefacts import Claim
from difcore.stats import (
    SURE,
    Estimate,
    auc_estimate,
    balanced_estimate,
    holm,
    share_estimate,
    sum_estimate,
    t_estimate,
    wilson,
)

DEMO = "demo data: procedural scenes and a small decoder, not the paper's generators"


def judge(text: str, paper: str | float | None, ours: str | float | None, holds: bool, otherwise: str) -> Claim:
    """A claim that holds, or does not for the reason ``otherwise``."""
    return Claim(text, paper, ours, "holds" if holds else "does not hold", "" if holds else otherwise)


def decide(
    text: str, paper: str | float | None, ours: str | float | None, holds: bool, p: float, otherwise: str,
    basis: str = "", open_: str = "undecided",
) -> Claim:  # fmt: skip
    """A claim that a test decides: ``holds``, or not for the reason ``otherwise``, if ``p`` (two-sided) is small.

    Otherwise the data allow both: the verdict is ``open_``, whatever the mean says. ``basis``: what the test is over.
    """
    claim = replace(judge(text, paper, ours, holds, otherwise), p=p, open=open_)
    over = f" over {basis}" if basis else ""
    return claim if p <= SURE else replace(claim, verdict=open_, why=f"p = {p:.2g}{over}: either way is possible")


def judge_above(
    text: str, paper: str | float | None, ours: str | float | None, found: Estimate, bar: float, otherwise: str,
    open_: str = "undecided",
) -> Claim:  # fmt: skip
    """A claim that an estimate is above ``bar``; open if its interval includes the bar."""
    return decide(text, paper, ours, found.value > bar, found.p(bar), otherwise, found.basis, open_)


def judge_gap(text: str, paper: str | float | None, ours: str | float | None, gap: Estimate, otherwise: str) -> Claim:
    """A claim that a gap is above 0; undecided if its interval includes 0."""
    return judge_above(text, paper, ours, gap, 0.0, otherwise)


def judge_best(
    text: str, paper: str | float | None, ours: str | float | None, gaps: Sequence[Estimate], otherwise: str
) -> Claim:
    """A claim that all of ``gaps`` are above 0: as sure as the least sure of them; denied by any that is below.

    To hold, each has to be shown, so the largest p-value counts (Berger 1982); to fail, one is enough of several that
    were looked at, so the smallest is taken times their number.
    """
    wrong = [gap for gap in gaps if not gap.value > 0]
    if not wrong:
        least = max(gaps, key=lambda gap: gap.p(0))
        return decide(text, paper, ours, True, least.p(0), otherwise, least.basis)
    worst = min(wrong, key=lambda gap: gap.p(0))
    return decide(text, paper, ours, False, min(1.0, len(gaps) * worst.p(0)), otherwise, worst.basis)


def judge_near(
    text: str, paper: str | float | None, ours: str | float | None, found: Estimate, target: float, within: float,
    otherwise: str,
) -> Claim:  # fmt: skip
    """A claim that an estimate is within a distance of ``target``: its whole interval is, or is not, or neither."""
    near = abs(found.value - target) <= within
    p = max(found.p(target - within), found.p(target + within))  # inside both ends, or outside the nearer one
    return decide(text, paper, ours, near, p, otherwise, found.basis)


def corrected(claims: Sequence[Claim], tuned: str = "") -> list[Claim]:
    """One notebook's claims, those that a test decided corrected for their number (Holm), so that all hold at once.

    What .05 no longer decides is open again. ``tuned``: what was chosen on these very data, for all that have a verdict
    on them.
    """
    tests = [k for k, claim in enumerate(claims) if claim.p is not None]
    found = [
        replace(claim, tuned="; ".join(filter(None, (claim.tuned, tuned))))
        if tuned and tuned != claim.tuned and claim.verdict != "not comparable"
        else claim
        for claim in claims
    ]
    for k, p in zip(tests, holm([claims[k].p or 0.0 for k in tests]), strict=True):
        claim = found[k]
        if p > SURE and claim.verdict in ("holds", "does not hold"):
            why = f"p = {claim.p:.2g}, {p:.2g} corrected for {len(tests)} claims (Holm): either way is possible"
            found[k] = replace(claim, verdict=claim.open, why=why)
    return found


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
    table = table.sort_values("step")
    first, last = table.iloc[0], table.iloc[-1]
    periods = [int(c.rsplit("_", 1)[1]) for c in table.columns if c.startswith("grid_period_")]
    excess = {p: last[f"grid_period_{p}"] / (p * p / size**2) for p in periods}
    strongest = max(excess, key=lambda p: excess[p])
    share = table[f"grid_period_{strongest}"]
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
            f"loss {first.loss:.2g} to {last.loss:.2g}, share of period {strongest}: {share.min():.3f} to "
            f"{share.max():.3f} over {len(table)} steps",
            bool(share.min() > 10 * strongest**2 / size**2 and (table.loss.diff().dropna() < 0).all()),
            "at some step the grid is as faint as noise, or the loss did not fall",
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


LIMIT_TUNED = "the filter photos-long and the limit .4 were chosen on the authors' 120 images"
PNG_TOO = (
    "the encoding takes the pattern away. The lineage table, in which all fakes are PNG and most fingerprints stay "
    "near chance, speaks against the format as the reason"
)
LOSS = 0.05  # AUC that the control may cost


def detection_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``03_published_detection``: the README's row of 13 accuracies, one claim each, and the control.

    20 images cannot show that an accuracy is the paper's; they can show that it is not, or be consistent with it.
    """
    native = table[table.encoding == "native"].set_index("generator")
    claims = []
    for name, value in README_ACCURACY.items():
        text = f"{DISPLAY[name]}: accuracy of the published fingerprint with the published centres"
        if name not in native.index:
            claims.append(Claim(text, f"{value} %", None, "not comparable", "the release has no images of it"))
            continue
        row = native.loc[name]
        found = balanced_estimate(row.accuracy_real, row.n_real, row.accuracy_fake, row.n_fake)
        p, count = found.p(value / 100), f"n = {row.n_real + row.n_fake}"
        why = "the paper's value is outside our interval; the denoiser is ours, the authors' weights are not public"
        if p > SURE:
            low, high = found.interval
            why = f"{count}: any accuracy from {percent(low)} to {percent(high)} would be"
        verdict = "does not hold" if p <= SURE else "consistent"
        claims.append(Claim(text, f"{value} %", measured(row), verdict, why, p, open="consistent"))
    control = table[table.encoding != "native"].set_index("generator")
    if len(control):
        order = [name for name in WITH_IMAGES if name in native.index]
        change = control.auc[order] - native.auc[order]
        found = t_estimate(change, f"{len(order)} generators")
        low, high = found.interval
        lost = ", ".join(DISPLAY[name] for name in order if change[name] < -LOSS)
        claims.append(
            judge_above(
                "Detection does not need the classes' file formats to differ: one last encoding of both "
                f"({control.encoding.iloc[0]}) costs at most {LOSS} of AUC",
                "not tested (58 of the 60 reals are JPEG, all fakes PNG)",
                f"mean AUC {native.auc.mean():.2f} becomes {control.auc.mean():.2f}, {found.value:+.2f} "
                f"[{low:+.2f}, {high:+.2f}] over {found.basis}",
                found, -LOSS, f"falls for {lost or 'none alone'}: {PNG_TOO}",
            )
        )  # fmt: skip
    return claims


def detection_figure_frame(table: pd.DataFrame) -> pd.DataFrame:
    """The 13 generators with the paper's accuracy and ours (native encoding), in percent, for the figure."""
    native = table[table.encoding == "native"].set_index("generator").reindex(list(README_ACCURACY))
    ours = {"ours": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    frame = pd.DataFrame({key: 100 * native[column] for key, column in ours.items()})
    return frame.assign(paper=pd.Series(README_ACCURACY)).rename_axis("generator").reset_index()


FINDS = 0.75  # AUC from which on a fingerprint is said to find images
CHANCE = 0.5


def area_of(row: pd.Series) -> Estimate:
    """AUC of a row of any detection table, over its test images."""
    return auc_estimate(row.auc, int(row.n_real), int(row.n_fake))


def found_above_chance(rows: pd.DataFrame) -> tuple[list[str], float]:
    """Names of the rows whose AUC is above chance, corrected for their number, and the smallest such p-value.

    ``rows``: auc, n_real, n_fake by name.
    """
    p = holm([area_of(row).p(CHANCE) if row.auc > CHANCE else 1.0 for _, row in rows.iterrows()])
    return [str(name) for name, value in zip(rows.index, p, strict=True) if value <= SURE], min(p)


def silent_claim(text: str, paper: str | None, rows: pd.DataFrame) -> Claim:
    """A claim that none of several fingerprints finds images: few images can deny it, or be consistent with it.

    ``rows``: auc, n_real, n_fake by display name.
    """
    loud, p = found_above_chance(rows)
    top = rows.auc.idxmax()
    ours = f"highest AUC {rows.auc[top]:.2f} ({top}), {len(loud)} of {len(rows)} above chance"
    count = f"{rows.n_real.iloc[0]} + {rows.n_fake.iloc[0]}"
    why = f"above chance: {', '.join(loud)}" if loud else f"n = {count}: faint detection would not be seen"
    return Claim(text, paper, ours, "does not hold" if loud else "consistent", why, p, open="consistent")


def lineage_claims(detection: pd.DataFrame, correlation: pd.DataFrame) -> list[Claim]:
    """Of ``04_published_lineage``: MJ and SD 1.4 detect each other, nothing unrelated does."""
    table = detection.set_index(["fingerprint", "images"])
    gans = detection[detection.fingerprint.isin(GAN) & detection.images.isin(["sd14", "mj"])]
    gans = gans.set_index(gans.fingerprint.map(DISPLAY) + " on " + gans.images.map(DISPLAY))
    off = correlation[correlation.a < correlation.b].assign(size=lambda t: t.ncc.abs())
    top = off.loc[off["size"].idxmax()]
    of_pair = float(off.set_index(["a", "b"])["size"][("mj", "sd14")])
    rank = int((off["size"] > of_pair).sum()) + 1
    random_looking = rank / len(off) > SURE
    claims = []
    for a, b in sorted(RELATED):
        area = area_of(table.loc[(a, b)])
        low, high = area.interval
        claims.append(
            judge_above(
                f"{DISPLAY[a]}'s fingerprint detects {DISPLAY[b]}'s images, better than chance (MJ is a fine-tuned SD "
                "1.4)",
                "high, both ways", f"AUC {area.value:.3f} [{low:.3f}, {high:.3f}], n = {area.basis}", area, CHANCE,
                "it is below",
            )
        )  # fmt: skip
    return [
        *claims,
        silent_claim("GAN fingerprints do not detect SD 1.4 or MJ images", "unrelated models near chance", gans),
        Claim(
            "Correlating fingerprints with each other does not show the lineage (S C.5)",
            "F_E correlations look random",
            f"|NCC| of MJ and SD 1.4 is {of_pair:.3f}, rank {rank} of {len(off)} pairs; the highest is "
            f"{DISPLAY[top.a]} and {DISPLAY[top.b]}, {top['size']:.3f}",
            "consistent" if random_looking else "does not hold",
            f"one pair of {len(off)}: a random one ranks as high with p = {rank / len(off):.2g}",
            rank / len(off),
            open="consistent",
        ),
    ]


def denoiser_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``05_train_denoiser``: training raises PSNR; agreement with the published fingerprints need not rise."""
    claims = []
    for label, rows in table.groupby("denoiser", sort=False):
        rows = rows.sort_values("step")
        best = rows.loc[rows.mean_auc.idxmax()]
        last = rows.iloc[-1]
        trend = spearmanr(rows.psnr_10, rows.mean_auc) if len(rows) > 2 else None
        rho, p = (float(trend.statistic), float(trend.pvalue)) if trend else (np.nan, 1.0)
        claims.append(
            decide(
                f"{label}: a stronger filter agrees better with the published fingerprints",
                "not tested (weights trained for 2000 epochs, not public)",
                f"rank correlation of PSNR and mean AUC {rho:+.2f} over {len(rows)} snapshots; mean AUC "
                f"{best.mean_auc:.3f} at step {best.step} ({best.psnr_10:.1f} dB at sigma 10), "
                f"{last.mean_auc:.3f} at step {last.step} ({last.psnr_10:.1f} dB)",
                rho > 0,
                1.0 if np.isnan(p) else p,
                "the agreement falls as the PSNR rises",
                "the snapshots",
            )
        )
    return claims


NOT_THE_PAPERS = "not the paper's generators"


def own_claims(table: pd.DataFrame, data: str, method: str = "DIF") -> list[Claim]:
    """Of ``18_train_your_own``: it detects; it does not need the classes' formats to differ."""
    first = table.iloc[0]
    told = f"at N_S = {LOW_SAMPLES} most models lose {LOW_SAMPLES_DROP:.0f} points (S C.1)"
    text = f"{method} detects images of this generator from {first.n_train}+{first.n_train} training images (on {data})"
    claims = [Claim(text, told, measured(first), "not comparable", NOT_THE_PAPERS)]
    for _, row in table.iloc[1:].iterrows():
        change = sum_estimate([1, -1], [area_of(row), area_of(first)], f"{row.n_real} + {row.n_fake} images")
        lost = change.value < 0 and change.p(0) <= SURE
        text = f"Detection does not rest on the classes' formats: it survives one last encoding ({row.encoding})"
        ours = f"AUC {first.auc:.3f} [{first.auc_low:.3f}, {first.auc_high:.3f}] becomes {row.auc:.3f}"
        why = "it falls: the encoding takes it away" if lost else f"no fall to be seen on {change.basis}"
        verdict = "does not hold" if lost else "consistent"
        claims.append(Claim(text, "not tested", ours, verdict, why, change.p(0), open="consistent"))
    return claims


def detect_claims(table: pd.DataFrame, data: str, rate: float = FALSE_ALARM) -> list[Claim]:
    """Of ``19_detect_your_own``, where names tell what made an image: how often the best match is right; false alarms.

    Parameters
    ----------
    table : DataFrame
        As ``decisions.judge``; file names begin with the fingerprint's name, or with "real".
    rate : float
        Of false alarms, that it was judged at.
    """
    table = table[table["verdict"] != NOT_APPLICABLE]
    table = table.assign(origin=table["image"].str.rsplit("_", n=1).str[0])
    return [naming_claim(table, data), alarm_claim(table, data, rate)]


def naming_claim(table: pd.DataFrame, data: str) -> Claim:
    """The best match names the generator of a generated image more often than chance, one in so many fingerprints."""
    text = f"The best match names the generator, more often than chance (on {data})"
    told = "cross-detection of unrelated models is low (S C.3)"
    names = set(table["fingerprint"])
    fakes = table[~table["image"].duplicated() & table["origin"].isin(names)]
    if not len(fakes):
        return Claim(text, told, None, "not comparable", "no file's name says which of the generators made it")
    right = int((fakes["fingerprint"] == fakes["origin"]).sum())
    share = share_estimate(right / len(fakes), len(fakes), f"{len(fakes)} fakes")
    ours = f"{right} of {len(fakes)} fakes named rightly, {percent(share.value, *share.interval)}"
    if len(names) < 2:
        return Claim(text, told, ours, "not comparable", "with one fingerprint there is nothing to choose from")
    chance = 1 / len(names)
    return judge_above(text, told, ours, share, chance, f"no more often than chance, {percent(chance)}")


def alarm_claim(table: pd.DataFrame, data: str, rate: float) -> Claim:
    """Real images are called generated at the stated rate at most: binomial, two-sided."""
    text = f"Real images are called generated in no more than {percent(rate)} of cases (on {data})"
    told = "no rate is stated"
    reals = table[(table["origin"] == "real") & table["p_holm"].notna()]  # without a null nothing can be called so
    n, claimed = reals["image"].nunique(), reals.loc[reals["verdict"] == GENERATED, "image"].nunique()
    if not n:
        return Claim(text, told, None, "not comparable", "no file's name says that it is real, or there is no null")
    ours = f"{claimed} of {n} reals, {percent(claimed / n, *wilson(claimed, n))}"
    p = float(binomtest(claimed, n, rate).pvalue)
    return decide(text, told, ours, claimed <= rate * n, p, "more often than stated", f"{n} reals", "consistent")
