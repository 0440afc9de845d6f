"""The supplement's claims on detection beside what was measured: Tables A to C, Figures B to E, methods.

Orderings are tested on whatever was measured, demo images too, and the verdict's text says on what. Sizes ("5 points")
are compared on the paper's generators alone. All accuracies are balanced. Claims carry p-values: a notebook passes its
list through ``verdicts.corrected``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from difcore.experiments.claiming import (
    FINDS,
    area_of,
    decide,
    judge,
    judge_above,
    judge_best,
    judge_gap,
    judge_near,
    percent,
)
from difcore.experiments.detecting import ENOUGH, MEAN, good, matrix, mean_of, paired_gap
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
from difcore.records.artefacts import Claim
from difcore.records.cells import OK
from difcore.records.claims import over_cells
from difcore.stats import Estimate, page_trend, sum_estimate, two_sided

HIGH_PASS, DNCNN = "Gaussian high-pass", "DnCNN"
DRAWS_OF_A_SPREAD = 5  # below, distances from the median are those of two or three draws, and say nothing
AROUND = 3.0  # points: "about 5" is 2 to 8, "stable" within these
CLOSE = 2.0  # points: less than this is "similar"; the paper's own two values differ by 0.9 (printed) or 0.5


def unmeasured(text: str, paper: str | float | None, why: str) -> Claim:
    """A claim for which the table has nothing."""
    return Claim(text, paper, None, "not comparable", why)


def points(gap: Estimate) -> str:
    """A difference of fractions in points, with its interval if there is one, and over what that is."""
    mean, low, high = (100 * x for x in (gap.value, *gap.interval))
    return f"{mean:+.1f} points" + ("" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}] over {gap.basis}")


@over_cells
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
        gap = paired_gap(part, "filter", DNCNN, HIGH_PASS)
        ours = f"{percent(means[HIGH_PASS])} against {percent(means[DNCNN])}, DnCNN {points(gap)}"
        claims.append(judge_gap(text, paper, ours, gap, "it is better with it here"))
    part = table[table["filter"] == DNCNN]
    best = mean_of(part, "method")
    text = f"With DnCNN, DIF is better than Marra18 and Joslin20 (on {data})"
    paper = ", ".join(f"{method} {printed[DNCNN]} %" for method, printed in TABLE_A.items())
    if not set(TABLE_A) <= set(best):
        return [*claims, unmeasured(text, paper, "not in this grid")]
    gaps = [paired_gap(part, "method", "DIF", other) for other in TABLE_A if other != "DIF"]
    return [*claims, judge_best(text, paper, listed(best), gaps, "another method is better here")]


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


@over_cells
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
    gaps = [paired_gap(table, "prior", other, "C-Net") for other in TABLE_C if other != "C-Net"]
    near = paired_gap(table, "prior", "D-Net", "U-Net")
    claims = [
        judge_best(worst, printed, listed(means), gaps, "another one is worse"),
        judge_near(
            close, f"{TABLE_C_MEAN['U-Net']} % and {TABLE_C_MEAN['D-Net']} %", points(near), near, 0.0, CLOSE / 100,
            "they differ by more",
        ),
    ]  # fmt: skip
    return [*claims, *boundary_claims(table, borders[borders["status"] == OK], data)]


def boundary_claims(table: pd.DataFrame, borders: pd.DataFrame, data: str) -> list[Claim]:
    """The two claims of A.4 on the generator with the most boundary artefacts."""
    values = matrix(table, "prior").drop(columns=MEAN)
    share = borders.set_index("generator")["border"].reindex(values.columns).dropna()
    least = f"C-Net loses least where boundary artefacts dominate (on {data})"
    u1 = "U1-Net loses about 5 points where boundary artefacts dominate"
    paper_loss = TABLE_C["U-Net"][TABLE_C_BOUNDARY] - TABLE_C["C-Net"][TABLE_C_BOUNDARY]
    told = f"{paper_loss:.1f} points on GLIDE; yet {min(losses().values()):.1f} on DALL·E-Mini"
    if len(share) < 2:
        return [unmeasured(text, told, "needs two generators") for text in (least, u1)]

    def loss_of(prior: str, name: str) -> Estimate:
        return paired_gap(table[table["generator"] == name], "prior", "U-Net", prior)

    where, loss = share.idxmax(), {name: loss_of("C-Net", name) for name in share.index}
    ours = f"most at the border: {label(where)} ({share[where]:.1f} times the inside's energy); losses in points: " + (
        ", ".join(f"{label(name)} {100 * found.value:.1f}" for name, found in loss.items())
    )
    more = [sum_estimate([1, -1], [loss[n], loss[where]], loss[n].basis) for n in share.index if n != where]
    first = judge_best(least, told, ours, more, "it loses less on another generator")
    fall = loss_of("U1-Net", where)
    seen = f"{points(fall)} on {label(where)}"
    if where not in DISPLAY:
        why = "a size, of a generator that is not the paper's"
        return [first, Claim(u1, f"{TABLE_C_U1_LOSS:g} points on GLIDE", seen, "not comparable", why)]
    size, within = TABLE_C_U1_LOSS / 100, CLOSE / 100
    why = f"not within {CLOSE:g} points of it"
    return [first, judge_near(u1, f"{TABLE_C_U1_LOSS:g} points on GLIDE", seen, fall, size, within, why)]


def losses() -> dict[str, float]:
    """Points that C-Net loses to U-Net in the paper's Tab. C, by generator."""
    return {name: value - TABLE_C["C-Net"][name] for name, value in TABLE_C["U-Net"].items()}


