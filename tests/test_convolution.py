"""The convolution with its ReLU: fused and plain give the same numbers, and either carries a whole filter."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_denoiser

from difcore.machine import convolution
from difcore.machine.convolution import conv_relu, has_fused_convolution

Break = Callable[[Exception], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Break]:
    """Let the fused operator fail as another version of torch, or another processor, lets it."""

    def breaks(error: Exception) -> None:
        def raises(*_: object) -> torch.Tensor:
            raise error

        monkeypatch.setattr(convolution, "fused_convolution", raises)
        has_fused_convolution.cache_clear()

    yield breaks
    has_fused_convolution.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_both_paths_give_the_same_numbers(dtype: torch.dtype, height: int, width: int, bias: bool, seed: int) -> None:
    if not has_fused_convolution(dtype):
        pytest.skip(f"this machine has no fused convolution in {dtype}")
    drawn = torch.Generator().manual_seed(seed)
    x, weight, shift = (
        torch.randn(s, generator=drawn).to(dtype) for s in ((2, 8, height, width), (16, 8, 3, 3), (16,))
    )
    given_bias = shift if bias else None
    with torch.inference_mode():
        fused = convolution.fused_convolution(x, weight, given_bias)
        plain = torch.nn.functional.conv2d(x, weight, given_bias, padding=1).relu()
    assert fused.dtype == plain.dtype and fused.shape == plain.shape
    assert (fused - plain).abs().max() <= (1e-4 if dtype == torch.float32 else 0.3)
    assert (fused - plain).float().norm() <= (1e-6 if dtype == torch.float32 else 0.01) * plain.float().norm() + 1e-6


@pytest.mark.parametrize(
    "error", [RuntimeError("isa"), AttributeError("gone"), NotImplementedError("cpu"), TypeError("other arguments")]
)
def test_a_whole_filter_runs_without_the_private_operator(error: Exception, broken: Break) -> None:
    filter_, x = random_denoiser(), torch.rand(2, 3, 40, 33, generator=torch.Generator().manual_seed(1))
    expected = filter_(x)
    broken(error)
    assert not has_fused_convolution(torch.float32)
    torch.testing.assert_close(filter_(x), expected, rtol=1e-4, atol=1e-6)


def test_another_error_is_no_answer(broken: Break) -> None:
    broken(KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        conv_relu(torch.ones(1, 2, 4, 4), torch.ones(2, 2, 3, 3), None)
