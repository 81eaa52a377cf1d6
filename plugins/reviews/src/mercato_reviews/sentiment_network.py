"""The graph of reviews.sentiment as a torch module: term ids and counts to labels and contributions."""

import torch
from torch import nn


class SentimentNetwork(nn.Module):
    """TF-IDF weights of length 1, a linear layer, and what each term adds to the logit of the chosen label.

    `idf` has shape (terms,), `coefficients` (terms, labels) and `intercepts` (labels,), all float64. With two labels
    the logits are those of scikit-learn's one and its negative, and each probability is the logit's sigmoid.
    """

    def __init__(self, idf: torch.Tensor, coefficients: torch.Tensor, intercepts: torch.Tensor) -> None:
        super().__init__()
        self.idf = nn.Parameter(idf, requires_grad=False)
        self.coefficients = nn.Parameter(coefficients, requires_grad=False)
        self.intercepts = nn.Parameter(intercepts, requires_grad=False)

    def forward(self, terms: torch.Tensor, counts: torch.Tensor) -> dict[str, torch.Tensor]:
        """Ids, int64, and counts, float64, both of shape (batch, terms); a count of 0 is padding."""
        weights = unit(counts * self.idf[terms])
        coefficients = self.coefficients[terms]
        logits = torch.matmul(weights[:, None, :], coefficients)[:, 0, :] + self.intercepts
        label = logits.argmax(dim=1)
        chosen = label[:, None, None].expand(-1, terms.shape[1], 1)
        return {
            "label": label,
            "probabilities": torch.sigmoid(logits) if len(self.intercepts) == 2 else torch.softmax(logits, dim=1),
            "logit": logits.gather(1, label[:, None])[:, 0],
            "bias": self.intercepts[label],
            "contributions": weights * coefficients.gather(2, chosen)[:, :, 0],
        }


def unit(rows: torch.Tensor) -> torch.Tensor:
    """Each row divided by its length; a row of zeros stays."""
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norm > 0, norm, 1.0)
