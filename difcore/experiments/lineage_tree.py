"""The family trees of ``26_lineage_tree``: of published fingerprints, decoders and their children, ProGAN checkpoints.

Beside plain cross-detection stand fingerprints that tell models from each other, not from reals: what sets each
model's F_A apart from all of them, whitened, against the images of all the models. What models have in common only
because none of them is a camera is no kinship.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from difcore.demo.generators import CHILDREN, DECODERS
from difcore.experiments.claiming import decide, percent
from difcore.experiments.cross_fits import Cross, CrossPlan, converged, cross, runs_of, scores_of
from difcore.experiments.published import LIMIT_TUNED, score_release
from difcore.files import NeedsData
from difcore.fingerprints.detector import FOREIGN_DENOISER
from difcore.fingerprints.presets import preset
from difcore.images.sources import locate
from difcore.lineage.families import (
    EdgeScores,
    Evidence,
    Pair,
    direction_share,
    edge_scores,
    evidence,
    family,
    first_ancestors,
    orphans,
)
from difcore.paper import VARIANTS, WITH_IMAGES
from difcore.records.claims import Claim
from difcore.residuals.denoisers import LIMIT
from difcore.stats import share_estimate

FLOOR = 1e-3  # of the mean power: what a frequency without any is taken to hold
GOOD_EDGES = 0.9
TUNED = "the models' scenes and the trees' evidence were chosen by what these trees show on these models"


@dataclass(frozen=True)
class Tree:
    """One tree (``edges`` as of ``families.family``) and what is known of its truth.

    ``true`` are (parent, child) pairs, and an edge has to point that way if ``directed``; or a link is right within one
    of ``groups`` (name to group), of which a forest connects k members by k - 1 links: as many are true. ``tuned`` says
    what of the method was chosen on these very models.
    """

    title: str
    claim: str
    found: Evidence
    edges: pd.DataFrame
    true: list[Pair]
    directed: bool = False
    groups: dict[str, str] = field(default_factory=dict)
    tuned: str = ""
    founders: Sequence[str] = ()

    def pairs(self) -> list[Pair]:
        """(parent, child) of each edge."""
        return list(zip(self.edges["parent"], self.edges["child"], strict=True))

    def known(self) -> list[Pair]:
        """True pairs; within groups the right ones found, and others that complete them."""
        out = list(self.true)
        for group in dict.fromkeys(self.groups.values()):
            members = [name for name, own in self.groups.items() if own == group]
            mine = [pair for pair in self.pairs() if set(pair) <= set(members)]
            spare = [p for p in zip(members, members[1:], strict=False) if p not in mine and p[::-1] not in mine]
            out += [*mine, *spare][: len(members) - 1]
        return out

    def scores(self) -> EdgeScores:
        """Precision and recall of the edges."""
        return edge_scores(self.pairs(), self.known(), self.directed)


@dataclass(frozen=True)
class Forest:
    """The trees by key, cross-detections by family, and why the other families are absent."""

    trees: dict[str, Tree]
    crosses: dict[str, Cross]
    absent: dict[str, str]

    def edges(self) -> pd.DataFrame:
        """All edges of all trees, with the columns ``tree`` and ``right``."""
        parts = []
        for key, tree in self.trees.items():
            mark = tuple if tree.directed else frozenset
            true = {mark(pair) for pair in tree.known()}
            parts.append(tree.edges.assign(tree=key, right=[mark(pair) in true for pair in tree.pairs()]))
        table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
        return table[["tree", *table.columns.drop("tree")]]

    def orphans(self) -> pd.DataFrame:
        """``families.orphans`` of the trees with founders, with the column ``tree``."""
        trees = {key: tree for key, tree in self.trees.items() if tree.founders}
        parts = [orphans(tree.found, tree.founders).assign(tree=key) for key, tree in trees.items()]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["tree"])

    def fits(self) -> pd.DataFrame:
        """The fits of all cross-detections; failed ones with the reason."""
        return pd.concat([found.fits for found in self.crosses.values()], ignore_index=True)

    def claims(self) -> list[Claim]:
        """Precision and recall of each tree's edges."""
        return [tree_claim(tree) for tree in self.trees.values()]


