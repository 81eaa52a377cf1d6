"""The graph of reviews.intent as a torch module: a frozen sentence encoder with a linear head on its mean state."""

import torch
from torch import nn

from mercato_semantic.encoder import SentenceEncoder, real_positions


class IntentNetwork(nn.Module):
    """Token ids and lengths to labels, and what each token adds to the logit of the chosen label.

    The head reads the unit vector of the mean over the states h_t of a text's n tokens, so its logit is
    b + sum over t of (w . h_t) / (n * |mean|): a sum with one term per token. The mean is taken whichever way the
    encoder itself pools. `weight` has shape (labels, hidden), `bias` (labels,), both float32.
    """

    def __init__(self, encoder: SentenceEncoder, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, input_ids: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """Ids, int64 of shape (batch, length), padded on the right, and lengths, int64 of shape (batch,)."""
        states = token_states(self.encoder, input_ids, lengths)
        total = states.sum(dim=1)
        # The mean's own length divides by the same number of tokens, which therefore drops out.
        norm = torch.linalg.vector_norm(total, dim=1, keepdim=True)
        logits = torch.nn.functional.linear(total / norm, self.weight, self.bias)
        label = logits.argmax(dim=1)
        return {
            "label": label,
            "probabilities": torch.softmax(logits, dim=1),
            "logit": logits.gather(1, label[:, None])[:, 0],
            "bias": self.bias[label],
            "contributions": torch.matmul(states, self.weight[label][:, :, None])[:, :, 0] / norm,
        }


def token_states(encoder: SentenceEncoder, input_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The encoder's last states, (batch, length, hidden); zeros behind the rows' lengths."""
    states = encoder.states(input_ids, lengths)
    return torch.where(real_positions(states, lengths)[:, :, None], states, 0.0)


def embedded(encoder: SentenceEncoder, input_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """What the head reads: unit vectors of shape (batch, hidden)."""
    total = token_states(encoder, input_ids, lengths).sum(dim=1)
    vectors: torch.Tensor = total / torch.linalg.vector_norm(total, dim=1, keepdim=True)
    return vectors
