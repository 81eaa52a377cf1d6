"""`mercato data shop`: what it writes and prints, and how it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mercato_client.cli.app import app

SMALL = ("--products", "20", "--users", "20")


def mercato(*arguments: str) -> Result:
    environment = {"COLUMNS": "120", "TERM": "dumb"}
    return CliRunner().invoke(app, ["data", "shop", *arguments], prog_name="mercato", env=environment)


def test_it_prints_the_files_with_rows_and_bytes(tmp_path: Path) -> None:
    done = mercato(str(tmp_path / "shop"), *SMALL)

    assert (done.exit_code, done.stderr) == (0, "")
    rows = [line.strip("│┃ ").split(" │ ") for line in done.stdout.splitlines() if " │ " in line]
    assert {name.strip(): int(count) for name, count, _ in rows}["reviews.parquet"] == 100
    sizes = {name.strip(): int(size.replace(",", "")) for name, _, size in rows}
    assert sizes["sales.parquet"] == (tmp_path / "shop" / "sales.parquet").stat().st_size
    assert len(rows) == 7


def test_json_is_the_card(tmp_path: Path) -> None:
    done = mercato(str(tmp_path / "shop"), *SMALL, "--language", "zh", "--json")

    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads((tmp_path / "shop" / "card.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--language", "fr"), "mercato: --language: got 'fr', expected en or zh"),
        (("--products", "9"), "mercato: --products: got 9, expected 10 to 100000"),
        (("--users", "1000001"), "mercato: --users: got 1000001, expected 10 to 1000000"),
        (("--users", "1", "--seed", "-1"), "--users: got 1, expected 10 to 1000000; --seed: got -1, expected 0 to"),
        (("--products", "many"), "Invalid value for '--products'"),
    ],
)
def test_a_refusal_is_one_line_with_the_option(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = mercato(str(tmp_path / "shop"), *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"generator": "somebody else"}')

    done = mercato(str(tmp_path), *SMALL)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("mercato: OUT: ") and "is not empty and holds no shop" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


def test_a_shop_is_replaced_by_the_next(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        assert mercato(str(tmp_path / "shop"), *SMALL, "--seed", seed).exit_code == 0

    assert json.loads((tmp_path / "shop" / "card.json").read_text("utf-8"))["seed"] == 2
