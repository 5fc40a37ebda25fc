"""GGML's Q8_0 and Q4_0 blocks: 32 neighbouring columns that share a float16 scale (ggml-quants.c of ggml-org/ggml)."""

import torch

GROUP = 32  # columns in a block
TYPES = {8: 8, 4: 2}  # GGML_TYPE_Q8_0, GGML_TYPE_Q4_0


def quantize(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes int8 (rows, columns) and scales float32 (rows, columns / 32) as ggml's reference quantizer computes them.

    Codes come from the scale before it is rounded to float16, which is what the file holds.
    """
    blocks = torch.unflatten(weight.float(), 1, (-1, GROUP))
    largest = blocks.abs().amax(-1, keepdim=True)
    extreme = largest if bits == 8 else blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scales = extreme / (127 if bits == 8 else -8)
    inverse = torch.where(scales == 0, torch.zeros_like(scales), 1 / scales)
    scaled = blocks * inverse
    if bits == 8:
        codes = torch.where(scaled < 0, -torch.floor(0.5 - scaled), torch.floor(scaled + 0.5))  # roundf: away from 0
    else:
        codes = torch.trunc(scaled + 8.5).clamp(max=15) - 8
    return codes.to(torch.int8).flatten(1).contiguous(), scales[..., 0].half().float()


def pack(codes: torch.Tensor, scales: torch.Tensor, bits: int) -> bytes:
    """The blocks as they stand in a file: a float16 scale, then 32 int8 or 16 bytes with a low and a high half."""
    blocks = torch.unflatten(codes, 1, (-1, GROUP))
    heads = scales.half().unsqueeze(-1).view(torch.uint8)
    if bits == 8:
        body = blocks.contiguous().view(torch.uint8)
    else:
        shifted = (blocks + 8).to(torch.uint8)
        body = shifted[..., : GROUP // 2] | (shifted[..., GROUP // 2 :] << 4)
    return torch.cat((heads, body), dim=-1).numpy().tobytes()


def unpack(data: bytes, rows: int, columns: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What pack() was given."""
    size = 2 + GROUP * bits // 8
    blocks = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(rows, columns // GROUP, size)
    scales = blocks[..., :2].contiguous().view(torch.float16)[..., 0].float()
    body = blocks[..., 2:].contiguous()
    halves = torch.cat((body & 15, body >> 4), dim=-1).to(torch.int8) - 8
    return (body.view(torch.int8) if bits == 8 else halves).flatten(1), scales
