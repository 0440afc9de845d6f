"""The null of the published fingerprints: what is shipped, when it is used, and the authors' images judged by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from difcore.experiments.published import published_fingerprints
from difcore.fingerprints.detector import FOREIGN_DENOISER, KINDS, OFFICIAL, TABLE, Bank, Detector, published_null
from difcore.fingerprints.null import Null, null_of
from difcore.fingerprints.verdicts import overall
from difcore.images.folders import list_images
from difcore.images.sources import release_registry
from difcore.paper import GENERATORS, WITH_IMAGES
from difcore.residuals.denoisers import LIMIT, Denoiser, load_denoiser

KIN = {"sd14": {"sd14", "mj"}, "mj": {"sd14", "mj"}}


def published(name: str) -> Detector:
    """A fingerprint with the identity of a published one, its pattern random."""
    digest = release_registry()[f"checks/{name}/chk_0.pt"]
    return Detector(torch.rand(3, 8, 8), 0, 0.01, name="renamed", metadata={"source": OFFICIAL, "file_sha256": digest})


def test_the_table_holds_correlations_of_each_kind_with_each_fingerprint() -> None:
    table = pd.read_csv(TABLE)
    assert list(table.columns) == ["kind", *GENERATORS] and set(table.kind) == set(KINDS)
    assert table.groupby("kind").size().min() >= 100 and (table.kind == "jpeg").sum() == 360
    assert table[list(GENERATORS)].abs().to_numpy().max() < 0.2


@pytest.mark.parametrize("name", GENERATORS)
def test_each_is_recognised_by_its_checkpoint_whatever_its_name(name: str) -> None:
    null = published_null(published(name))
    assert null is not None and list(null.kinds) == list(KINDS.values())
    column = pd.read_csv(TABLE).query("kind == 'jpeg'")[name]
    np.testing.assert_allclose(null.kinds[KINDS["jpeg"]].rho, np.sort(column[column != 0]))
    assert null.smallest * len(GENERATORS) < 0.01  # all of them together can be asked at the default rate


def test_no_other_fingerprint_gets_it_nor_any_with_another_filter() -> None:
    known, good = published("mj"), load_denoiser(FOREIGN_DENOISER, limit=LIMIT)

    def null(detector: Detector, denoiser: Denoiser) -> Null | None:
        return Bank([detector], denoiser).detectors[0].null

    assert null(known, good) is not None
    other = replace(known, metadata={**known.metadata, "file_sha256": "0" * 64})
    assert null(other, good) is None
    assert null(replace(known, metadata={"file_sha256": known.metadata["file_sha256"]}), good) is None
    assert null(known, load_denoiser(FOREIGN_DENOISER)) is None
    assert null(known, load_denoiser("photos", limit=LIMIT)) is None
    own = replace(known, null=null_of({"mine": [0.1, 0.2]}))
    assert null(own, good) is own.null


@pytest.mark.slow
def test_the_authors_images_and_photographs_are_judged_rightly(shared_data: Path) -> None:
    release = shared_data / "dif_official"
    if not release.is_dir():
        pytest.skip("needs the authors' release")
    prints = list(published_fingerprints(release).values())
    bank = Bank(prints)

    def judged(files: list[Path]) -> pd.DataFrame:
        return bank.decide(files)

    ranked = {}
    for name in WITH_IMAGES:
        table = judged(list_images(release / "data" / name / "1_fake"))
        first = table.groupby("image", sort=False).fingerprint.apply(lambda names: set(names.iloc[:2]))
        ranked[name] = sum(bool(two & KIN.get(name, {name})) for two in first)
        assert len(first) == 10
    assert ranked["sd14"] >= 9 and ranked["mj"] >= 9 and ranked["dalle_mini"] >= 8, ranked
    reals = [path for name in WITH_IMAGES for path in list_images(release / "data" / name / "0_real")]
    for files in (reals, list_images(shared_data / "photos" / "test")):
        verdicts = judged(files).groupby("image").verdict.apply(lambda v: overall(list(v)))
        assert len(verdicts) == len(files)
        assert (verdicts == "generated").mean() <= 0.02, verdicts[verdicts == "generated"]