@over_cells
def size_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of Figs. B and C: stable down to N_S = 128, where most models lose about 5 points; more images never hurt."""
    part = good(table)
    part = part[part["method"] == "DIF"]
    text = f"Accuracy is stable above N_S = {LOW_SAMPLES}, and models lose about {LOW_SAMPLES_DROP:g} points there"
    paper = f"{LOW_SAMPLES_DROP:g} points at N_S = {LOW_SAMPLES} for the majority"
    sizes = sorted(part["n_train"].unique())
    if not len(sizes):
        return [unmeasured(text, paper, "no cell has a result")]
    order = order_claim(part, data)
    small, large = sizes[0], sizes[-1]
    if LOW_SAMPLES not in sizes or large <= LOW_SAMPLES:
        why = f"the grid goes from N_S = {small} to {large}, so there is no larger N_S to compare {LOW_SAMPLES} with"
        mean = part.loc[part["n_train"] == large, "accuracy"].mean()
        return [Claim(text, paper, f"mean at N_S = {large}: {percent(mean)}", "not comparable", why), order]
    drop = paired_gap(part, "n_train", large, LOW_SAMPLES)
    above = [n for n in sizes if n > LOW_SAMPLES]
    rise = paired_gap(part, "n_train", above[-1], above[0])
    ours = f"from N_S = {large} to {LOW_SAMPLES}: {points(drop)}" + (
        f"; from {above[-1]} to {above[0]}: {points(rise)}" if len(above) > 1 else ""
    )
    why = f"not within {AROUND:g} points of it"
    verdicts = [judge_near(text, paper, ours, drop, LOW_SAMPLES_DROP / 100, AROUND / 100, why)]
    if len(above) > 1:
        verdicts.append(judge_near(text, paper, ours, rise, 0.0, AROUND / 100, why))
    order_of = ("does not hold", "undecided", "holds")  # both parts are needed
    return [min(verdicts, key=lambda claim: (order_of.index(claim.verdict), -(claim.p or 0.0))), order]


def order_claim(part: pd.DataFrame, data: str) -> Claim:
    """Accuracy rises with N_S, by a trend test over all its points; a curve for each generator, or each draw."""
    text = f"The fewer training images, the lower the accuracy (on {data})"
    paper, wide = "falls from N_S = 128 down", {"columns": "n_train", "values": "accuracy"}
    by_generator, by_draw = (part.pivot_table(index=key, **wide).dropna() for key in ("generator", "seed"))
    sizes = list(by_generator.columns)
    if len(sizes) < 2 or not len(by_generator):
        return unmeasured(text, paper, "no generator has two N_S")
    curves, basis = by_generator, f"{len(by_generator)} curves, one a generator"
    if len(by_generator) < ENOUGH and len(by_draw) > len(by_generator):
        curves, basis = by_draw, f"{len(by_draw)} draws of these generators alone"
    falls = 100 * (by_generator[sizes[-1]] - by_generator[sizes[0]])
    shown = ", ".join(f"{label(name)} {fall:.1f}" for name, fall in falls.items())
    rises, falling = page_trend(curves.to_numpy())
    ours = f"points lost from N_S = {sizes[-1]} to {sizes[0]}: {shown}; {len(sizes)} N_S"
    p = two_sided(rises, falling)
    return decide(text, paper, ours, rises < falling, p, "it rises with fewer images", f"{basis} (Page's L)")


@over_cells
def consistency_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of Fig. D: DIF is less consistent, yet the ranking holds."""
    part = good(table)
    text, paper = CLAIMS["low_sample_spread"], "box plots (S Fig. D), not readable as numbers"
    names = [method for method in FIG_D_METHODS if method in set(part["method"])]
    draws = part["seed"].nunique()
    if "DIF" not in names or len(names) < 2 or draws < 2:
        return [unmeasured(text, paper, "needs two draws of DIF and of another method")]
    groups = part.groupby(["method", "generator"])["accuracy"]
    spread, median = (values.groupby("method").mean() for values in (groups.std(), groups.median()))
    # Brown and Forsythe's comparison of spreads: distances from the median, as if they were the measurements.
    distances = table.assign(distance=(part["accuracy"] - groups.transform("median")).abs())
    others = [name for name in names if name != "DIF"]
    wider = [paired_gap(distances, "method", "DIF", name, "distance") for name in others]
    better = [paired_gap(table, "method", "DIF", name) for name in others]
    spreads = "standard deviation in points: " + ", ".join(f"{name} {100 * spread[name]:.1f}" for name in names)
    text = f"DIF is less consistent than {', '.join(others)} over {draws} draws (on {data})"
    if draws < DRAWS_OF_A_SPREAD:
        first = Claim(text, paper, spreads, "undecided", f"{draws} draws say little of a spread")
    else:
        first = judge_best(text, paper, spreads, wider, "another method spreads more")
    return [
        first,
        judge_best(
            f"The ranking holds: DIF is the most accurate (on {data})", paper,
            f"medians: {listed(median[names].to_dict())}", better, "another method is better",
        ),
    ]  # fmt: skip