def grow_trees(plan: CrossPlan, families: Sequence[str], draws: int) -> Forest:
    """The trees of those of the families "published", "decoders", "progans" whose data are there; NeedsData of none."""
    forest = Forest({}, {}, {})
    for name in families:
        try:
            if name == "published":
                forest.trees.update(published_trees(plan, draws))
                continue
            chosen = [g for g in plan.generators if (name == "progans") == ("progan" in g.lower() or "@" in g)]
            forest.crosses[name] = cross(replace(plan, family=name, generators=chosen))
        except NeedsData as error:
            forest.absent[name] = str(error)
            continue
        grown = decoder_trees if name == "decoders" else checkpoint_trees
        forest.trees.update(grown(forest.crosses[name], draws, plan.seed))
    if not forest.crosses:
        raise NeedsData("; ".join(forest.absent.values()) or "needs decoders or progans")
    return forest


def kin_patterns(models: Cross) -> Tensor:
    """F_A of each model minus the mean of all, divided by the power spectrum of real residuals: (G, 3, H, W).

    The matched filter for a known pattern in noise of that spectrum: low frequencies, where scenes differ most, count
    least.
    """
    means = np.stack([f.pattern.numpy() for f in models.averages.values()])
    power = models.power + FLOOR * models.power.mean()
    filtered = np.fft.ifft2(np.fft.fft2(means - means.mean(0)) / power)
    return torch.from_numpy(np.real(filtered).astype(np.float32))


def kin_evidence(models: Cross, draws: int, seed: int) -> Evidence:
    """``evidence`` of these patterns; the background of each model is all models' test images."""
    scores = [x.double().numpy() for x in scores_of(kin_patterns(models), models.fits)[1].values()]
    everything = np.concatenate(scores, axis=1)
    owners = np.repeat(np.arange(len(scores)), [x.shape[1] for x in scores])
    return evidence(tuple(models.real), [everything] * len(scores), scores, draws, seed, owners=owners)


def decoder_trees(models: Cross, draws: int = 1000, seed: int = 0) -> dict[str, Tree]:
    """Decoders and their children (of a folder: fine-tuned models and their sources), by three routes.

    "detection": which of the base models does each of the others descend from, by DIF fingerprints against reals? An
    edge (base model, descendant) is true if the base model is its first ancestor. "founders": the same by
    ``kin_evidence``. "forest": nothing is known; a link is true between parent and child.
    """
    names = tuple(models.real)
    parents = {child: plan.parent for child, plan in CHILDREN.items() if child in names}
    first = [(root, child) for child, root in first_ancestors(parents).items() if root in names]
    direct = [(parent, child) for child, parent in parents.items() if parent in names]
    founders, tuned = [name for name in names if name in DECODERS], TUNED if direct else ""
    if not direct:
        direct = first = [(b, a) for a, b in VARIANTS.items() if {a, b} <= set(names)]
        founders = [name for name in names if name not in VARIANTS]
    kin = kin_evidence(models, draws, seed)
    real, fake = ([x.double().numpy() for x in part.values()] for part in (models.real, models.fake))
    plain = evidence(names, real, fake, draws, seed)
    text = "Each descendant is linked to the base model it was fine-tuned from"
    return {
        "detection": Tree(
            "base models known, cross-detection", f"{text}, by DIF fingerprints against real images", plain,
            family(plain, founders), first, True, tuned=tuned, founders=founders,
        ),
        "founders": Tree(
            "base models known, whitened F_A", text, kin, family(kin, founders), first, True, tuned=tuned,
            founders=founders,
        ),
        "forest": Tree(
            "nothing known, whitened F_A", "Without known base models, parents and children are linked",
            kin, family(kin), direct, False, tuned=tuned,
        ),
    }  # fmt: skip


