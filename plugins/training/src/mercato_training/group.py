"""The processes of one training: who this one is, and what all of them have to agree on.

Each process reads the same data and takes its share of every batch; torch's gradient averaging keeps them equal.
"""

import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from mercato_training.errors import TrainingError

PATIENCE = timedelta(minutes=30)
"""Longest wait for another process; the first one may clean and encode much data."""


class Group:
    """One process alone. `rank` counts from 0, which is the one that writes and tells."""

    rank = 0
    size = 1
    scratch: Path | None = None
    """A folder that goes with the group, for what a process that does not lead would write."""

    @property
    def leads(self) -> bool:
        """Whether this process writes and tells."""
        return self.rank == 0

    def share(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of a batch that are this process's."""
        return rows[self.rank :: self.size]

    def agreed(self, value: float) -> float:
        """The value of the first process."""
        return value

    def parallel(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module, with gradients averaged over the processes."""
        return module

    def joined(self, rows: torch.Tensor, total: int) -> torch.Tensor:
        """The rows of all processes, each of which holds those that `share` gave it of `total`."""
        return rows

    def close(self) -> None:
        """Leave."""


class Processes(Group):
    """One of several processes that meet at a file."""

    def __init__(self, rank: int, size: int, meeting: Path, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self.scratch = meeting.parent
        # The processes are on this machine, and nobody else is to reach them.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        self._device = device
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=PATIENCE)

    def agreed(self, value: float) -> float:
        """The value of the first process."""
        shared = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.broadcast(shared, src=0)
        return float(shared.item())

    def parallel(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module, with gradients averaged over the processes."""
        return torch.nn.parallel.DistributedDataParallel(module)

    def joined(self, rows: torch.Tensor, total: int) -> torch.Tensor:
        """The rows of all processes in their first order; all have equal columns."""
        longest = -(-total // self.size)
        padded = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype, device=self._device)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.stack(parts, dim=1).flatten(0, 1)[:total].to(rows.device)

    def close(self) -> None:
        """Leave; the others are done too."""
        dist.barrier()
        dist.destroy_process_group()


def device_of(name: str, rank: int, size: int = 1) -> torch.device:
    """`auto`, `cpu` or `cuda` as the device of one of `size` processes; each has a GPU of its own.

    Raises TrainingError for a GPU that is not there.
    """
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if name in ("auto", "cuda") and count:
        if size > count:
            raise TrainingError(
                f"--processes: got {size}, expected at most {count}, a GPU for each; give fewer, or --device cpu"
            )
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
        return device
    got = "there is no GPU that torch can use" if name == "cuda" else f"got {name!r}"
    raise TrainingError(f"--device: {got}; expected auto, cpu or cuda")


def share_threads(size: int) -> None:
    """Have the processes of one machine not take each other's cores."""
    # Not every system tells which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // size))


def peak_bytes() -> int:
    """Most memory that this process has held."""
    import resource

    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
