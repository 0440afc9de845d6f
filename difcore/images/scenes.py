"""Procedural photographs: textured dead leaves seen through a simple camera. The offline source of real images.

Dead leaves (opaque shapes of power-law sizes, each covering what came before) reproduce the statistics of natural
images that a residual filter lives on: edges at every scale, occlusion, a power spectrum that falls roughly as
1/f^2. Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

BLOCK = 128  # leaves looked at together
MARGIN = 8  # px rendered beyond the crop so that blur and demosaicking see no border


@dataclass(frozen=True)
class SceneStyle:
    """What distinguishes one family of scenes ("class of photographs") from another."""

    exponent: float = 3.0  # radii follow a density r^-exponent; 3 gives scale invariance
    radius: tuple[float, float] = (0.005, 0.5)  # smallest and largest, as fractions of the image side
    shapes: tuple[str, ...] = ("disc", "ellipse", "box")
    stripes: float = 0.2  # probability that a leaf is striped
    fractal: float = 0.14  # strength of its fractal texture
    hue: tuple[float, float] = (0.0, 1.0)  # centre and width, in turns, of its leaves' hues; width 1 leaves them free
    camera: str = "bilinear"  # or "binned": how colours are made of the sensor's mosaic, see ``bayer_camera``


STYLES: dict[str, SceneStyle] = {
    "mixed": SceneStyle(),
    "pebbles": SceneStyle(
        exponent=2.6, radius=(0.006, 0.25), shapes=("disc",), stripes=0.0, fractal=0.12, hue=(0.08, 0.15)
    ),
    "city": SceneStyle(shapes=("box",), radius=(0.006, 0.4), stripes=0.5, fractal=0.05, hue=(0.6, 0.3)),
    "foliage": SceneStyle(
        exponent=3.2, shapes=("ellipse",), radius=(0.006, 0.3), stripes=0.1, fractal=0.16, hue=(0.28, 0.18)
    ),
    "fabric": SceneStyle(exponent=2.8, radius=(0.005, 0.5), stripes=0.8, fractal=0.08, hue=(0.95, 0.5)),
    "clouds": SceneStyle(
        exponent=2.5, radius=(0.005, 0.6), shapes=("disc", "ellipse"), stripes=0.0, fractal=0.2, hue=(0.58, 0.1)
    ),
    "snapshots": SceneStyle(camera="binned"),
}
STREAMS = sorted(STYLES)  # the random numbers of a scene depend on its style's place here
BINNED = "-binned"
STYLES |= {f"{name}{BINNED}": replace(s, camera="binned") for name, s in STYLES.items() if s.camera != "binned"}


def fractal_noise(size: int, rng: np.random.Generator, slope: float = 1.0) -> np.ndarray:
    """Periodic noise (size, size) float32 whose amplitude falls as 1/f^slope; mean 0, standard deviation 1."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    f = np.hypot(fy, fx)
    f[0, 0] = np.inf
    spectrum = (rng.standard_normal(f.shape, np.float32) + 1j * rng.standard_normal(f.shape, np.float32)) / f**slope
    noise = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    return (noise - noise.mean()) / noise.std()


