"""The supplement's claims on detection beside what was measured: Tables A to C, Figures B to E, methods.

Orderings are tested on whatever was measured, demo images too, and the verdict's text says on what. Sizes ("5 points")
are compared on the paper's generators alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from difcore.artefacts import Claim
from difcore.cells import OK
from difcore.experiments.detecting import good
from difcore.experiments.summaries import MEAN, matrix, mean_of, paired_gap
from difcore.experiments.verdicts import judge, judge_gap, percent
from difcore.paper import (
    CLAIMS,
    DISPLAY,
    FIG_D_METHODS,
    LOW_SAMPLES,
    LOW_SAMPLES_DROP,
    TABLE_A,
    TABLE_C,
    TABLE_C_BOUNDARY,
    TABLE_C_MEAN,
    TABLE_C_U1_LOSS,
    label,
)

HIGH_PASS, DNCNN = "Gaussian high-pass", "DnCNN"
CLOSE = 2.0  # points: less than this is "similar"; the paper's own two values differ by 0.9 (printed) or 0.5


def unmeasured(text: str, paper: str | float | None, why: str) -> Claim:
    """A claim for which the table has nothing."""
    return Claim(text, paper, None, "not comparable", why)


def points(gap: tuple[float, float, float]) -> str:
    """A difference of fractions in points, with its interval over generators and seeds if there is one."""
    mean, low, high = (100 * x for x in gap)
    return f"{mean:+.1f} points" + ("" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}]")


def filter_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of Tab. A: every method is worse with the high-pass; DIF is best with DnCNN.

    ``data``: what was measured on, for the text.
    """
    done = table["status"] == OK
    table = table.assign(filter=table["filter"].where(table["filter"] == HIGH_PASS, DNCNN).where(done))
    claims = []
    for method, printed in TABLE_A.items():
        part = table[table["method"] == method]
        means = mean_of(part, "filter")
        text = f"{method} is worse with the Gaussian high-pass than with DnCNN (on {data})"
        paper = f"{printed[HIGH_PASS]} % against {printed[DNCNN]} %"
        if not {HIGH_PASS, DNCNN} <= set(means):
            claims.append(unmeasured(text, paper, "not in this grid"))
            continue
        gap = paired_gap(part, "filter", HIGH_PASS, DNCNN)
        ours = f"{percent(means[HIGH_PASS])} against {percent(means[DNCNN])}, {points(gap)}"
        better = (-gap[0], -gap[2], -gap[1])
        claims.append(judge_gap(text, paper, ours, better, "the high-pass is not worse here"))
    best = mean_of(table[table["filter"] == DNCNN], "method")
    text = f"With DnCNN, DIF is better than Marra18 and Joslin20 (on {data})"
    paper = ", ".join(f"{method} {printed[DNCNN]} %" for method, printed in TABLE_A.items())
    if not set(TABLE_A) <= set(best):
        return [*claims, unmeasured(text, paper, "not in this grid")]
    ours, others = listed(best), max(best[m] for m in TABLE_A if m != "DIF")
    return [*claims, judge(text, paper, ours, best["DIF"] > others, "another method is as good or better here")]


def listed(values: Mapping[str, float]) -> str:
    """ "DIF 92.3 %, Marra18 62.6 %" """
    return ", ".join(f"{label(name)} {percent(value)}" for name, value in values.items())


def block_claims(table: pd.DataFrame) -> list[Claim]:
    """Of Tab. B: one claim a row."""
    claims = []
    for row in table.itertuples():
        shown = [(getattr(row, f"{k}_paper"), getattr(row, f"{k}_ours")) for k in ("part", "c_in", "c_out", "f_act")]
        paper, ours = ("{} {} → {}, {}".format(*values) for values in zip(*shown, strict=True))
        same = all(theirs == mine for theirs, mine in shown)
        claims.append(judge(f"Tab. B, row {row.row}", paper, ours, same, "the network differs"))
    return claims


