"""The grids are those of the runtimes: scales, rounding, limits, groups."""

import pytest
import torch

from whisper_train.quantization.grid import Grid, decode, find_codes, find_scales, on_grid

INT8, INT4 = Grid(bits=8), Grid(bits=4, group=4)


@pytest.mark.parametrize("grid", [INT8, Grid(bits=8, group=32), INT4, Grid(bits=4, group=32)])
def test_codes_stay_within_the_grid_and_decode_within_half_a_step(grid: Grid) -> None:
    weight = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    scales = find_scales(weight, grid)
    codes = find_codes(weight, scales, grid)
    assert codes.dtype == torch.int8
    assert codes.shape == weight.shape
    assert grid.lowest <= int(codes.min())
    assert int(codes.max()) <= grid.highest
    wide = scales.abs().repeat_interleave(grid.group or 50, dim=1)[:, :50]
    beyond = codes == grid.highest  # int4 reaches one step less far on this side
    assert bool((((decode(codes, scales, grid) - weight).abs() <= wide * 0.5001) | beyond).all())


def test_what_is_on_the_grid_stays_where_it_is() -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(1))
    for grid in (INT8, Grid(bits=4, group=16)):
        rounded = on_grid(weight, grid)
        assert torch.equal(
            find_codes(rounded, find_scales(rounded, grid), grid), find_codes(weight, find_scales(weight, grid), grid)
        )


def test_int8_is_absmax_over_127_a_row() -> None:
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert find_scales(weight, INT8).tolist() == [[pytest.approx(2 / 127)], [1.0]]
    assert find_codes(weight, find_scales(weight, INT8), INT8).tolist() == [[64, -127, 32, 0], [0, 0, 0, 0]]


def test_int4_hits_the_largest_of_a_group_whatever_its_sign() -> None:
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0, 4.0, 3.9, -4.0, 1.0]])
    scales = find_scales(weight, INT4)
    assert scales.tolist() == [[0.25, -0.5]]
    assert find_codes(weight, scales, INT4).tolist() == [[4, -8, 2, 0, -8, -8, 7, -2]]


def test_halves_are_rounded_to_even() -> None:
    weight = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]])
    assert find_codes(weight, find_scales(weight, INT8), INT8).tolist() == [[127, 0, 2, 2, 0, -2]]


def test_half_precision_weights_have_the_scales_of_float32() -> None:
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(2)).bfloat16()
    assert torch.equal(find_scales(weight, INT8), find_scales(weight.float(), INT8))