def hue_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Colours (..., 3) in [0, 1] from hue (turns), saturation and value."""
    k = (hue[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))


def dead_leaves(size: int, rng: np.random.Generator, style: SceneStyle = SceneStyle()) -> np.ndarray:
    """Radiance (size, size, 3) float32 in [0, 1]: leaves laid front to back until every pixel is covered.

    Front to back, a leaf paints only pixels that are still bare, so work stops as soon as none is left; the image
    is that of laying infinitely many leaves back to front.
    """
    detail = rng.uniform(0, 1) ** 2  # 0: everything sharp and small; 1: few, large leaves
    r_min, r_max = max(0.8, size * style.radius[0] * (1 + 1.5 * detail)), size * style.radius[1]
    image = np.empty((size, size, 3), np.float32)
    bare = np.ones((size, size), bool)
    textures = [fractal_noise(size, rng, slope) for slope in (0.3, 0.9)]
    scene_hue = rng.random() if style.hue[1] >= 1 else style.hue[0]
    palette_width = style.hue[1] if style.hue[1] < 1 else rng.uniform(0.1, 1.0)
    light = rng.uniform(0, 2 * np.pi)
    count = 20_000
    u = rng.random(count)
    p = 1 - style.exponent
    radii = (r_min**p + u * (r_max**p - r_min**p)) ** (1 / p)  # inverse of the power law's distribution
    centre = rng.uniform(-0.1 * size, 1.1 * size, (count, 2))
    hue = (scene_hue + palette_width * (rng.random(count) - 0.5)) % 1
    colour = hue_to_rgb(hue, rng.beta(1.6, 2.5, count), rng.beta(1.3, 1.3, count) * 0.9 + 0.05).astype(np.float32)
    low = np.maximum(0, np.floor(centre - radii[:, None])).astype(int)
    high = np.minimum(size, np.ceil(centre + radii[:, None])).astype(int)
    for i in uncovered(bare, low, high):
        r, (y0, x0), (y1, x1) = radii[i], low[i], high[i]
        dy = (np.arange(y0, y1, dtype=np.float32) - centre[i, 0])[:, None] / r
        dx = (np.arange(x0, x1, dtype=np.float32) - centre[i, 1])[None] / r
        angle, shape = rng.uniform(0, np.pi), style.shapes[rng.integers(len(style.shapes))]
        a, b = dy * np.cos(angle) + dx * np.sin(angle), dx * np.cos(angle) - dy * np.sin(angle)
        if shape == "box":
            inside = (np.abs(a) < 0.7) & (np.abs(b) < rng.uniform(0.25, 0.7))
        else:
            inside = a * a + (b * b) / (rng.uniform(0.2, 0.9) if shape == "ellipse" else 1.0) < 1
        inside &= bare[y0:y1, x0:x1]
        if not inside.any():
            continue
        shade = 1 + rng.uniform(0, 0.35) * (dy * np.sin(light) + dx * np.cos(light))
        if rng.random() < style.stripes:
            period = rng.uniform(3, 24) / r
            shade = shade * (1 + rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * a / period + rng.uniform(0, 6.3)))
        if style.fractal:
            texture = textures[rng.integers(2)]
            shade = shade + rng.gamma(1.0, style.fractal) * texture[y0:y1, x0:x1]
        patch = image[y0:y1, x0:x1]
        patch[inside] = colour[i] * shade[inside][:, None]
        bare[y0:y1, x0:x1] &= ~inside
    image[bare] = 0.5
    return np.clip(image, 0, 1)


def uncovered(bare: np.ndarray, low: np.ndarray, high: np.ndarray) -> Iterator[int]:
    """Boxes ``low[i]`` to ``high[i]`` (y, x) in which a pixel is bare, in their order, while ``bare`` shrinks.

    Most leaves lie behind others: a table of sums finds those of a block at once.
    """
    for start in range(0, len(low), BLOCK):
        sums = np.zeros((len(bare) + 1, len(bare) + 1), np.int32)
        sums[1:, 1:] = bare.cumsum(0, dtype=np.int32).cumsum(1)
        if not sums[-1, -1]:
            return
        (y0, x0), (y1, x1) = low[start : start + BLOCK].T, high[start : start + BLOCK].T
        there = (y0 < y1) & (x0 < x1)
        y0, x0, y1, x1 = (np.where(there, edge, 0) for edge in (y0, x0, y1, x1))
        left = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        for i in (start + np.flatnonzero(left)).tolist():
            if bare[low[i, 0] : high[i, 0], low[i, 1] : high[i, 1]].any():
                yield i


def bayer_camera(radiance: np.ndarray, rng: np.random.Generator, demosaic: str = "bilinear") -> np.ndarray:
    """What a camera makes of ``radiance`` (H, W, 3) in [0, 1]: uint8 (H, W, 3).

    Lens blur, an RGGB Bayer mosaic, Poisson-Gaussian noise at the sensor, demosaicking, gamma, 8 bits.

    Parameters
    ----------
    demosaic : {"bilinear", "binned"}
        Bilinear: a pixel of the image is one of the mosaic, which leaves its lattice of period 2 in the noise.
        Binned: a pixel is a 2x2 cell of a sensor of twice the resolution, and no lattice is left, as in most
        photographs, which have been made smaller.
    """
    image = ndimage.gaussian_filter(radiance, (s := rng.uniform(0.3, 0.6), s, 0)) ** 2.2
    electrons, reading = rng.uniform(1500, 12000), rng.uniform(2, 6)  # full well: the fewer, the noisier

    def sense(light: np.ndarray) -> np.ndarray:
        variance = light / electrons + (reading / electrons) ** 2
        return light + rng.standard_normal(light.shape, np.float32) * np.sqrt(variance)

    planes = {"bilinear": bilinear, "binned": binned}[demosaic](image, sense)
    rgb = np.clip(np.stack(list(planes), -1), 0, 1) ** (1 / 2.2)
    return np.round(rgb * 255).astype(np.uint8)


def bilinear(image: np.ndarray, sense: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
    """Planes (H, W) of a mosaic of the image's own resolution, missing colours from their neighbours."""
    masks = np.zeros((3, *image.shape[:2]), np.float32)
    masks[0, ::2, ::2] = masks[2, 1::2, 1::2] = masks[1, ::2, 1::2] = masks[1, 1::2, ::2] = 1
    sensor = sense(np.einsum("chw,hwc->hw", masks, image))
    cross = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
    square = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4
    return (ndimage.convolve(sensor * m, k, mode="mirror") for m, k in zip(masks, (square, cross, square), strict=True))


