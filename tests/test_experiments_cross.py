"""Cross-detection: matrices by hand, permutation tests that hold their level, fits that are shared, claims."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import random_dncnn

from difcore import paper
from difcore.demo import generators
from difcore.experiments import cross_detection as figures
from difcore.experiments import cross_fits as fits
from difcore.experiments import lineage_tree as trees
from difcore.experiments.cross_fits import Cross, CrossPlan, converged, cross
from difcore.experiments.cross_scores import correlation_matrix, patterns_of
from difcore.figures.heatmaps import MatrixPanel, matrix_panels
from difcore.files import NeedsData
from difcore.lineage import matrices
from difcore.lineage.families import edge_scores
from difcore.machine.cache import cache_folder
from difcore.residuals.denoisers import load_denoiser, save_denoiser
from difcore.runtime import Runtime
from difcore.stats import auc

pytestmark = pytest.mark.usefixtures("one_thread")

HIGHPASS = load_denoiser("highpass")
NAMES = ["P_A@40", "P_A@52", "P_B@40", "P_B@52"]
MATRIX = pd.DataFrame(
    [[0.99, 0.9, 0.6, 0.5], [0.8, 0.98, 0.5, 0.52], [0.7, 0.5, 1, 0.95], [0.5, 0.5, 0.85, 0.97]], NAMES, NAMES
)


def test_symmetric_and_asymmetric_part_by_hand() -> None:
    symmetric, asymmetric = matrices.parts(MATRIX)
    assert symmetric.loc["P_A@40", "P_A@52"] == symmetric.loc["P_A@52", "P_A@40"] == pytest.approx(0.85)
    assert asymmetric.loc["P_A@40", "P_A@52"] == pytest.approx(0.05)
    assert asymmetric.loc["P_A@52", "P_A@40"] == pytest.approx(-0.05)
    pd.testing.assert_frame_equal(symmetric + asymmetric, MATRIX)
    with pytest.raises(ValueError, match="square"):
        matrices.parts(MATRIX.iloc[:2])


def test_block_means_by_hand() -> None:
    blocks = matrices.block_means(MATRIX, ["P_A", "P_A", "P_B", "P_B"])
    np.testing.assert_allclose(blocks, [[0.85, 0.53], [0.55, 0.9]])
    alone = matrices.block_means(MATRIX, ["P_A", "P_A", "P_B", "P_B"], [True, False, True, True])
    assert np.isnan(alone.loc["P_A", "P_A"]) and alone.loc["P_A", "P_B"] == pytest.approx(0.55)


def clustered(rng: np.random.Generator, gap: float) -> np.ndarray:
    labels = np.repeat(np.arange(4), 4)
    noise = rng.standard_normal((16, 16))
    return (noise + noise.T) / 2 + gap * np.equal.outer(labels, labels)


def test_permutation_test_is_uniform_without_clusters_and_small_with_them() -> None:
    groups = list(np.repeat(list("ABCD"), 4))
    rng = np.random.default_rng(5)
    p = np.array([matrices.group_test(clustered(rng, 0), groups, 199, k).p for k in range(200)])
    # Kolmogorov-Smirnov against the uniform: 1.63 / sqrt(200) is its 1 % point
    assert np.abs(np.sort(p) - np.arange(1, 201) / 200).max() < 1.63 / 200**0.5 + 1 / 200
    planted = matrices.group_test(clustered(rng, 2.0), groups, 999, 0)
    assert planted.p == 1 / 1000 and planted.within - planted.between == pytest.approx(2, abs=0.5)


def test_group_test_by_hand() -> None:
    test = matrices.group_test(MATRIX, ["A", "A", "B", "B"], 50, 1)
    assert test.within == pytest.approx((0.9 + 0.8 + 0.95 + 0.85) / 4)
    assert test.between == pytest.approx((0.6 + 0.5 + 0.5 + 0.52 + 0.7 + 0.5 + 0.5 + 0.5) / 8)
    assert 1 / 51 <= test.p <= 1
    with pytest.raises(ValueError, match="two groups"):
        matrices.group_test(MATRIX, ["A"] * 4)


def test_rank_correlation_of_matrices() -> None:
    assert matrices.rank_correlation(MATRIX, MATRIX**3) == pytest.approx(1)
    assert matrices.rank_correlation(MATRIX, -MATRIX) == pytest.approx(-1)
    rng = np.random.default_rng(0)
    a = clustered(rng, 1.5)
    assert matrices.matrix_permutation(a, a + 0.1 * rng.standard_normal(a.shape), 199) == 1 / 200
    p = [matrices.matrix_permutation(a, clustered(rng, 0), 99, k) for k in range(60)]
    assert 0.3 < np.mean(p) < 0.7


def test_facts_of_the_papers_fig_h() -> None:
    printed = paper.fig_h()
    assert np.diag(printed).mean() == pytest.approx(99.4)
    blocks = figures.converged_blocks(printed)
    own = np.diag(blocks)
    assert dict(zip(blocks.index, own.round(1), strict=True)) == {
        "P_A": 90.7, "P_B": 93.0, "hatP_A": 82.9, "hatP_B": 95.9,
    }  # fmt: skip
    claims = figures.checkpoint_claims(printed / 100, "the paper's own values", draws=99)
    # The paper's own matrix has a block between models, P_A on hatP_B (84.2), above that of hatP_A (82.9).
    assert [claim.verdict for claim in claims] == ["holds", "does not hold", "holds", "holds"]
    assert blocks.loc["P_A", "hatP_B"] == blocks.where(~np.eye(4, dtype=bool)).max().max() > own.min()
    within, between = figures.asymmetry(printed)
    assert within < between


def test_names_of_checkpoints() -> None:
    assert fits.checkpoint_name("demo-progan-ahat-e40") == "hatP_A@40"
    assert fits.checkpoint_name("demo-progan-t-city") == "demo-progan-t-city"
    assert fits.runs_of(["demo-progan-b-e70", "hatP_B@20", "demo-dcgan"]) == ["P_B", "hatP_B", "demo-dcgan"]
    assert converged(["P_A@32", "P_A@40", "demo-progan-b-e70", "demo-dcgan"]) == [False, True, True, False]
    assert [fits.checkpoint_name(n) for n in generators.progan_checkpoints()] == list(paper.fig_h().index)
    assert figures.separators(list(paper.fig_h().index)) == [5, 10, 15]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cross, Path]]:
    """A cross-detection of three decoders with a tiny filter, and its cache."""
    root = tmp_path_factory.mktemp("cross")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFCORE_CACHE", str(root / "cache"))
        weights = save_denoiser(root / "tiny.safetensors", random_dncnn(3, 4), torch.zeros(3, 48, 48), {})
        names = ["demo-deconv2", "demo-deconv2-mixed", "demo-shuffle"]
        plan = CrossPlan(
            "decoders", generators=names, size=32, n_train=8, test=6, steps=3, denoiser=str(weights), seed=1
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as many as a process that fits beside others has: sums round alike
        models = cross(plan)
        torch.set_num_threads(threads)
        yield models, root / "cache"


def test_cross_detection_of_small_models(small: tuple[Cross, Path]) -> None:
    models, _ = small
    table, names = models.table, list(models.fingerprints)
    assert len(table) == 9 and names == list(models.bench.sources)
    assert (table.n_real == 6).all() and (table.n_fake == 6).all() and (table.seed == 1).all()
    for i, j in np.ndindex(3, 3):  # one matrix product equals the loop
        row = table[(table.train == names[i]) & (table.test == names[j])].iloc[0]
        fingerprint = models.fingerprints[names[i]]
        real, fake = (fits.kept(models.fits[f"test_{k}"][j]) for k in ("real", "fake"))
        alone = fingerprint.rho(real), fingerprint.rho(fake)
        for together, found in zip(models.row(names[i], names[j]), alone, strict=True):
            torch.testing.assert_close(together, found, atol=1e-6, rtol=0)
        right = (alone[0] <= fingerprint.threshold).sum() + (alone[1] > fingerprint.threshold).sum()
        assert row.accuracy == pytest.approx(int(right) / 12) == models.matrix.iloc[i, j]
        assert row.auc == pytest.approx(auc(*alone))
        assert row.accuracy_low <= row.accuracy <= row.accuracy_high
    correlation = correlation_matrix(models.averages)
    np.testing.assert_allclose(np.diag(correlation), 1, atol=1e-5)
    np.testing.assert_allclose(correlation, correlation.T, atol=1e-6)
    assert len(models.frame()) == 3 * 3 * 12


def test_a_second_run_reads_and_a_lost_file_is_made_again(small: tuple[Cross, Path]) -> None:
    models, cache = small
    before = {path: path.stat().st_mtime_ns for path in (cache / "cells").glob("*.json")}
    again = cross(models.plan)
    assert {path: path.stat().st_mtime_ns for path in (cache / "cells").glob("*.json")} == before and len(before) == 3
    first = next(iter(models.real))
    torch.testing.assert_close(again.real[first], models.real[first])
    (cache / "fits" / models.fits["dif"][0]).unlink()
    third = cross(models.plan)
    torch.testing.assert_close(third.real[first], models.real[first])
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert len(changed) == 1 and json.loads(changed[0].read_text())["values"]["generator"] == first


def test_two_at_once_never_fit_a_model_twice(
    small: tuple[Cross, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, _ = small
    monkeypatch.setenv("DIFCORE_CACHE", str(tmp_path))
    original, fitted = fits.fit_cell, []

    @wraps(original)
    def counted(load: Any, values: Any, **named: Any) -> dict[str, Any]:
        fitted.append(values["generator"])
        time.sleep(0.2)  # long enough for the other to come by
        return original(load, values, **named)

    monkeypatch.setattr(fits, "fit_cell", counted)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(cross, [models.plan, models.plan]))
    assert sorted(fitted) == sorted(models.real)
    for found in both:
        assert found.table.equals(models.table)


@pytest.mark.slow
def test_models_are_fitted_side_by_side(
    small: tuple[Cross, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, _ = small
    monkeypatch.setenv("DIFCORE_CACHE", str(tmp_path))
    again = cross(replace(models.plan, runtime=Runtime(workers=2)))
    assert list(again.real) == list(models.real) and len(list((tmp_path / "cells").glob("*.json"))) == 3
    for name, here in models.real.items():
        torch.testing.assert_close(here, again.real[name], atol=1e-5, rtol=0)


def test_images_that_a_model_was_fitted_to_are_no_test_images(small: tuple[Cross, Path]) -> None:
    models, _ = small
    changed = models.fits.copy()
    hashes = fits.kept(changed["hashes_fake"][0])
    both = np.concatenate([fits.kept(changed["trained"][1]), hashes[:2]])
    changed.loc[1, "trained"] = fits.keep(both, cache_folder("fits"))
    _, fake = fits.scores_of(patterns_of(models.fingerprints), changed)
    assert [x.shape[1] for x in fake.values()] == [4, 6, 6]


def test_kin_patterns_are_whitened_differences(small: tuple[Cross, Path]) -> None:
    patterns = trees.kin_patterns(small[0])
    assert patterns.shape == (3, 3, 32, 32)
    np.testing.assert_allclose(patterns.sum(0), 0, atol=1e-3 * float(patterns.abs().max()))


def test_trees_of_small_models(small: tuple[Cross, Path]) -> None:
    grown = trees.decoder_trees(small[0], draws=20)
    assert {tree.scores().true for tree in grown.values()} == {1}
    forest = trees.Forest(grown, {"decoders": small[0]}, {})
    assert {"tree", "parent", "child", "confidence", "right"} <= set(forest.edges().columns)
    assert len(forest.claims()) == 3 == len(forest.fits())


def test_links_within_a_run_count_whichever_they_are() -> None:
    def tree(pairs: list[tuple[str, str]]) -> trees.Tree:
        edges = pd.DataFrame(pairs, columns=["parent", "child"])
        groups = {f"{run}@{e}": run for run in ("P_A", "P_B") for e in (40, 52, 70)}
        return trees.Tree("", "", None, edges, [], groups=groups)  # type: ignore[arg-type]

    chain = tree([("P_A@40", "P_A@70"), ("P_A@52", "P_A@70"), ("P_B@40", "P_B@52"), ("P_A@40", "P_B@40")]).scores()
    assert (chain.right, chain.found, chain.true) == (3, 4, 4)
    assert tree([]).scores().true == 4


def no_weights(name: str) -> Path:
    raise FileNotFoundError(name)


def test_without_weights_or_data_a_family_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NeedsData, match="data-root"):
        cross(CrossPlan("progans", "paper"))
    with pytest.raises(NeedsData, match="P_A@20"):
        cross(CrossPlan("progans", "paper", data_root=tmp_path))
    monkeypatch.setattr(generators, "weights_path", no_weights)
    with pytest.raises(NeedsData, match="not shipped"):
        cross(CrossPlan("progans"))


def separate(between: float, own: float = 0.99, spread: float = 0.01, seed: int = 0) -> pd.DataFrame:
    """Cross-detection of six models: ``own`` on the diagonal, about ``between`` elsewhere."""
    names = [f"m{k}" for k in range(6)]
    values = between + spread * np.random.default_rng(seed).standard_normal((6, 6))
    values[np.eye(6, dtype=bool)] = own + 0.001 * np.arange(6)
    return pd.DataFrame(values, names, names)


def test_claims_say_what_does_not_hold() -> None:
    def found(matrix: pd.DataFrame) -> list[str]:
        return [claim.verdict for claim in figures.separate_claims(matrix, "Fig. A", "planted")]

    assert found(separate(0.5)) == ["holds", "holds"]
    assert found(separate(0.8, 0.9)) == ["does not hold", "does not hold"]
    assert found(separate(0.64, 0.968, 0.2)) == ["undecided", "undecided"]
    own, low = figures.separate_claims(MATRIX, "Fig. A", "planted")  # of two trainings: no telling
    assert own.verdict == low.verdict == "undecided" and "P_B@40 on P_B@52" in str(low.ours)
    rng = np.random.default_rng(0)
    groups = list(np.repeat(list("ABCD"), 4))
    clear, vague = (matrices.group_test(clustered(rng, gap), groups, 199) for gap in (3.0, 0.0))
    assert figures.extracted_claims(clear, None, clear, "planted")[0].verdict == "does not hold"
    assert figures.extracted_claims(vague, clear, clear, "planted")[0].verdict == "does not hold"
    random = figures.extracted_claims(vague, vague, clear, "planted")[0]
    assert random.verdict == "consistent" and "does not prove" in random.why


def test_claims_on_averages_can_fail() -> None:
    names = [f"{run}@{epoch}" for run in ("P_A", "P_B", "hatP_A", "hatP_B") for epoch in (40, 52, 70)]
    same = np.kron(np.eye(4), np.ones((3, 3)))
    rng = np.random.default_rng(2)

    def claims(correlation: np.ndarray, detection: np.ndarray) -> list[str]:
        noise = 0.01 * rng.standard_normal((12, 12))
        r = pd.DataFrame(correlation + (noise + noise.T), names, names)
        m = pd.DataFrame(detection, names, names)
        test = figures.run_test(r, 999, 0)
        return [c.verdict for c in figures.average_claims(m, r, test, "planted")]

    def but_one(correlation: np.ndarray, value: float) -> np.ndarray:
        """With another value for one pair of one training, so that the trainings are not all equal."""
        changed = correlation.copy()
        changed[9, 10] = changed[10, 9] = value
        return changed

    assert claims(but_one(0.4 * same, 0.6), 0.5 + 0.49 * same) == ["holds", "holds"]
    assert claims(0.9 - 0.4 * same, 0.5 + 0.1 * same) == ["does not hold", "undecided"]
    assert claims(but_one(0.6 * same, 0.4), 0.5 + 0.1 * same) == ["holds", "does not hold"]
    assert claims(0.4 * same, 0.5 + 0.49 * same) == ["holds", "undecided"]  # four alike, as by chance in one of eight


def test_edges_are_judged_as_far_as_their_number_allows() -> None:
    def judged(right: int, found: int, true: int) -> str:
        names = [f"{k}" for k in range(found)]
        edges = [("parent", name if k < right else f"wrong {name}") for k, name in enumerate(names)]
        scores = edge_scores(edges, [("parent", f"{k}") for k in range(true)])
        return trees.edge_claim("x", scores).verdict

    assert judged(8, 8, 8) == "consistent" and judged(80, 80, 80) == "holds"
    assert judged(2, 8, 8) == "does not hold" and judged(7, 8, 8) == "undecided" and judged(0, 0, 8) == "does not hold"
    assert judged(0, 0, 0) == "not comparable"  # nothing known, nothing found
    assert judged(0, 0, 1) == "does not hold" and judged(1, 1, 1) == "consistent"


def test_matrix_panels_draw_values_and_labels() -> None:
    panels = [
        MatrixPanel(100 * MATRIX, "ours", "accuracy (%)", 50, 100),
        MatrixPanel(MATRIX - MATRIX.T, diverging=True),
    ]
    figure = matrix_panels(panels, separators=[2])
    first = figure.axes[0]
    assert [t.get_text() for t in first.get_yticklabels()][0] == "$P_A$, 40"
    assert {text.get_text() for text in first.texts} >= {"99", "60", "97"}
    assert figure.axes[2].images[0].get_clim() == pytest.approx((-0.1, 0.1))
    about_half = matrix_panels([MatrixPanel(MATRIX, vmin=0, vmax=0.8, diverging=True, centre=0.5)])
    assert about_half.axes[0].images[0].get_clim() == (0, 1)


def test_a_test_by_training_run_needs_two_runs_and_two_checkpoints_of_one() -> None:
    assert figures.run_test(MATRIX, 99, 0).within == pytest.approx(np.mean([0.9, 0.8, 0.95, 0.85]))
    for names in (NAMES[:2], NAMES[1:3]):
        with pytest.raises(NeedsData, match="needs two training runs"):
            figures.run_test(MATRIX.loc[names, names], 99, 0)