def architecture_claims(table: pd.DataFrame, borders: pd.DataFrame, data: str) -> list[Claim]:
    """Of Tab. C: C-Net is worst, least so where boundary artefacts dominate; D-Net like U-Net; U1-Net loses there.

    Parameters
    ----------
    borders : DataFrame
        Of ``boundary_table``: which generator has how much of its pattern at the border.
    """
    means = mean_of(table, "prior")
    printed = ", ".join(f"{name} {value} %" for name, value in TABLE_C_MEAN.items())
    worst = f"C-Net is the worst of the four architectures (on {data})"
    close = f"D-Net performs similarly to U-Net: within {CLOSE:g} points (on {data})"
    if not set(TABLE_C) <= set(means):
        return [unmeasured(text, printed, "not all four were measured") for text in (worst, close)]
    gap = 100 * (means["D-Net"] - means["U-Net"])
    claims = [
        judge(worst, printed, listed(means), min(means, key=lambda k: means[k]) == "C-Net", "another one is worse"),
        judge(
            close, f"{TABLE_C_MEAN['U-Net']} % and {TABLE_C_MEAN['D-Net']} %",
            points(paired_gap(table, "prior", "D-Net", "U-Net")), abs(gap) <= CLOSE, "they differ by more",
        ),
    ]  # fmt: skip
    values = matrix(table, "prior").drop(columns=MEAN)
    return [*claims, *boundary_claims(values, borders[borders["status"] == OK], data)]


def boundary_claims(values: pd.DataFrame, borders: pd.DataFrame, data: str) -> list[Claim]:
    """The two claims of A.4 on the generator with the most boundary artefacts; ``values``: prior by generator."""
    share = borders.set_index("generator")["border"].reindex(values.columns).dropna()
    least = f"C-Net loses least where boundary artefacts dominate (on {data})"
    u1 = "U1-Net loses about 5 points where boundary artefacts dominate"
    paper_loss = TABLE_C["U-Net"][TABLE_C_BOUNDARY] - TABLE_C["C-Net"][TABLE_C_BOUNDARY]
    told = f"{paper_loss:.1f} points on GLIDE; yet {min(losses().values()):.1f} on DALL·E-Mini"
    if len(share) < 2:
        return [unmeasured(text, told, "needs two generators") for text in (least, u1)]
    where, loss = share.idxmax(), 100 * (values.loc["U-Net"] - values.loc["C-Net"])
    ours = f"most at the border: {label(where)} ({share[where]:.1f} times the inside's energy); losses in points: " + (
        ", ".join(f"{label(name)} {loss[name]:.1f}" for name in share.index)
    )
    first = judge(least, told, ours, loss[share.index].idxmin() == where, "it loses less on another generator")
    fall = 100 * (values.loc["U-Net", where] - values.loc["U1-Net", where])
    seen = f"{fall:.1f} points on {label(where)}"
    if where not in DISPLAY:
        why = "a size, of a generator that is not the paper's"
        return [first, Claim(u1, f"{TABLE_C_U1_LOSS:g} points on GLIDE", seen, "not comparable", why)]
    near = abs(fall - TABLE_C_U1_LOSS) <= CLOSE
    return [first, judge(u1, f"{TABLE_C_U1_LOSS:g} points on GLIDE", seen, near, f"not within {CLOSE:g} points of it")]


def losses() -> dict[str, float]:
    """Points that C-Net loses to U-Net in the paper's Tab. C, by generator."""
    return {name: value - TABLE_C["C-Net"][name] for name, value in TABLE_C["U-Net"].items()}


