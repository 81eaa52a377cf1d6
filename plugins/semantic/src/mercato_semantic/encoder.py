"""The BERT-family sentence encoder as a small torch module: token ids and lengths to unit vectors."""

import torch
from torch import nn
from torch.nn import functional

from mercato_semantic.folder import EncoderConfig


class SentenceEncoder(nn.Module):
    """Embeddings, transformer layers, pooling and L2 normalisation.

    `forward` takes `input_ids`, int64 of shape (batch, length), padded on the right, and `lengths`,
    int64 of shape (batch,), with values from 1 to length. It gives (batch, hidden). Nothing behind a
    row's length influences its answer.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.first_position = config.first_position
        self.pooling = config.pooling
        self.word = nn.Embedding(config.vocab, config.hidden)
        self.position = nn.Embedding(config.positions, config.hidden)
        self.token_type = nn.Embedding(config.token_types, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, config.epsilon)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, input_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Unit vectors of the rows."""
        x = self.states(input_ids, lengths)
        pooled = x[:, 0] if self.pooling == "cls" else masked_mean(x, lengths)
        embedding: torch.Tensor = pooled / torch.linalg.vector_norm(pooled, dim=-1, keepdim=True)
        return embedding

    def states(self, input_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """What the last layer says of each token, (batch, length, hidden); behind the lengths it says nothing."""
        x = self._embed(input_ids)
        for layer in self.layers:
            x = layer(x, lengths)
        return x

    def _embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        # A single text has token type 0 everywhere and consecutive positions, so both are slices of
        # their tables and no input of the graph.
        start = self.first_position
        places = self.position.weight[start : start + input_ids.shape[1]] + self.token_type.weight[0]
        embedded: torch.Tensor = self.norm(self.word(input_ids) + places)
        return embedded


class Layer(nn.Module):
    """Self-attention and feed-forward, each followed by its residual sum and LayerNorm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden)
        self.mix = nn.Linear(config.hidden, config.hidden)
        self.mix_norm = nn.LayerNorm(config.hidden, config.epsilon)
        self.up = nn.Linear(config.hidden, config.intermediate)
        self.down = nn.Linear(config.intermediate, config.hidden)
        self.down_norm = nn.LayerNorm(config.hidden, config.epsilon)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(batch, length, hidden) to the same shape."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        x = self.mix_norm(x + self.mix(attention(query, key, value, lengths, self.heads)))
        result: torch.Tensor = self.down_norm(x + self.down(functional.gelu(self.up(x))))
        return result


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, heads: int
) -> torch.Tensor:
    """Attention over the first `lengths` positions of each row; all shapes are (batch, length, hidden)."""
    if not torch.onnx.is_in_onnx_export():
        return _masked_attention(query, key, value, lengths, heads)
    # Lengths instead of a mask keep the operator eligible for Flash attention, and 3-D inputs save the
    # transposes around it.
    return torch.onnx.ops.symbolic(
        "Attention",
        (query, key, value, None, None, None, lengths),
        attrs={"is_causal": 0, "q_num_heads": heads, "kv_num_heads": heads},
        dtype=query.dtype,
        shape=query.shape,
        version=24,
    )


def masked_mean(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mean of each row's first `lengths` positions: (batch, length, hidden) to (batch, hidden)."""
    kept = torch.where(real_positions(x, lengths)[:, :, None], x, 0.0)
    return kept.sum(dim=1) / lengths[:, None].to(x.dtype)


def real_positions(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Which positions are not padding, as booleans of shape (batch, length)."""
    return torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None]


def _masked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, heads: int
) -> torch.Tensor:
    def by_head(part: torch.Tensor) -> torch.Tensor:
        return part.view(*part.shape[:2], heads, -1).transpose(1, 2)

    mask = real_positions(key, lengths)[:, None, None, :]
    mixed = functional.scaled_dot_product_attention(by_head(query), by_head(key), by_head(value), attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2)