@over_cells
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
        claims.append(judge_gap(text, CLAIMS["few_samples"], ours, gap, "it is worse here"))
    return claims or [unmeasured(CLAIMS["few_samples"], None, "needs DIF and another method")]


@over_cells
def variant_claims(table: pd.DataFrame, parents: Mapping[str, str], data: str) -> list[Claim]:
    """Of Fig. E: a fine-tuned child's images carry its parent's fingerprint, an unrelated parent's images do not.

    ``parents``: child to parent. The bar is an AUC of .75, or what the unrelated model reaches and .05 more.
    """
    columns = ["auc", "n_real", "n_fake"]
    rows = (
        good(table).groupby(["generator", "fitted_on"])[columns].agg({"auc": "mean", "n_real": "min", "n_fake": "min"})
    )
    claims = []
    for child, parent in parents.items():
        if (child, parent) not in rows.index:
            continue
        found = area_of(rows.loc[(child, parent)])
        own = rows["auc"].get((child, child), np.nan)
        others = {a: auc for (a, b), auc in rows["auc"].items() if b == parent and a not in (parent, *parents)}
        most = max(others.values(), default=0.5)
        text = f"{label(parent)}'s fingerprint finds images of {label(child)}, fine-tuned from it (on {data})"
        low, high = found.interval
        ours = f"AUC {found.value:.3f} [{low:.3f}, {high:.3f}]; the child's own {own:.3f}; " + (
            f"on unrelated {label(max(others, key=lambda k: others[k]))} {most:.3f}" if others else "no unrelated model"
        )
        told = "MJ is identified as a fine-tuned SD 1.4 (abstract, summary)"
        bar = max(FINDS, most + 0.05)
        why = f"AUC below {FINDS}" if bar == FINDS else "an unrelated model's images are found as well"
        claims.append(judge_above(text, told, ours, found, bar, why))
    return claims or [unmeasured("A child's images carry its parent's fingerprint", None, "no pair has a result")]
