"""Family trees: of the published fingerprints, of decoders and their children, of ProGANs over their training.

Family trees of models that were cross-detected: fingerprints that tell models from each other, not from reals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from difcore.demo.generators import CHILDREN, DECODERS
from difcore.experiments.bench import Bench
from difcore.experiments.cross import Cross, cross, scores_of
from difcore.experiments.crossing_sources import converged, model_of
from difcore.experiments.published_images import LIMIT_TUNED, score_release
from difcore.experiments.verdicts_lineage import edge_claim
from difcore.images.release import locate
from difcore.lineage.families import (
    EdgeScores,
    Evidence,
    Pair,
    direction_share,
    edge_scores,
    evidence,
    family,
    first_ancestors,
)
from difcore.paper import VARIANTS, WITH_IMAGES
from difcore.records.artefacts import Claim, NeedsData
from difcore.residuals.denoisers import Denoiser

FLOOR = 1e-3  # of the mean power: what a frequency without any is taken to hold


def kin_patterns(cross: Cross) -> Tensor:
    """What sets each model apart from all of them, whitened: (G, 3, H, W).

    F_A,i minus the mean of all F_A, divided by the power spectrum of real residuals frequency by frequency: the
    matched filter for a known pattern in noise of that spectrum. Low frequencies, where scenes differ most from each
    other, count least.
    """
    means = np.stack([cross.fingerprints["marra18"][name].pattern.numpy() for name in cross.names])
    power = cross.power + FLOOR * cross.power.mean()
    filtered = np.fft.ifft2(np.fft.fft2(means - means.mean(0)) / power)
    return torch.from_numpy(np.real(filtered).astype(np.float32))


def kin_evidence(cross: Cross, draws: int = 1000, seed: int = 0) -> Evidence:
    """``lineage.families.evidence`` of these patterns; the background of each model is all models' test images."""
    _, fake = scores_of(kin_patterns(cross), cross.fits)
    scores = [x.double().numpy() for x in fake]
    everything = np.concatenate(scores, axis=1)
    owners = np.repeat(np.arange(len(scores)), [x.shape[1] for x in scores])
    return evidence(cross.names, [everything] * len(scores), scores, draws, seed, owners=owners)


def cross_evidence(cross: Cross, draws: int = 1000, seed: int = 0) -> Evidence:
    """The same of the DIF fingerprints against real images: plain cross-detection."""
    real, fake = ([x.double().numpy() for x in part] for part in (cross.real, cross.fake))
    return evidence(cross.names, real, fake, draws, seed)


def decoder_truth(names: tuple[str, ...]) -> tuple[list[Pair], list[Pair]]:
    """(first ancestor, descendant) and (parent, child) pairs among the demo decoders."""
    parents = {child: plan.parent for child, plan in CHILDREN.items() if child in names}
    first = [(root, child) for child, root in first_ancestors(parents).items() if root in names]
    return first, [(parent, child) for child, parent in parents.items() if parent in names]


def founders_of(names: tuple[str, ...]) -> list[str]:
    """The demo decoders that are nobody's children."""
    return [name for name in names if name in DECODERS]


TREES_TUNED = "the models' scenes and the trees' evidence were chosen by what these trees show on these models"


@dataclass(frozen=True)
class Tree:
    """One tree and what is known of its truth.

    Attributes
    ----------
    title, claim : str
        Above its figure; what its edges are judged by.
    found : Evidence
    edges : DataFrame
        As ``difcore.lineage.families.family``.
    true : list of (parent, child)
        Empty where ``groups`` say what is true.
    directed : bool
        Whether an edge has to point the right way to be right.
    groups : dict of name to group
        A link is right within a group. A forest connects k members by k - 1 links: as many are true.
    tuned : str
        What of the method was chosen on these very models.
    """

    title: str
    claim: str
    found: Evidence
    edges: pd.DataFrame
    true: list[Pair]
    directed: bool = False
    groups: dict[str, str] = field(default_factory=dict)
    tuned: str = ""

    def pairs(self) -> list[Pair]:
        """(parent, child) of each edge."""
        return list(zip(self.edges["parent"], self.edges["child"], strict=True))

    def known(self) -> list[Pair]:
        """True pairs; within groups the right ones found, and others that complete them."""
        right = [(a, b) for a, b in self.pairs() if self.groups.get(a, a) == self.groups.get(b, b)]
        out = list(self.true)
        for group in dict.fromkeys(self.groups.values()):
            members = [name for name, own in self.groups.items() if own == group]
            mine = [pair for pair in right if self.groups[pair[0]] == group]
            spare = [p for p in zip(members, members[1:], strict=False) if p not in mine and p[::-1] not in mine]
            out += [*mine, *spare][: len(members) - 1]
        return out

    def scores(self) -> EdgeScores:
        """Precision and recall of the edges."""
        return edge_scores(self.pairs(), self.known(), self.directed)


def restricted(found: Evidence, names: Sequence[str]) -> Evidence:
    """The same evidence on some of the models."""
    at = np.array([found.names.index(name) for name in names], int)
    picked = {key: getattr(found, key)[np.ix_(at, at)] for key in ("auc", "low", "share")}
    return replace(found, names=tuple(names), draws=found.draws[:, at][:, :, at], **picked)


