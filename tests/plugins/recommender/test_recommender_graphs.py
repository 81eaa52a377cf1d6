"""The graphs against plain numpy: what speaks for an item, who may be answered, and what stands behind."""

from typing import Any

import numpy as np
import pytest
import torch

from mercato_recommender.items_network import ItemsNetwork
from mercato_recommender.tower_network import TwoTowerNetwork, UserTower, unit

ITEMS, BEST, DECAY = 40, 25, 0.9
Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


def items_network(random: np.random.Generator) -> ItemsNetwork:
    near = torch.from_numpy(random.integers(0, ITEMS + 1, (ITEMS, 6)).astype(np.int32))
    similarities = torch.from_numpy(random.random((ITEMS, 6)).astype(np.float32))
    similarities[near == ITEMS] = 0.0
    return ItemsNetwork(near, similarities, decay=DECAY, longest=9, best=BEST)


def towers(random: np.random.Generator) -> TwoTowerNetwork:
    torch.manual_seed(int(random.integers(1000)))
    user = UserTower(torch.from_numpy(random.random(ITEMS) < 0.8), 8, decay=DECAY, longest=9)
    evident = torch.from_numpy(random.random(ITEMS) < 0.7)
    return TwoTowerNetwork(user, unit(torch.randn(ITEMS, 8)), evident, lift=0.125, best=BEST)


def request(random: np.random.Generator) -> Arrays:
    """Rows with and without candidates; number ITEMS stands for none."""
    history = np.full((6, 9), ITEMS)
    for row, length in enumerate((9, 4, 1, 0, 2, 5)):
        history[row, :length] = random.choice(ITEMS, length, replace=False)
    candidates = random.integers(0, ITEMS + 1, (6, 15))
    candidates[5] = ITEMS
    exclude = random.integers(0, ITEMS + 1, (6, 8))
    return {"history": history, "candidates": candidates, "exclude": exclude, "bounded": np.array([0, 1, 0, 0, 1, 1])}


def summed(network: ItemsNetwork, history: Any) -> Any:
    """What speaks for each item by plain sums; 0 for nothing."""
    sums = np.zeros(ITEMS + 1)
    for place, met in enumerate(history):
        np.add.at(sums, network.neighbours[met].numpy(), network.similarities[met].numpy() * DECAY**place)
    return sums[:ITEMS]


def near(network: TwoTowerNetwork, history: Any) -> Any:
    """(1 + cosine) / 2 of the user and each item that counts, new ones lifted; 0 where nothing is known."""
    counted = network.user.counted.numpy()[history]
    if not counted.any():
        return np.zeros(ITEMS)
    user = network.user(torch.from_numpy(history)[None]).detach().numpy()[0]
    vectors = network.vectors.double().numpy().T
    is_new = network.user.counted.numpy()[:-1] == 0
    cosine = np.round(user * 2048) @ vectors.T / 2048**2 + 0.125 * is_new
    return np.where(network.evident.numpy() > 0, np.minimum(1.0, (1 + cosine) / 2), 0.0)


def expected(evidence: Any, row: Arrays) -> tuple[list[int], list[float]]:
    """The order by evidence, then popularity, of what may be answered."""
    allowed = set(row["candidates"].tolist()) if row["bounded"] else set(range(ITEMS))
    allowed -= {*row["exclude"].tolist(), ITEMS}
    order = sorted(allowed, key=lambda number: (-evidence[number], number))[:BEST]
    return order, [evidence[n] if evidence[n] > 0 else -(n + 1) / ITEMS for n in order]


@pytest.mark.parametrize("make", [items_network, towers])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_what_is_allowed_are_answered(make: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    network, arrays = make(random), request(random)
    with torch.no_grad():
        found = network(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    for place in range(6):
        row = {name: array[place] for name, array in arrays.items()}
        evidence = (summed if make is items_network else near)(network, row["history"])
        items, scores = expected(evidence, row)
        missing = BEST - len(items)
        assert found["items"][place].tolist() == items + [ITEMS] * missing
        np.testing.assert_allclose(found["scores"][place].numpy(), scores + [0.0] * missing, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [items_network, towers])
def test_padding_and_other_rows_change_no_bit(make: Any) -> None:
    random = np.random.default_rng(9)
    network, arrays = make(random), request(random)
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        together = network(**given)
        for row in range(6):
            alone = {name: value[row : row + 1] for name, value in given.items()}
            length = max(1, int((alone["history"] < ITEMS).sum()))
            found = network(**{**alone, "history": alone["history"][:, :length]})
            for name, value in found.items():
                assert torch.equal(value[0], together[name][row])


def test_items_of_equal_evidence_stand_by_popularity() -> None:
    near = torch.tensor([[3, 1, 2], *[[4, 4, 4]] * 3], dtype=torch.int32)
    network = ItemsNetwork(near, torch.tensor([[0.5] * 3, *[[0.0] * 3] * 3]), decay=1.0, longest=3, best=4)
    none = torch.tensor([[4]])
    found = network(torch.tensor([[0]]), none, torch.tensor([[0]]), torch.tensor([0]))
    assert found["items"].tolist() == [[1, 2, 3, 4]]
    assert found["scores"].tolist() == [[0.5, 0.5, 0.5, 0.0]]
