"""Gates: what is one, what is not, and which metrics pass."""

import pytest

from mercato_server import config
from mercato_server.contract.gates import Gate, not_passed, parse, parse_own
from mercato_server.errors import ConfigError

NAME = "reviews.intent"


@pytest.mark.parametrize(
    ("written", "gate"),
    [
        ("f1>=0.8", Gate("", "f1", ">=", 0.8)),
        (" f1 >= 0.8 ", Gate("", "f1", ">=", 0.8)),
        ("rmse<1e3", Gate("", "rmse", "<", 1000.0)),
        ("loss<=.5", Gate("", "loss", "<=", 0.5)),
        ("gain>-3", Gate("", "gain", ">", -3.0)),
        ("ndcg@10.zh>+1", Gate("", "ndcg@10.zh", ">", 1.0)),
        ("recall.退货 or not >= 0.8", Gate("", "recall.退货 or not", ">=", 0.8)),
        ("reviews.intent: f1>=0.8", Gate(NAME, "f1", ">=", 0.8)),
        ("reviews.intent:f1>=0.8", Gate(NAME, "f1", ">=", 0.8)),
    ],
)
def test_what_is_a_gate(written: str, gate: Gate) -> None:
    assert parse(written) == gate
    assert parse(f"{gate.model}: {gate.text}" if gate.model else gate.text) == gate


@pytest.mark.parametrize(
    "written",
    [
        "", "f1", "f1>=", ">=0.8", "f1=0.8", "f1==0.8", "f1=>0.8", "f1!=0.8", "f1>=0.8<1", "f1>=nan", "f1>=inf",
        "f1>=1e999", "f1>=0..8", "f1>=.", "f1>=0x1", "f1>=1_0", "f1>=x", "intent: f1>=0.8", "A.b: f1>=0.8",
        ": f1>=0.8", "a.b: c.d: f1>=0.8", "f1>=0.8; f2>=0.8", "f1>=0.8,", "f1 > = 0.8", "f1>=٣",
        "x" * 5000 + ">=1",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_at_start_in_one_line(written: str) -> None:
    with pytest.raises(ConfigError, match=r"^gate: got .*, expected a metric, one of >= > <= < and a number") as caught:
        config.load(gate=(written,))
    assert str(caught.value).isascii() and len(str(caught.value)) < 250
    with pytest.raises(ConfigError, match=rf"^models\.{NAME}\.gate: got "):
        config.load(models={NAME: {"gate": [written]}})


@pytest.mark.parametrize("written", ["f1>=0,8", "f1 >= 0, 8", "f1<-,5", f"{NAME}: f1>=0,8"])
def test_a_decimal_comma_is_told_as_such(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    told = f"got {written!r}, expected a metric, .*; write decimals with a point$"
    with pytest.raises(ConfigError, match=f"^gate: {told}"):
        config.load(gate=(written,))
    with pytest.raises(ConfigError, match=rf"^models\.a\.b\.gate: {told}"):
        config.load(models={"a.b": {"gate": f"{written}, rmse<2"}})
    monkeypatch.setenv("MERCATO_GATE", f"rmse<2,{written},mae<1")
    with pytest.raises(ConfigError, match=f"^gate: {told}"):
        config.load()


@pytest.mark.parametrize("written", ["f1>=x", "f1>=0.5,2fa>=0.3", "f1>=0.8,"])
def test_no_other_comma_is_taken_for_a_point(written: str) -> None:
    with pytest.raises(ConfigError, match=r'"reviews\.intent: f1>=0\.8"$'):
        config.load(gate=(written,))


@pytest.mark.parametrize("written", ["f1>=0.8,2fa>=0.3", " f1>=0.8 , 2fa>=0.3 ", '["f1>=0.8", "2fa>=0.3"]'])
def test_gates_stand_in_one_string_for_every_model_and_for_one(written: str) -> None:
    assert config.load(gate=written).gates() == [Gate("", "f1", ">=", 0.8), Gate("", "2fa", ">=", 0.3)]
    own = config.load(models={NAME: {"gate": written}}).gates()
    assert own == [Gate(NAME, "f1", ">=", 0.8), Gate(NAME, "2fa", ">=", 0.3)]
    assert config.load(models={NAME: {"gate": "f1>=0.8"}}).gates() == [Gate(NAME, "f1", ">=", 0.8)]


def test_a_gate_among_the_settings_of_a_model_is_that_models() -> None:
    settings = config.load(gate=("f1>=0.5", "a.b: f1>=0.6"), models={NAME: {"gate": ["f1>=0.8"]}})
    assert settings.gates() == [Gate("", "f1", ">=", 0.5), Gate("a.b", "f1", ">=", 0.6), Gate(NAME, "f1", ">=", 0.8)]
    with pytest.raises(
        ConfigError, match=r"got a gate of 'a\.b' in the settings of a model, expected 'f1>=0\.8' alone"
    ):
        config.load(models={NAME: {"gate": ["a.b: f1>=0.8"]}})
    with pytest.raises(ValueError, match="expected 'f1>=0.8' alone"):
        parse_own(f"{NAME}: f1>=0.8")


def test_gates_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERCATO_GATE", "f1>=0.5, reviews.intent: rmse<2")
    assert config.load().gates() == [Gate("", "f1", ">=", 0.5), Gate(NAME, "rmse", "<", 2.0)]
    assert config.load(gate=("f1>0",)).gates() == [Gate("", "f1", ">", 0.0)]


@pytest.mark.parametrize(
    ("gate", "value", "passes"),
    [
        ("f1>=0.8", 0.8, True), ("f1>=0.8", 0.79, False), ("f1>0.8", 0.8, False), ("f1>0.8", 0.81, True),
        ("f1<=0.8", 0.8, True), ("f1<=0.8", 0.81, False), ("f1<0.8", 0.8, False), ("f1<0.8", 0.79, True),
    ],
)  # fmt: skip
def test_a_bound_is_held_exactly(gate: str, value: float, passes: bool) -> None:
    assert (not_passed([parse(gate)], NAME, {"f1": value}) == "") is passes


def test_every_gate_of_a_model_is_held_and_no_others() -> None:
    gates = list(map(parse, ["f1>=0.5", f"{NAME}: f1>=0.8", f"{NAME}: rmse<2", "a.b: f1>=0.99"]))
    assert not_passed(gates, NAME, {"f1": 0.9, "rmse": 1.0}) == ""
    assert not_passed(gates, NAME, {"f1": 0.7, "rmse": 1.0}) == "metric f1 is 0.7, the gate is f1>=0.8"
    assert not_passed(gates, NAME, {"f1": 0.9}) == "it has no metric rmse, the gate is rmse<2.0"
    assert not_passed(gates, "a.b", {}) == "it has no metric f1, the gate is f1>=0.5"
    assert not_passed([], NAME, {}) == ""
