"""Pictures as they might have been taken too: cut, mirrored, in another light; whole batches at once, drawn by seed."""

import numpy as np
import torch

CUT = (0.75, 1.0)
"""Side of the part that is cut out, as a share of the whole."""

LIGHT = 0.25
"""Brightness, contrast and saturation change by a factor of up to 1 plus or minus this."""

_GREY = (0.299, 0.587, 0.114)


class Augmentation:
    """Draws by the seed, by how many steps the fit has made and by the rows, so that a resumed fit draws the same."""

    def __init__(self, seed: int, *, mirrors: bool = True) -> None:
        self._seed = seed
        self._share = 0.5 if mirrors else 0.0

    def __call__(self, pixels: torch.Tensor, step: int, rows: torch.Tensor) -> torch.Tensor:
        """(batch, size, size, 3), uint8, to float32 of the same shape, 0 to 255."""
        random = np.random.default_rng([self._seed, step, *rows.tolist()])
        draws = torch.from_numpy(random.random((7, len(rows)), np.float32)).to(pixels.device)
        return _lit(_cut(pixels.float(), draws[:4], self._share), draws[4:])


def _cut(pixels: torch.Tensor, draws: torch.Tensor, share: float) -> torch.Tensor:
    """A part of each picture, scaled to the whole; that share of them mirrored."""
    side = CUT[0] + (CUT[1] - CUT[0]) * draws[0]
    mirrored = torch.where(draws[3] < share, -1.0, 1.0)
    zero = torch.zeros_like(side)
    rows = (
        torch.stack([side * mirrored, zero, (1 - side) * (2 * draws[1] - 1)], dim=1),
        torch.stack([zero, side, (1 - side) * (2 * draws[2] - 1)], dim=1),
    )
    planes = pixels.permute(0, 3, 1, 2)
    grid = torch.nn.functional.affine_grid(torch.stack(rows, dim=1), list(planes.shape), align_corners=False)
    cut = torch.nn.functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return cut.permute(0, 2, 3, 1)


def _lit(pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast and saturation of each picture."""
    brightness, contrast, saturation = (1 + LIGHT * (2 * draws - 1))[:, :, None, None, None]
    pixels = pixels * brightness
    grey = (pixels * pixels.new_tensor(_GREY)).sum(dim=3, keepdim=True)
    mean = grey.mean(dim=(1, 2), keepdim=True)
    pixels = grey + (pixels - grey) * saturation
    lit: torch.Tensor = (mean + (pixels - mean) * contrast).clamp(0, 255)
    return lit
