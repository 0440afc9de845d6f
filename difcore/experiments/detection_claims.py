"""The supplement's claims on detection beside what was measured: Tables A and C, Figures B to E, methods.

Orderings are tested on whatever was measured, demo images too, and the text says on what (``data``). Sizes ("5 points")
are compared on the paper's generators alone. All accuracies are balanced. A notebook's claims are corrected together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from difcore.experiments.claiming import FINDS, area_of, decide, judge_above, judge_best, judge_near, percent
from difcore.experiments.detection import ENOUGH, MEAN, good, matrix, mean_of, paired_gap
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
from difcore.records.cells import OK
from difcore.records.claims import Claim, over_cells
from difcore.stats import Estimate, page_trend, sum_estimate, two_sided

HIGH_PASS, DNCNN = "Gaussian high-pass", "DnCNN"
DRAWS_OF_A_SPREAD = 5  # below, distances from the median are those of two or three draws, and say nothing
AROUND = 0.03  # "about 5 points" is 2 to 8, "stable" within these
CLOSE = 0.02  # less than this is "similar"; the paper's own two values differ by .9 (printed) or .5 points


def silent(text: str, paper: str | None, why: str, ours: str | None = None) -> Claim:
    """A claim for which the table has nothing to compare."""
    return Claim(text, paper, ours, "not comparable", why)


def points(gap: Estimate) -> str:
    """A difference of fractions in points, with its interval if there is one, and over what that is."""
    mean, low, high = (100 * x for x in (gap.value, *gap.interval))
    return f"{mean:+.1f} points" + ("" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}] over {gap.basis}")


def listed(values: Mapping[str, float]) -> str:
    """ "DIF 92.3 %, Marra18 62.6 %" """
    return ", ".join(f"{label(name)} {percent(value)}" for name, value in values.items())


@over_cells
def filter_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of Tab. A: every method is worse with the high-pass; DIF is best with DnCNN."""
    named = table["filter"].where(table["filter"] == HIGH_PASS, DNCNN).where(table["status"] == OK)
    table, claims = table.assign(filter=named), []
    for method, printed in TABLE_A.items():
        part = table[table["method"] == method]
        found = mean_of(part, "filter")
        text = f"{method} is worse with the Gaussian high-pass than with DnCNN (on {data})"
        said = text, f"{printed[HIGH_PASS]} % against {printed[DNCNN]} %"
        if not {HIGH_PASS, DNCNN} <= set(found):
            claims.append(silent(*said, "not in this grid"))
            continue
        gap = paired_gap(part, "filter", DNCNN, HIGH_PASS)
        ours = f"{percent(found[HIGH_PASS])} against {percent(found[DNCNN])}, DnCNN {points(gap)}"
        claims.append(judge_above(*said, ours, gap, 0.0, "it is better with it here"))
    part = table[table["filter"] == DNCNN]
    best, text = mean_of(part, "method"), f"With DnCNN, DIF is better than Marra18 and Joslin20 (on {data})"
    said = text, ", ".join(f"{method} {printed[DNCNN]} %" for method, printed in TABLE_A.items())
    if not set(TABLE_A) <= set(best):
        return [*claims, silent(*said, "not in this grid")]
    gaps = [paired_gap(part, "method", "DIF", other) for other in TABLE_A if other != "DIF"]
    return [*claims, judge_best(*said, listed(best), gaps, "another method is better here")]


@over_cells
def architecture_claims(table: pd.DataFrame, borders: pd.DataFrame, data: str) -> list[Claim]:
    """Of Tab. C: C-Net is worst, least so where boundary artefacts dominate; D-Net like U-Net; U1-Net loses there."""
    found = mean_of(table, "prior")
    printed = ", ".join(f"{name} {value} %" for name, value in TABLE_C_MEAN.items())
    worst = f"C-Net is the worst of the four architectures (on {data})"
    close = f"D-Net performs similarly to U-Net: within {100 * CLOSE:g} points (on {data})"
    if not set(TABLE_C) <= set(found):
        return [silent(text, printed, "not all four were measured") for text in (worst, close)]
    gaps = [paired_gap(table, "prior", other, "C-Net") for other in TABLE_C if other != "C-Net"]
    near, told = paired_gap(table, "prior", "D-Net", "U-Net"), "{U-Net} % and {D-Net} %".format(**TABLE_C_MEAN)
    return [
        judge_best(worst, printed, listed(found), gaps, "another one is worse"),
        judge_near(close, told, points(near), near, 0.0, CLOSE, "they differ by more"),
        *boundary_claims(table, borders[borders["status"] == OK], data),
    ]


