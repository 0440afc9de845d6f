"""The demo's fingerprints in data/: DIF fits of three shipped decoders at 128 px, each with a null of held-out scenes.

    python scripts/demo_fingerprints.py [NAME ...]

Two to three minutes each on one core. Images are of other seeds than those that the notebooks judge.
"""

import sys

from difcore.demo.generators import fakes_of
from difcore.experiments.pools import FAKE_SEED, REAL_SEED, kept_scenes
from difcore.experiments.showroom import FILES
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import FitOptions
from difcore.residuals.denoisers import LIMIT, load_denoiser

TRAIN, NULL, CROP, FIRST = 96, 64, 128, 500_000

if __name__ == "__main__":
    denoiser = load_denoiser("photos", limit=LIMIT)
    reals = kept_scenes(range(REAL_SEED + FIRST, REAL_SEED + FIRST + TRAIN + NULL), CROP)
    for name in sys.argv[1:] or FILES:
        seeds = range(FAKE_SEED + FIRST, FAKE_SEED + FIRST + TRAIN)
        fakes = fakes_of(name, seeds, CROP, scenes_of=kept_scenes)
        plan, options = DifPlan(steps=250, seed=0), FitOptions(TRAIN, crop=CROP)
        Detector.fit(reals, fakes, denoiser, plan, options, name=name).save(FILES[name])