def checkpoint_trees(models: Cross, draws: int = 1000, seed: int = 0) -> dict[str, Tree]:
    """Converged checkpoints of the ProGANs; a link is right between any two of one training run."""
    late, whole = np.flatnonzero(converged(list(models.real))), kin_evidence(models, draws, seed)
    names = tuple(whole.names[k] for k in late)
    picked = {key: getattr(whole, key)[np.ix_(late, late)] for key in ("auc", "low", "share")}
    found = replace(whole, names=names, draws=whole.draws[:, late][:, :, late], **picked)
    runs = dict(zip(names, runs_of(names), strict=True))
    text = "Converged checkpoints of one training run are linked, those of different runs are not"
    tuned = TUNED if all(name.startswith("demo-") for name in models.fits["generator"]) else ""
    title = "converged checkpoints of the ProGANs"
    return {"progans": Tree(title, text, found, family(found), [], groups=runs, tuned=tuned)}


def published_trees(plan: CrossPlan, draws: int) -> dict[str, Tree]:
    """The six generators of the release that come with images: MJ and SD 1.4 are kin, nobody else is known to be."""
    mode, runtime = preset(plan.mode), plan.runtime
    name, limit = mode.filter(FOREIGN_DENOISER), mode.held(LIMIT)
    denoiser = runtime.denoiser(name, limit)
    scores = score_release(locate(plan.data_root or None), denoiser, progress=True)
    rows = [list(scores.fingerprints).index(name) for name in WITH_IMAGES]
    real, fake = ([part[name][rows].double().numpy() for name in WITH_IMAGES] for part in (scores.real, scores.fake))
    found = evidence(WITH_IMAGES, real, fake, draws, plan.seed)
    text = (
        "Midjourney is linked to Stable Diffusion 1.4, of which it is held to be a fine-tuned version, and nothing else"
    )
    known = [("sd14", "mj")]
    return {"published": Tree("published fingerprints", text, found, family(found), known, tuned=LIMIT_TUNED)}


def tree_claim(tree: Tree) -> Claim:
    """Precision and recall of a tree's edges, and whether the direction could be told."""
    direction = direction_share(tree.found, tree.true) if len(tree.true) > 1 else None
    return replace(edge_claim(f"{tree.claim} ({tree.title})", tree.scores(), direction), tuned=tree.tuned)


def edge_claim(text: str, scores: EdgeScores, direction: tuple[int, int] | None = None) -> Claim:
    """Edges of a tree against what is known: precision and recall above 0.9 each, as far as so few edges can tell."""
    precision = percent(scores.precision, *scores.precision_interval)
    recall = percent(scores.recall, *scores.recall_interval)
    ours = (
        f"precision {precision} ({scores.right} of {scores.found}), recall {recall} ({scores.right} of {scores.true})"
    )
    if direction:
        ours += f"; s(parent, child) > s(child, parent) in {direction[0]} of {direction[1]} pairs"
    both = [share_estimate(scores.right / n, n, f"{n} edges") for n in (scores.found, scores.true) if n]
    if not both:
        return Claim(text, "not stated", ours, "not comparable", "no edge is known and none was found")
    least = min(both, key=lambda share: share.value)
    p = max(share.p(GOOD_EDGES) for share in both) if least.value > GOOD_EDGES else least.p(GOOD_EDGES)
    claim = decide(text, "not stated", ours, least.value > GOOD_EDGES, p, f"below {percent(GOOD_EDGES)}", least.basis)
    if claim.verdict == "undecided" and least.value > GOOD_EDGES:
        why = f"n = {least.basis}: above {percent(GOOD_EDGES)}, but so few could be so by chance"
        return replace(claim, verdict="consistent", why=why, open="consistent")
    return claim