def boundary_claims(table: pd.DataFrame, borders: pd.DataFrame, data: str) -> list[Claim]:
    """The two claims of A.4 on the generator with the most boundary artefacts."""
    values = matrix(table, "prior").drop(columns=MEAN)
    share = borders.set_index("generator")["border"].reindex(values.columns).dropna()
    least = f"C-Net loses least where boundary artefacts dominate (on {data})"
    u1 = "U1-Net loses about 5 points where boundary artefacts dominate"
    losses = {name: value - TABLE_C["C-Net"][name] for name, value in TABLE_C["U-Net"].items()}
    told = f"{losses[TABLE_C_BOUNDARY]:.1f} points on GLIDE; yet {min(losses.values()):.1f} on DALL·E-Mini"
    if len(share) < 2:
        return [silent(text, told, "needs two generators") for text in (least, u1)]

    def loss_of(prior: str, name: str) -> Estimate:
        return paired_gap(table[table["generator"] == name], "prior", "U-Net", prior)

    where, loss = share.idxmax(), {name: loss_of("C-Net", name) for name in share.index}
    lost = ", ".join(f"{label(name)} {100 * found.value:.1f}" for name, found in loss.items())
    ours = (
        f"most at the border: {label(where)} ({share[where]:.1f} times the inside's energy); losses in points: {lost}"
    )
    more = [sum_estimate([1, -1], [loss[n], loss[where]], loss[n].basis) for n in share.index if n != where]
    first = judge_best(least, told, ours, more, "it loses less on another generator")
    fall = loss_of("U1-Net", where)
    told, seen = f"{TABLE_C_U1_LOSS:g} points on GLIDE", f"{points(fall)} on {label(where)}"
    if where not in DISPLAY:
        return [first, silent(u1, told, "a size, of a generator that is not the paper's", seen)]
    why = f"not within {100 * CLOSE:g} points of it"
    return [first, judge_near(u1, told, seen, fall, TABLE_C_U1_LOSS / 100, CLOSE, why)]


@over_cells
def size_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of Figs. B and C: stable down to N_S = 128, where most models lose about 5 points; more images never hurt."""
    part = good(table)
    part = part[part["method"] == "DIF"]
    text = f"Accuracy is stable above N_S = {LOW_SAMPLES}, and models lose about {LOW_SAMPLES_DROP:g} points there"
    said = text, f"{LOW_SAMPLES_DROP:g} points at N_S = {LOW_SAMPLES} for the majority"
    sizes = sorted(part["n_train"].unique())
    if not len(sizes):
        return [silent(*said, "no cell has a result")]
    order, large, above = order_claim(part, data), sizes[-1], [n for n in sizes if n > LOW_SAMPLES]
    if LOW_SAMPLES not in sizes or not above:
        why = f"the grid goes from N_S = {sizes[0]} to {large}, so there is no larger N_S to compare {LOW_SAMPLES} with"
        mean = part.loc[part["n_train"] == large, "accuracy"].mean()
        return [silent(*said, why, f"mean at N_S = {large}: {percent(mean)}"), order]
    drop, rise = (paired_gap(part, "n_train", large, small) for small in (LOW_SAMPLES, above[0]))
    ours = f"from N_S = {large} to {LOW_SAMPLES}: {points(drop)}"
    ours += f"; from {large} to {above[0]}: {points(rise)}" if len(above) > 1 else ""
    targets = [(drop, LOW_SAMPLES_DROP / 100), (rise, 0.0)][: len(above)]
    why = f"not within {100 * AROUND:g} points of it"
    verdicts = [judge_near(*said, ours, found, target, AROUND, why) for found, target in targets]
    order_of = ("does not hold", "undecided", "holds")  # both parts are needed
    return [min(verdicts, key=lambda claim: (order_of.index(claim.verdict), -(claim.p or 0.0))), order]


def order_claim(part: pd.DataFrame, data: str) -> Claim:
    """Accuracy rises with N_S, by a trend test over all its points; a curve for each generator, or each draw."""
    said = f"The fewer training images, the lower the accuracy (on {data})", "falls from N_S = 128 down"
    by_generator, by_draw = (
        part.pivot_table(index=key, columns="n_train", values="accuracy").dropna() for key in ("generator", "seed")
    )
    sizes = list(by_generator.columns)
    if len(sizes) < 2 or not len(by_generator):
        return silent(*said, "no generator has two N_S")
    curves, basis = by_generator, f"{len(by_generator)} curves, one a generator"
    if len(by_generator) < ENOUGH and len(by_draw) > len(by_generator):
        curves, basis = by_draw, f"{len(by_draw)} draws of these generators alone"
    falls = 100 * (by_generator[sizes[-1]] - by_generator[sizes[0]])
    shown = ", ".join(f"{label(name)} {fall:.1f}" for name, fall in falls.items())
    ours = f"points lost from N_S = {sizes[-1]} to {sizes[0]}: {shown}; {len(sizes)} N_S"
    rises, falling = page_trend(curves.to_numpy())
    p = two_sided(rises, falling)
    return decide(*said, ours, rises < falling, p, "it rises with fewer images", f"{basis} (Page's L)")


@over_cells
def consistency_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of Fig. D: DIF is less consistent, yet the ranking holds."""
    part, paper = good(table), "box plots (S Fig. D), not readable as numbers"
    names = [method for method in FIG_D_METHODS if method in set(part["method"])]
    others, draws = [name for name in names if name != "DIF"], part["seed"].nunique()
    if "DIF" not in names or not others or draws < 2:
        return [silent(CLAIMS["low_sample_spread"], paper, "needs two draws of DIF and of another method")]
    groups = part.groupby(["method", "generator"])["accuracy"]
    spread, median = (values.groupby("method").mean() for values in (groups.std(), groups.median()))
    # Brown and Forsythe's comparison of spreads: distances from the median, as if they were the measurements.
    distances = table.assign(distance=(part["accuracy"] - groups.transform("median")).abs())
    said = f"DIF is less consistent than {', '.join(others)} over {draws} draws (on {data})", paper
    ours = "standard deviation in points: " + ", ".join(f"{name} {100 * spread[name]:.1f}" for name in names)
    if draws < DRAWS_OF_A_SPREAD:
        first = Claim(*said, ours, "undecided", f"{draws} draws say little of a spread")
    else:
        wider = [paired_gap(distances, "method", "DIF", name, "distance") for name in others]
        first = judge_best(*said, ours, wider, "another method spreads more")
    text, ours = (
        f"The ranking holds: DIF is the most accurate (on {data})",
        f"medians: {listed(median[names].to_dict())}",
    )
    better = [paired_gap(table, "method", "DIF", name) for name in others]
    return [first, judge_best(text, paper, ours, better, "another method is better")]


