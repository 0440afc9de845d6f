"""How long a batch still takes: by what its notebooks took before, else by what they cost relative to one another."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

# Seconds in one run of the demo (README's table). Only their ratios are used: a machine's own pace is told by the
# notebooks that it has run.
COSTS = {
    "00_start_here": 43,
    "01_gray_image": 69,
    "02_fingerprints": 40,
    "03_published_detection": 60,
    "04_published_lineage": 14,
    "05_train_denoiser": 56,
    "06_train_generators": 12,
    "10_tab_A_denoising_filter": 63,
    "11_tab_B_unet": 8,
    "12_tab_C_architectures": 113,
    "13_fig_B_train_size_gans": 101,
    "14_fig_C_train_size_ltims": 68,
    "15_fig_D_consistency": 71,
    "16_fig_E_variants": 52,
    "17_detection_methods": 33,
    "18_train_your_own": 36,
    "19_detect_your_own": 33,
    "20_fig_A_cross_detection_gans": 80,
    "21_fig_F_cross_detection_progan_t": 127,
    "22_fig_G_checkpoints": 11,
    "23_fig_H_cross_detection_progans": 160,
    "24_fig_I_cross_correlation_FA": 110,
    "25_fig_J_cross_correlation_FE": 12,
    "26_lineage_tree": 113,
    "27_train_progan": 19,
    "44_controls": 30,
}


def notebook_of(run: str) -> str:
    """The notebook of a run: its name without the values of a sweep."""
    return run.partition("--")[0]


def expected_seconds(runs: Iterable[str], known: Mapping[str, float]) -> dict[str, float | None]:
    """What each run is expected to take, s: what it took before, else its cost at the pace of those known.

    Parameters
    ----------
    known : mapping of run to s
        What runs took on this machine.

    Returns
    -------
    dict
        None where nothing is known: no run of any costed notebook, or no cost of this one.
    """
    costed = [(COSTS[notebook_of(run)], seconds) for run, seconds in known.items() if notebook_of(run) in COSTS]
    pace = sum(seconds for _, seconds in costed) / sum(cost for cost, _ in costed) if costed else None
    found: dict[str, float | None] = {}
    for run in runs:
        cost = COSTS.get(notebook_of(run))
        found[run] = known.get(run, None if pace is None or cost is None else pace * cost)
    return found


def seconds_left(running: Sequence[float], waiting: Sequence[float], slots: int) -> float:
    """Time until all are done, s: each that waits begins where one of ``slots`` becomes free, in order.

    Parameters
    ----------
    running : sequence of float
        What each that runs still takes, s; at most ``slots`` of them.
    waiting : sequence of float
        What each of the others takes, s.
    """
    ends = [max(0.0, rest) for rest in running]
    ends += [0.0] * (slots - len(ends))
    heapq.heapify(ends)
    for seconds in waiting:
        heapq.heappush(ends, heapq.heappop(ends) + seconds)
    return max(ends)
