"""Figures: right axes and labels, nothing cut off, spectra that peak where a grid was planted, no global state."""

from itertools import product

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from skimage.color import rgb2lab

from difcore import figures, paper
from difcore.figures import spectra, style
from difcore.figures.heatmaps import number

SIDE = 64
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_global_state():
    before = dict(mpl.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def grid(period: int, side: int = SIDE) -> np.ndarray:
    """A pulse every ``period`` px in both directions, in three channels."""
    plane = np.zeros((side, side))
    plane[::period, ::period] = 1
    return np.stack([plane, 0.5 * plane, plane])


def noise(side: int = SIDE) -> np.ndarray:
    return RNG.standard_normal((3, side, side))


def texts(figure) -> list[str]:
    found = [t.get_text() for t in figure.findobj(mpl.text.Text) if t.get_visible()]
    return [t for t in found if t]


def assert_nothing_cut(figure) -> None:
    FigureCanvasAgg(figure).draw()
    box, outline = figure.get_tightbbox(), figure.bbox_inches
    assert box.x0 >= -0.01 and box.y0 >= -0.01, f"cut at the left or bottom: {box}"
    assert box.x1 <= outline.x1 + 0.01 and box.y1 <= outline.y1 + 0.01, f"cut at the right or top: {box} in {outline}"


# spectra


@pytest.mark.parametrize("period", [2, 8])
@pytest.mark.parametrize("channel", ["RGB", "G", "mean"])
def test_spectrum_of_a_grid_peaks_at_its_harmonics_only(period: int, channel: str) -> None:
    spectrum = figures.fourier_magnitude(grid(period) + 1e-3 * noise(), channel=channel)
    peaks = set(map(tuple, np.argwhere(spectrum > 0.5)))
    step = SIDE // period
    expected = {
        (SIDE // 2 + i * step, SIDE // 2 + j * step) for i in range(-period, period) for j in range(-period, period)
    }
    expected = {(i, j) for i, j in expected if 0 <= i < SIDE and 0 <= j < SIDE} - {(SIDE // 2, SIDE // 2)}
    assert peaks == expected and len(expected) == period**2 - 1


def test_spectrum_range_power_and_invariance() -> None:
    pattern = noise()
    first = figures.fourier_magnitude(pattern, power=1)
    assert first.min() == 0 and first.max() == 1
    np.testing.assert_allclose(figures.fourier_magnitude(pattern, power=4), first**4)
    np.testing.assert_allclose(
        figures.fourier_magnitude(7 * pattern + np.array([1, 2, 3])[:, None, None], 1), first, atol=1e-9
    )
    green = np.stack([noise()[0], pattern[1], noise()[0]])
    np.testing.assert_array_equal(figures.fourier_magnitude(green, 1, "G"), figures.fourier_magnitude(pattern, 1, "G"))


def test_spectrum_of_nothing_and_of_nonsense() -> None:
    assert not figures.fourier_magnitude(np.full((3, 16, 16), 0.1)).any()
    with pytest.raises(ValueError, match="positive"):
        figures.fourier_magnitude(noise(), power=0)
    with pytest.raises(ValueError, match="unknown channel"):
        figures.fourier_magnitude(noise(), channel="alpha")
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        figures.fourier_magnitude(np.zeros((4, 8, 8)))


def test_fingerprint_image_ignores_outliers_and_keeps_hues() -> None:
    pattern = np.clip(noise(), -2, 2)
    spiked = pattern.copy()
    spiked[0, 0, 0] = 1e6
    np.testing.assert_allclose(figures.fingerprint_image(spiked)[1:], figures.fingerprint_image(pattern)[1:], atol=0.01)
    assert figures.fingerprint_image(pattern).shape == (SIDE, SIDE, 3)
    assert figures.fingerprint_image(pattern, "mean").shape == (SIDE, SIDE)
    red = np.stack([np.ones((8, 8)), np.zeros((8, 8)), np.zeros((8, 8))])
    np.testing.assert_array_equal(figures.fingerprint_image(red)[0, 0], [1, 0, 0])
    np.testing.assert_array_equal(figures.fingerprint_image(np.ones((3, 8, 8))), 0.5)


def test_radial_power_is_flat_for_noise_and_peaks_for_a_grid() -> None:
    frequency, power = spectra.radial_power(3 * noise(128), bins=16)
    assert frequency[0] > 0 and frequency[-1] < 0.5**0.5
    np.testing.assert_allclose(power[2:-1], 9, rtol=0.15)
    frequency, power = spectra.radial_power(grid(8) + 1e-3 * noise(), bins=64)
    assert power[np.argmin(abs(frequency - 1 / 8))] > 1e3 * power[np.argmin(abs(frequency - 0.15))]


def test_local_correlation_adds_up_to_rho_and_shows_where() -> None:
    pattern, residual = noise(), noise()
    residual[:, :16, 16:32] += 2 * pattern[:, :16, 16:32]
    local = spectra.local_correlation(residual, pattern, 16)
    assert local.mean() == pytest.approx(np.corrcoef(residual.ravel(), pattern.ravel())[0, 1])
    assert np.unravel_index(local.argmax(), local.shape) == (0, 1)
    assert not spectra.local_correlation(np.ones((3, 8, 8)), noise(8), 4).any()
    with pytest.raises(ValueError, match="do not fit"):
        spectra.local_correlation(noise(8), noise(16))
    with pytest.raises(ValueError, match="do not fit"):
        spectra.local_correlation(noise(8), noise(8), 16)


# style


def test_signed_map_is_perceptually_uniform_and_symmetric() -> None:
    rgb = np.asarray(style.signed_map(255).colors)
    lab = rgb2lab(rgb)
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert steps.std() / steps.mean() < 1e-3
    np.testing.assert_allclose(lab[:, 0], lab[::-1, 0], atol=1e-3)


def test_annotations_contrast_with_their_cells() -> None:
    assert style.readable_on((0.99, 0.9, 0.14)) == "black"
    assert style.readable_on((0.27, 0.0, 0.33, 1.0)) == "white"


def test_notebooks_get_a_png_and_equal_figures_equal_bytes() -> None:
    one, two = (figures.loss_curve([3.0, 2.0, 1.0], "loss") for _ in range(2))
    assert one._repr_png_().startswith(b"\x89PNG") and one._repr_png_() == two._repr_png_()
    assert style.png(figures.loss_curve([3.0, 2.0, 1.5], "loss")) != style.png(one)


# figures


def test_fingerprint_panels_follow_the_paper_and_wrap_by_family() -> None:
    figure = figures.fingerprint_panels({g: noise() for g in reversed(paper.GENERATORS)})
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == [paper.DISPLAY[g] for g in paper.GENERATORS]
    assert len(figure.axes) == 26
    lines = {
        paper.DISPLAY[g]: a.get_subplotspec().rowspan.start
        for a in figure.axes
        for g in paper.GENERATORS
        if a.get_title() == paper.DISPLAY[g]
    }
    assert {lines[paper.DISPLAY[g]] for g in paper.LTIM} == {0} and {lines[paper.DISPLAY[g]] for g in paper.GAN} == {2}
    mine = figures.fingerprint_panels({g: noise() for g in [*paper.GENERATORS, "mine"]})  # ends the first line
    assert [a.get_title() for a in mine.axes if a.get_title()][6] == "mine" and mine.axes[0].get_gridspec().nrows == 4
    more = figures.fingerprint_panels({g: noise() for g in [*paper.GENERATORS, "mine", "own"]})  # have their own
    assert more.axes[0].get_gridspec().nrows == 6
    assert_nothing_cut(figure)


def test_fingerprint_panels_small_cases() -> None:
    figure = figures.fingerprint_panels({"mine": noise()}, power=2)
    assert len(figure.axes) == 2 and "Fourier, power 2" in texts(figure)
    assert_nothing_cut(figure)


def test_gray_panels_state_their_contrast() -> None:
    outputs = {1000: 0.5 + 0.001 * grid(8), 100: 0.5 + 0.01 * noise(), 1: np.full((3, SIDE, SIDE), 0.5)}
    figure = figures.gray_panels(outputs)
    assert [a.get_title() for a in figure.axes if a.get_title()] == ["step 1", "step 100", "step 1000"]
    assert "constant" in texts(figure)
    low, high = np.percentile(outputs[100], [1, 99])
    assert f"contrast ×{1 / (high - low):.2g}" in texts(figure)
    assert_nothing_cut(figure)


def test_score_histogram_threshold_is_the_midpoint() -> None:
    figure = figures.score_histograms(RNG.normal(0, 0.004, 10), RNG.normal(0.013, 0.004, 12), 0.0, 0.013, "SD 1.4")
    axes = figure.axes[0]
    lines = [line for line in axes.lines if len(set(line.get_xdata())) == 1 and line.get_linestyle() == "--"]
    assert lines[0].get_xdata()[0] == pytest.approx(0.0065)
    assert {"real, n = 10", "generated, n = 12", "threshold +0.0065"} <= set(texts(figure))
    assert len(axes.patches) == 2
    assert_nothing_cut(figure)
    with pytest.raises(ValueError, match="both classes"):
        figures.score_histograms([], [0.1], 0, 1)


def test_accuracy_comparison_marks_paper_hollow_and_ours_filled() -> None:
    n = len(paper.GENERATORS)
    frame = pd.DataFrame({"generator": paper.GENERATORS, "paper": paper.README_ACCURACY.values()})
    frame["ours"] = [100.0, 85, 100, 95, 50, 65] + [np.nan] * 7
    frame["low"], frame["high"] = frame["ours"] - 15, np.minimum(100, frame["ours"] + 10)
    figure = figures.accuracy_comparison(frame)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [paper.DISPLAY[g] for g in paper.GENERATORS]
    theirs = next(line for line in axes.lines if line.get_label() == "paper")
    ours = next(line for line in axes.lines if line.get_label().startswith("ours"))
    assert theirs.get_markerfacecolor() == "none" and ours.get_markerfacecolor() == style.PALETTE[0]
    assert len(theirs.get_xdata()) == n and np.isfinite(ours.get_xdata()).sum() == 6
    assert axes.yaxis_inverted()
    assert_nothing_cut(figure)


@pytest.mark.parametrize(("rows", "columns"), [(13, 6), (13, 13), (2, 2)])
def test_heatmap_sizes(rows: int, columns: int) -> None:
    values = RNG.uniform(0, 1, (rows, columns))
    names = paper.GENERATORS
    frame = pd.DataFrame(values, names[:rows], names[:columns])
    figure = figures.matrix_heatmap(frame, separators=(6,), unit="AUC", vmin=0, vmax=1, title="m")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == [paper.DISPLAY[g] for g in names[:columns]]
    assert [t.get_text() for t in axes.texts] == [f"{v:.2f}" for v in values.ravel()]
    assert figure.axes[1].get_ylabel() == "AUC"
    assert_nothing_cut(figure)
    renderer = figure.canvas.get_renderer()
    cell = axes.transData.transform([[0, 0], [1, 1]])
    width, height = np.abs(np.diff(cell, axis=0))[0]
    for text in axes.texts:
        box = text.get_window_extent(renderer)
        assert box.width < width and box.height < height, f"{text.get_text()} does not fit its cell"


def test_heatmap_of_fig_h_with_formulas() -> None:
    figure = figures.matrix_heatmap(
        paper.fig_h(), unit="accuracy (%)", fmt=".1f", vmin=50, vmax=100, separators=(5, 10, 15)
    )
    assert len(figure.axes[0].texts) == 400
    assert r"$\hat{P}_A$, 40" in texts(figure)
    assert_nothing_cut(figure)


def test_heatmap_diverging_gaps_and_highlight() -> None:
    matrix = pd.DataFrame([[0.9, np.nan], [0.2, 0.5]], ["a", "b"], ["c", "d"])
    figure = figures.matrix_heatmap(matrix, diverging=True, centre=0.5, highlight=(1, 0))
    axes = figure.axes[0]
    assert axes.images[0].get_clim() == pytest.approx((0.1, 0.9))
    assert [t.get_text() for t in axes.texts] == ["0.90", "–", "0.20", "0.50"]
    frame = next(p for p in axes.patches if isinstance(p, mpl.patches.Rectangle))
    assert frame.get_xy() == (-0.5, 0.5)
    assert_nothing_cut(figure)


def test_numbers_have_true_minus_signs_and_no_negative_zero() -> None:
    assert number(-0.051, ".2f") == "−0.05"
    assert number(-0.001, ".2f") == "0.00"


def test_training_agreement_panels() -> None:
    rows = [(d, s, "auc", g, 0.5 + s / 2e4) for d in ("photos", "scenes") for s in (100, 1000) for g in paper.LTIM]
    rows += [(d, s, "psnr", f"σ = {v}", 30.0) for d in ("photos", "scenes") for s in (100, 1000) for v in (5, 10)]
    frame = pd.DataFrame(rows, columns=["denoiser", "step", "quantity", "series", "value"])
    figure = figures.training_agreement(frame)
    assert len(figure.axes) == 4 and all(a.get_xscale() == "log" for a in figure.axes)
    assert {"denoiser: photos", "denoiser: scenes", "SD 1.4", "σ = 10", "PSNR (dB)"} <= set(texts(figure))
    assert sum(len(line.get_xdata()) == 2 and line.get_marker() != "None" for line in figure.axes[0].lines) == 6
    assert_nothing_cut(figure)


def test_denoiser_example_measures_what_it_shows() -> None:
    clean = np.full((3, 32, 32), 0.5)
    error = np.where(RNG.random((3, 32, 32)) < 0.5, -0.1, 0.1)
    figure = figures.denoiser_example(clean, clean + error, error * 0.9, "σ")
    assert {"20.0 dB", "40.0 dB", "reference", "residual"} <= set(texts(figure))
    assert_nothing_cut(figure)


def test_evidence_and_pair_and_closeup() -> None:
    pattern = noise()
    figure = figures.evidence_panels(np.zeros((SIDE, SIDE, 3), np.uint8), 2 * pattern, pattern, "mj", block=8)
    assert {"ρ = +1.0000", "MJ", "local ρ, 8 px squares"} <= set(texts(figure))
    assert_nothing_cut(figure)
    pair = figures.fingerprint_closeup({"sd14": pattern, "mj": noise()})
    assert [a.get_title() for a in pair.axes] == ["SD 1.4", "Fourier, power 4", "MJ", "Fourier, power 4"]
    assert_nothing_cut(pair)
    assert_nothing_cut(figures.fingerprint_closeup(pattern, "mj", crop=16))


def test_image_grid() -> None:
    images = [RNG.integers(0, 256, (16, 20, 3), np.uint8) for _ in range(5)]
    figure = figures.image_grid(images, [f"image {k}" for k in range(5)], columns=3, title="five")
    assert [a.get_title() for a in figure.axes] == [f"image {k}" for k in range(5)]
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), images[3])
    assert_nothing_cut(figure)
    with pytest.raises(ValueError, match="shorter"):
        figures.image_grid(images, ["one"])


def test_loss_curve_scale_follows_sign_and_range() -> None:
    assert figures.loss_curve([20.0, 2.0]).axes[0].get_yscale() == "log"
    assert figures.loss_curve([2.0, 1.0]).axes[0].get_yscale() == "linear"
    figure = figures.loss_curve({"a": [1.0, -1.0], "b": [1.0, 0.5]}, "two", window=2)
    assert figure.axes[0].get_yscale() == "linear" and {"a", "b"} <= set(texts(figure))
    smooth = next(line for line in figure.axes[0].lines if line.get_label() == "a")
    np.testing.assert_allclose(smooth.get_ydata(), [1.0, 0.0])
    assert_nothing_cut(figure)


def test_radial_spectrum_of_many() -> None:
    figure = figures.radial_spectrum({"mj": noise(), "sd14": grid(8)})
    assert len(figure.axes) == 2 and {"SD 1.4", "MJ", "8 px"} <= set(texts(figure))
    assert_nothing_cut(figure)


def draws() -> pd.DataFrame:
    fits = product(("mj", "sd14", "mine", "own"), ("DIF", "Grag21"), (16, 64), range(3))
    rows = [(*fit, 0.4 + 0.1 * np.log2(fit[2] / 8) + 0.02 * fit[3]) for fit in fits]
    return pd.DataFrame(rows, columns=["generator", "method", "n_train", "seed", "accuracy"])


def test_size_curves_show_the_mean_and_the_range_of_the_seeds() -> None:
    figure = figures.size_curves(draws(), title="sizes")
    assert [axes.get_title() for axes in figure.axes] == ["SD 1.4", "MJ", "mine", "own"]
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_marker() == "o"]
    np.testing.assert_allclose(lines[0].get_ydata(), [52, 72])
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(50) and band.max() == pytest.approx(74)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [f"{name}, mean and range of 3 seeds" for name in ("DIF", "Grag21")]
    assert_nothing_cut(figure)
    with pytest.raises(ValueError, match="no accuracy"):
        figures.size_curves(draws().assign(accuracy=np.nan))


def test_boxes_show_every_draw() -> None:
    figure = figures.accuracy_boxes(draws()[lambda t: t["n_train"] == 64], title="three draws")
    points = [line for line in figure.axes[0].lines if line.get_label() in ("DIF", "Grag21")]
    for line in points:
        np.testing.assert_allclose(line.get_ydata(), [70, 72, 74] * 4)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["SD 1.4", "MJ", "mine", "own"]
    assert_nothing_cut(figure)


def test_bars_with_intervals_the_papers_values_and_gaps() -> None:
    frame = pd.DataFrame(
        {"method": ["A", "A", "B", "B"], "filter": ["x", "y"] * 2, "accuracy": [0.6, 0.9, np.nan, 0.8]}
    )
    figure = figures.grouped_bars(frame.assign(low=0.5, high=0.95, paper=[61, 88, 70, np.nan]), "method", "filter")
    axes = figure.axes[0]
    assert [bar.get_height() for bars in axes.containers for bar in bars] == pytest.approx([60, 0, 90, 80])
    theirs = [line.get_ydata() for line in axes.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(theirs, [[61, 70], [88, np.nan]])
    assert "no result" in texts(figure) and axes.get_ylim() == (45, 102)
    assert_nothing_cut(figure)
    assert len(figures.grouped_bars(frame, "method", "filter").legends[0].get_texts()) == 2  # no paper
