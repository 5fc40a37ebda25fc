"""Codes packed for a runtime come out of the file as they went in."""

import pytest
import torch

from whisper_train.errors import RunFailed
from whisper_train.export.ggml_blocks import pack, quantize, unpack
from whisper_train.export.grids import OnGrid
from whisper_train.export.integers import Read, count_integers
from whisper_train.export.onnx_layers import pack_blocks, unpack_blocks
from whisper_train.quantization.attach import block_for
from whisper_train.quantization.grid import Grid, find_codes, find_scales


def make_weight(bits: int, group: int | None, columns: int = 96) -> OnGrid:
    weight = torch.randn(12, columns, generator=torch.Generator().manual_seed(0))
    grid = Grid(bits=bits, group=group)
    scales = find_scales(weight, grid)
    return OnGrid(find_codes(weight, scales, grid), scales, grid, None)


@pytest.mark.parametrize(("bits", "group"), [(4, 16), (4, 32), (4, 128), (8, None)])
def test_blocks_of_onnx_runtime(bits: int, group: int | None) -> None:
    weight = make_weight(bits, group)
    packed, scales = pack_blocks(weight, group or block_for(96))
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack_blocks(packed, bits, 96), weight.codes)
    assert scales.shape == packed.shape[:2]


@pytest.mark.parametrize("bits", [8, 4])
def test_blocks_of_ggml(bits: int) -> None:
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    codes, scales = quantize(weight, bits)
    again, same = unpack(pack(codes, scales, bits), 5, 64, bits)
    assert torch.equal(again, codes)
    assert torch.equal(same, scales)
    assert (codes.abs().amax() <= 127) if bits == 8 else (codes.amin() == -8)


def test_one_changed_code_is_found_and_its_layer_named() -> None:
    weight = make_weight(4, 32)
    codes = weight.codes.clone()
    codes[3, 5] += 1 if codes[3, 5] < 7 else -1
    assert count_integers({"a": weight}, [("a", Read(weight.codes, weight.scales))])["differing"] == 0
    with pytest.raises(RunFailed, match=r"a: 1 of 1,152 integers differ"):
        count_integers({"a": weight}, [("a", Read(codes, weight.scales))])


def test_a_changed_scale_is_found() -> None:
    weight = make_weight(8, None)
    with pytest.raises(RunFailed, match="scales by"):
        count_integers({"a": weight}, [("a", Read(weight.codes, weight.scales * 1.001))])


def test_a_layer_that_is_no_integers_in_the_file_is_found() -> None:
    with pytest.raises(RunFailed, match="a: is not in the file as integers"):
        count_integers({"a": make_weight(4, 32)}, [("a", None)])