def size_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of Figs. B and C: stable down to N_S = 128, where most models lose about 5 points; more images never hurt."""
    part = good(table)
    part = part[part["method"] == "DIF"]
    curves = part.groupby(["generator", "n_train"])["accuracy"].mean().unstack("n_train")
    text = f"Accuracy is stable above N_S = {LOW_SAMPLES}, and most models lose about {LOW_SAMPLES_DROP:g} points there"
    paper = f"{LOW_SAMPLES_DROP:g} points at N_S = {LOW_SAMPLES} for the majority"
    sizes = sorted(curves.columns)
    if not sizes:
        return [unmeasured(text, paper, "no cell has a result")]
    curves = curves.dropna(axis=0, subset=[sizes[0], sizes[-1]])
    small, large = sizes[0], sizes[-1]
    falls = 100 * (curves[large] - curves[small])
    shown = ", ".join(f"{label(name)} {fall:.1f}" for name, fall in falls.items())
    order = judge(
        f"The fewer training images, the lower the accuracy (on {data})",
        "falls from N_S = 128 down",
        f"points lost from N_S = {large} to {small}: {shown or 'no generator has both'}",
        bool(len(falls) and (falls > 0).all()),
        "it does not fall for every generator",
    )
    if LOW_SAMPLES not in sizes or large <= LOW_SAMPLES:
        why = f"the grid goes from N_S = {small} to {large}, so there is no larger N_S to compare {LOW_SAMPLES} with"
        return [
            Claim(text, paper, f"mean at N_S = {large}: {percent(curves[large].mean())}", "not comparable", why),
            order,
        ]
    drop = 100 * (curves[large] - curves[LOW_SAMPLES])
    above = curves[[n for n in sizes if n > LOW_SAMPLES]]
    spread = 100 * (above.max(axis=1) - above.min(axis=1))
    holds = bool(((drop - LOW_SAMPLES_DROP).abs() <= 3).mean() > 0.5 and (spread <= 3).mean() > 0.5)
    ours = f"median drop {drop.median():.1f} points, median spread above {spread.median():.1f}, {len(drop)} generators"
    return [judge(text, paper, ours, holds, "not within 3 points of it for most"), order]


def consistency_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of Fig. D: DIF is less consistent, yet the ranking holds."""
    part = good(table)
    text, paper = CLAIMS["low_sample_spread"].text, "box plots (S Fig. D), not readable as numbers"
    names = [method for method in FIG_D_METHODS if method in set(part["method"])]
    if "DIF" not in names or len(names) < 2:
        return [unmeasured(text, paper, "needs DIF and another method")]
    spread = part.groupby(["method", "generator"])["accuracy"].std().groupby("method").mean()
    median = part.groupby(["method", "generator"])["accuracy"].median().groupby("method").mean()
    others = [name for name in names if name != "DIF"]
    draws = part["seed"].nunique()
    spreads = ", ".join(f"{name} {100 * spread[name]:.1f}" for name in names)
    return [
        judge(
            f"DIF is less consistent than {', '.join(others)} over {draws} draws (on {data})", paper,
            f"standard deviation in points: {spreads}", bool(spread["DIF"] > spread[others].max()),
            "another method spreads as much or more",
        ),
        judge(
            f"The ranking holds: DIF has the highest median accuracy (on {data})", paper,
            f"medians: {listed(median[names].to_dict())}", bool(median["DIF"] > median[others].max()),
            "another method has as high a median",
        ),
    ]  # fmt: skip


def method_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of the methods-by-generators table: DIF against each comparator trained on the same images."""
    means = mean_of(table, "method")
    claims = []
    for name in means:
        if name == "DIF" or "DIF" not in means:
            continue
        gap = paired_gap(table, "method", "DIF", name)
        ours = f"{percent(means['DIF'])} against {percent(means[name])}, {points(gap)}"
        text = f"DIF is better than {name} trained on the same images (on {data})"
        claims.append(judge_gap(text, CLAIMS["few_samples"].text, ours, gap, "it is not, here"))
    return claims or [unmeasured(CLAIMS["few_samples"].text, None, "needs DIF and another method")]


def variant_claims(table: pd.DataFrame, parents: Mapping[str, str], data: str) -> list[Claim]:
    """Of Fig. E: a fine-tuned child's images carry its parent's fingerprint, an unrelated parent's images do not.

    ``parents``: child to parent.
    """
    rows = good(table).groupby(["generator", "fitted_on"])["auc"].mean()
    claims = []
    for child, parent in parents.items():
        if (child, parent) not in rows.index:
            continue
        value, own = rows[(child, parent)], rows.get((child, child), np.nan)
        others = {a: auc for (a, b), auc in rows.items() if b == parent and a not in (parent, *parents)}
        most = max(others.values(), default=0.5)
        text = f"{label(parent)}'s fingerprint finds images of {label(child)}, fine-tuned from it (on {data})"
        ours = f"AUC {value:.3f}; the child's own {own:.3f}; " + (
            f"on unrelated {label(max(others, key=lambda k: others[k]))} {most:.3f}" if others else "no unrelated model"
        )
        told = "MJ is identified as a fine-tuned SD 1.4 (abstract, summary)"
        why = "AUC below .75" if value < 0.75 else "an unrelated model's images are found as well"
        claims.append(judge(text, told, ours, bool(value >= 0.75 and value > most + 0.05), why))
    return claims or [unmeasured("A child's images carry its parent's fingerprint", None, "no pair has a result")]