def binned(image: np.ndarray, sense: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
    """Planes (H, W) of a mosaic of twice the resolution: red, the mean of two greens, blue of each 2x2 cell.

    The photosites lie a quarter of a pixel off the cell's centre, where the image is interpolated.
    """
    shifts = (np.array([0.25, 0.75, 0], np.float32), np.array([0, 0.75, 0.25], np.float32))

    def site(colour: int, y: int, x: int) -> np.ndarray:
        rows = ndimage.correlate1d(image[..., colour], shifts[y], 0, mode="mirror")
        return sense(ndimage.correlate1d(rows, shifts[x], 1, mode="mirror"))

    yield site(0, 0, 0)
    yield (site(1, 0, 1) + site(1, 1, 0)) / 2
    yield site(2, 1, 1)


def scene(seed: int, size: int = 256, style: str = "mixed") -> np.ndarray:
    """One procedural photograph, uint8 (size, size, 3), a function of its arguments alone."""
    if style not in STYLES:
        raise ValueError(f"unknown scene style {style!r}; choose from {', '.join(STYLES)}")
    if size < 16:
        raise ValueError(f"a scene needs at least 16 px a side, got {size}")
    rng = np.random.default_rng([seed, STREAMS.index(style.removesuffix(BINNED))])
    full = bayer_camera(dead_leaves(size + 2 * MARGIN, rng, STYLES[style]), rng, STYLES[style].camera)
    y, x = MARGIN - rng.integers(2, size=2)  # a crop begins anywhere on the sensor: no phase of its mosaic is common
    return np.ascontiguousarray(full[y : y + size, x : x + size])


def scenes(count: int, size: int = 256, style: str = "mixed", first_seed: int = 0) -> Iterator[np.ndarray]:
    """``count`` scenes of consecutive seeds."""
    return (scene(first_seed + k, size, style) for k in range(count))


def rendered(seeds: Iterable[int], size: int, style: str) -> np.ndarray:
    """The scenes of some seeds, uint8 (n, size, size, 3)."""
    return np.stack([scene(seed, size, style) for seed in seeds])