def decoder_trees(cross: Cross, draws: int = 1000, seed: int = 0) -> dict[str, Tree]:
    """Decoders and their children (of a folder: fine-tuned models and their sources), by three routes.

    "detection": which of the base models does each of the others descend from, by DIF fingerprints against reals? An
    edge (base model, descendant) is true if the base model is its first ancestor. "founders": the same by the whitened
    F_A of ``kin``. "forest": nothing is known; a link is true between parent and child.
    """
    first, direct = decoder_truth(cross.names)
    tuned = TREES_TUNED if direct else ""
    founders = founders_of(cross.names)
    if not direct:
        direct = first = [(b, a) for a, b in VARIANTS.items() if {a, b} <= set(cross.names)]
        founders = [name for name in cross.names if name not in VARIANTS]
    kin, plain = kin_evidence(cross, draws, seed), cross_evidence(cross, draws, seed)
    text = "Each descendant is linked to the base model it was fine-tuned from"
    return {
        "detection": Tree(
            "base models known, cross-detection", f"{text}, by DIF fingerprints against real images", plain,
            family(plain, founders), first, True, tuned=tuned,
        ),
        "founders": Tree(
            "base models known, whitened F_A", text, kin, family(kin, founders), first, True, tuned=tuned
        ),
        "forest": Tree(
            "nothing known, whitened F_A", "Without known base models, parents and children are linked",
            kin, family(kin), direct, False, tuned=tuned,
        ),
    }  # fmt: skip


def checkpoint_trees(cross: Cross, draws: int = 1000, seed: int = 0) -> dict[str, Tree]:
    """Converged checkpoints of the ProGANs; a link is right between any two of one training run."""
    late = [name for name, done in zip(cross.names, converged(cross.names), strict=True) if done]
    found = restricted(kin_evidence(cross, draws, seed), late)
    runs = {name: model_of(name) for name in late}
    title = "converged checkpoints of the ProGANs"
    text = "Converged checkpoints of one training run are linked, those of different runs are not"
    tuned = TREES_TUNED if all(name.startswith("demo-") for name in cross.fits["generator"]) else ""
    return {"progans": Tree(title, text, found, family(found), [], groups=runs, tuned=tuned)}


def published_trees(release: Path | str, denoiser: Denoiser, draws: int = 1000, seed: int = 0) -> dict[str, Tree]:
    """The six generators of the release that come with images: MJ and SD 1.4 are kin, nobody else is known to be."""
    scores = score_release(release, denoiser, progress=True)
    rows = [list(scores.fingerprints).index(name) for name in WITH_IMAGES]
    real, fake = ([part[name][rows].double().numpy() for name in WITH_IMAGES] for part in (scores.real, scores.fake))
    found = evidence(WITH_IMAGES, real, fake, draws, seed)
    text = (
        "Midjourney is linked to Stable Diffusion 1.4, of which it is held to be a fine-tuned version, and nothing else"
    )
    return {
        "published": Tree("published fingerprints", text, found, family(found), [("sd14", "mj")], tuned=LIMIT_TUNED)
    }


def tree_claims(trees: Sequence[Tree]) -> list[Claim]:
    """Of ``26_lineage_tree``: precision and recall of each tree's edges."""
    claims = []
    for tree in trees:
        direction = direction_share(tree.found, tree.true) if len(tree.true) > 1 else None
        claims.append(replace(edge_claim(f"{tree.claim} ({tree.title})", tree.scores(), direction), tuned=tree.tuned))
    return claims


def edge_table(trees: dict[str, Tree]) -> pd.DataFrame:
    """All edges of all trees, with the column ``right``."""
    parts = []
    for key, tree in trees.items():
        mark = tuple if tree.directed else frozenset
        true = {mark(pair) for pair in tree.known()}
        right = [mark(pair) in true for pair in tree.pairs()]
        parts.append(tree.edges.assign(tree=key, right=right))
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return table[["tree", *table.columns.drop("tree")]]


def all_fits(crosses: Mapping[str, Cross]) -> pd.DataFrame:
    """The fits of several cross-detections, without their times; failed ones with the reason."""
    return pd.concat([found.fits for found in crosses.values()], ignore_index=True).drop(columns="seconds")


def grow_trees(
    families: Sequence[str],
    open_bench: Callable[[str], Bench],
    denoiser: Denoiser,
    n_train: int,
    seed: int,
    draws: int,
    data_root: str = "",
) -> tuple[dict[str, Tree], dict[str, Bench], dict[str, Cross], dict[str, str]]:
    """The trees of each family whose data are there.

    Parameters
    ----------
    families : sequence of {"published", "decoders", "progans"}
    open_bench : callable
        Gives the bench of a family other than "published"; may raise NeedsData.
    denoiser : Denoiser
        For the published fingerprints.
    data_root : path
        Where the authors' release may lie.

    Returns
    -------
    trees by key; benches and cross-detections by family; reasons of the families that are absent

    Raises
    ------
    NeedsData
        If none of the families is there.
    """
    trees: dict[str, Tree] = {}
    benches: dict[str, Bench] = {}
    crosses: dict[str, Cross] = {}
    absent: dict[str, str] = {}
    for name in families:
        try:
            if name == "published":
                trees |= published_trees(locate(data_root or None), denoiser, draws, seed)
                continue
            bench = open_bench(name)
            crosses[name], benches[name] = cross(bench, n_train, seed), bench
        except NeedsData as error:
            absent[name] = str(error)
            continue
        grown = decoder_trees if name == "decoders" else checkpoint_trees
        trees |= grown(crosses[name], draws, seed)
    if not crosses:
        raise NeedsData("; ".join(absent.values()) or "needs decoders or progans")
    return trees, benches, crosses, absent