@over_cells
def method_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of all methods side by side: DIF against each comparator trained on the same images."""
    found, claims, paper = mean_of(table, "method"), [], CLAIMS["few_samples"]
    for name in [name for name in found if name != "DIF" and "DIF" in found]:
        gap = paired_gap(table, "method", "DIF", name)
        ours = f"{percent(found['DIF'])} against {percent(found[name])}, {points(gap)}"
        text = f"DIF is better than {name} trained on the same images (on {data})"
        claims.append(judge_above(text, paper, ours, gap, 0.0, "it is worse here"))
    return claims or [silent(paper, None, "needs DIF and another method")]


@over_cells
def variant_claims(table: pd.DataFrame, parents: Mapping[str, str], data: str) -> list[Claim]:
    """Of Fig. E: a fine-tuned child's images carry its parent's fingerprint, an unrelated parent's images do not.

    ``parents``: child to parent. The bar is an AUC of .75, or what the unrelated model reaches and .05 more.
    """
    wanted = {"auc": "mean", "n_real": "min", "n_fake": "min"}
    rows, claims = good(table).groupby(["generator", "fitted_on"])[list(wanted)].agg(wanted), []
    for child, parent in parents.items():
        if (child, parent) not in rows.index:
            continue
        found, own = area_of(rows.loc[(child, parent)]), rows["auc"].get((child, child), np.nan)
        low, high = found.interval
        others = {a: auc for (a, b), auc in rows["auc"].items() if b == parent and a not in (parent, *parents)}
        most = max(others.values(), default=0.5)
        unrelated = (
            f"on unrelated {label(max(others, key=others.__getitem__))} {most:.3f}" if others else "no unrelated model"
        )
        ours = f"AUC {found.value:.3f} [{low:.3f}, {high:.3f}]; the child's own {own:.3f}; "
        text = f"{label(parent)}'s fingerprint finds images of {label(child)}, fine-tuned from it (on {data})"
        said = (
            text,
            "MJ is identified as a fine-tuned SD 1.4 (abstract, summary)",
            ours + (unrelated or "no unrelated model"),
        )
        bar = max(FINDS, most + 0.05)
        why = f"AUC below {FINDS}" if bar == FINDS else "an unrelated model's images are found as well"
        claims.append(judge_above(*said, found, bar, why))
    return claims or [silent("A child's images carry its parent's fingerprint", None, "no pair has a result")]
