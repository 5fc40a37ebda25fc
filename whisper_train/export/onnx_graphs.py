"""Whisper as two graphs: an encoder that ends in the keys and values of cross-attention, and one decoder with a cache.

The decoder takes a past of any length, also none, so it serves the prompt and every step after it. Rows of the decoder
may be several for each clip of the encoder (beams): cross-attention then reads one copy of that clip's keys and values.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from whisper_train.export.grids import OnGrid
from whisper_train.export.onnx_layers import BlockEmbedding, BlockLinear, make_linear
from whisper_train.export.source import EMBEDDING


class Attention(nn.Module):
    """A WhisperAttention whose projections may be integers; keys and values are given by who calls."""

    q_proj: Any
    k_proj: Any
    v_proj: Any
    out_proj: Any

    def __init__(self, module: Any, name: str, placed: Mapping[str, OnGrid]) -> None:
        super().__init__()
        self.heads, self.size, self.scaling = module.num_heads, module.head_dim, module.scaling
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weight = placed.get(f"{name}.{part}.weight")
            setattr(self, part, make_linear(getattr(module, part), weight))

    def keys_and_values(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, tokens, width) to twice (batch, heads, tokens, size)."""
        return self.split(self.k_proj(states)), self.split(self.v_proj(states))

    def split(self, states: torch.Tensor) -> torch.Tensor:
        return torch.unflatten(states, -1, (self.heads, self.size)).transpose(1, 2)

    def forward(
        self, states: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, allowed: torch.Tensor | None = None
    ) -> torch.Tensor:
        queries = self.split(self.q_proj(states) * self.scaling)
        scores = queries @ keys.transpose(2, 3)
        if allowed is not None:
            scores = torch.where(allowed, scores, torch.finfo(scores.dtype).min)
        heard = torch.softmax(scores, dim=-1) @ values
        return self.out_proj(heard.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """An encoder or decoder layer: norms and feed-forward; what attention reads is told apart by the graph."""

    def __init__(self, module: Any, name: str, placed: Mapping[str, OnGrid]) -> None:
        super().__init__()
        self.self_attn = Attention(module.self_attn, f"{name}.self_attn", placed)
        self.self_attn_layer_norm, self.final_layer_norm = module.self_attn_layer_norm, module.final_layer_norm
        self.fc1 = make_linear(module.fc1, placed.get(f"{name}.fc1.weight"))
        self.fc2 = make_linear(module.fc2, placed.get(f"{name}.fc2.weight"))
        self.activation = module.activation_fn

    def feed_forward(self, states: torch.Tensor) -> torch.Tensor:
        return states + self.fc2(self.activation(self.fc1(self.final_layer_norm(states))))  # type: ignore[no-any-return]


class EncoderGraph(nn.Module):
    """Log-mel (clips, bins, frames) in float32 to keys and values of each decoder layer (clips, heads, places, size)"""

    def __init__(self, model: Any, placed: Mapping[str, OnGrid]) -> None:
        super().__init__()
        encoder, decoder = model.model.encoder, model.model.decoder
        self.conv1, self.conv2, self.layer_norm = encoder.conv1, encoder.conv2, encoder.layer_norm
        self.positions = encoder.embed_positions.weight
        self.layers = nn.ModuleList(
            Layer(layer, f"model.encoder.layers.{number}", placed) for number, layer in enumerate(encoder.layers)
        )
        self.cross = nn.ModuleList(
            Attention(layer.encoder_attn, f"model.decoder.layers.{number}.encoder_attn", placed)
            for number, layer in enumerate(decoder.layers)
        )

    def forward(self, input_features: torch.Tensor) -> list[torch.Tensor]:
        states = nn.functional.gelu(self.conv1(input_features.to(self.conv1.weight.dtype)))
        states = nn.functional.gelu(self.conv2(states)).transpose(1, 2) + self.positions
        layer: Any
        for layer in self.layers:
            normed = layer.self_attn_layer_norm(states)
            states = states + layer.self_attn(normed, *layer.self_attn.keys_and_values(normed))
            states = layer.feed_forward(states)
        states = self.layer_norm(states)
        attentions: Any = self.cross
        return [tensor for cross in attentions for tensor in cross.keys_and_values(states)]


class DecoderLayer(Layer):
    """A layer with cross-attention."""

    def __init__(self, module: Any, name: str, placed: Mapping[str, OnGrid]) -> None:
        super().__init__(module, name, placed)
        self.encoder_attn = Attention(module.encoder_attn, f"{name}.encoder_attn", placed)
        del self.encoder_attn.k_proj, self.encoder_attn.v_proj  # the encoder's graph computes them
        self.encoder_attn_layer_norm = module.encoder_attn_layer_norm

    def forward(
        self,
        states: torch.Tensor,
        past: tuple[torch.Tensor, torch.Tensor],
        cross: tuple[torch.Tensor, torch.Tensor],
        allowed: torch.Tensor,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        normed = self.self_attn_layer_norm(states)
        new = self.self_attn.keys_and_values(normed)
        present = [torch.cat((old, now), dim=2) for old, now in zip(past, new, strict=True)]
        states = states + self.self_attn(normed, *present, allowed)
        normed = self.encoder_attn_layer_norm(states)
        by_clip = normed.reshape(cross[0].shape[0], -1, normed.shape[-1])  # the beams of a clip side by side
        states = states + self.encoder_attn(by_clip, *cross).reshape(states.shape)
        return self.feed_forward(states), present


class DecoderGraph(nn.Module):
    """ids (rows, tokens), past and cross keys and values to float32 logits (rows, tokens, words) and the present."""

    def __init__(self, model: Any, placed: Mapping[str, OnGrid]) -> None:
        super().__init__()
        decoder = model.model.decoder
        self.embed, self.project = decoder.embed_tokens, model.proj_out
        if EMBEDDING in placed:
            self.project = BlockLinear(placed[EMBEDDING], None)
            self.embed = BlockEmbedding(self.project)
        self.positions, self.layer_norm = decoder.embed_positions.weight, decoder.layer_norm
        self.layers = nn.ModuleList(
            DecoderLayer(layer, f"model.decoder.layers.{number}", placed) for number, layer in enumerate(decoder.layers)
        )

    def forward(
        self, input_ids: torch.Tensor, past: list[torch.Tensor], cross: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        tokens, before = input_ids.shape[1], past[0].shape[2]
        places = torch.arange(tokens, device=input_ids.device) + before
        states = self.embed(input_ids) + nn.functional.embedding(places, self.positions)
        allowed = torch.arange(before + tokens, device=input_ids.device)[None, :] <= places[:, None]
        present: list[torch.Tensor] = []
        for number, layer in enumerate(self.layers):
            pair = slice(2 * number, 2 * number + 2)
            states, new = layer(states, tuple(past[pair]), tuple(cross[pair]), allowed)
            present += new
        return self.project(self.layer_norm(states)).float(), present


def cache_names(layers: int, what: str, side: str) -> list[str]:
    """`past_key_values` or `present` of `side`, as optimum calls them: present.0.decoder.key …"""
    return [f"{what}.{number}.{side}.{part}" for number in range(layers) for part in ("key", "value")]
