"""The catalog: how a reference finds a version, and which moves of a state are legal."""

import pytest

from mercato_plugin import ModelSpec, Tensor
from mercato_server.contract.gates import parse
from mercato_server.contract.plugin import PluginInfo, Refusal, Untrained
from mercato_server.contract.state import LEGAL, STARTING, State
from mercato_server.errors import Draining, InvalidRequest, LabelRefused, ModelFailed, ModelNotReady, NotFound
from mercato_server.serving.catalog import Catalog, Version, shown

NAME = "shop.tiny"
X = Tensor("float32", ("batch", 1))
PATHS: dict[State, list[State]] = {
    State.DISCOVERED: [],
    State.EXPORTING: [State.EXPORTING],
    State.LOADING: [State.LOADING],
    State.WARMING: [State.LOADING, State.WARMING],
    State.AVAILABLE: [State.LOADING, State.WARMING, State.AVAILABLE],
    State.FAILED: [State.FAILED],
    State.DRAINING: [State.LOADING, State.WARMING, State.AVAILABLE, State.DRAINING],
    State.UNLOADED: [State.UNLOADED],
}


PLUGIN = PluginInfo("mercato-tiny", "1.0", "tiny", "tiny")


def add(
    catalog: Catalog, number: int = 1, state: State = State.AVAILABLE, reason: str = "", **metrics: float
) -> Version:
    spec = ModelSpec(name=NAME, version=number, inputs={"x": X}, outputs={"y": X})
    version = catalog.add(Version(NAME, number, spec, PLUGIN, metrics))
    for step in PATHS[state]:
        catalog.move(version, step, reason)
    return version


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


def test_a_version_is_found_by_number_and_by_label(catalog: Catalog) -> None:
    first, second = add(catalog, 1), add(catalog, 2)
    catalog.labels[NAME] = {"canary": 2, "old": 1}

    assert catalog.resolve(NAME, number=1) is first
    assert catalog.resolve(NAME, label="canary") is second
    assert catalog.versions() == [second, first]


def test_without_a_reference_stable_counts_else_the_highest_available(catalog: Catalog) -> None:
    first, second = add(catalog, 1), add(catalog, 2)
    add(catalog, 3, State.EXPORTING)

    assert catalog.resolve(NAME) is second
    catalog.labels[NAME] = {"stable": 1}
    assert catalog.resolve(NAME) is first


def test_without_a_reference_the_highest_available_that_passes_every_gate_counts() -> None:
    catalog = Catalog(gates=[parse("f1>=0.8"), parse(f"{NAME}: rmse<2"), parse("shop.other: f1>=0.99")])
    first, second = add(catalog, 1, f1=0.9, rmse=1.0), add(catalog, 2, f1=0.85, rmse=1.5)
    add(catalog, 3, f1=0.1, rmse=1.0), add(catalog, 4, f1=0.9), add(catalog, 5, State.FAILED, f1=0.9, rmse=1.0)

    assert catalog.resolve(NAME) is second
    catalog.move(second, State.FAILED)
    assert catalog.resolve(NAME) is first
    catalog.set_label(NAME, "stable", 1)
    assert catalog.resolve(NAME) is first and catalog.resolve(NAME, number=3).number == 3


def test_a_stable_that_a_gate_bars_leaves_unnamed_calls_to_what_passes() -> None:
    catalog = Catalog(labels={NAME: {"stable": 2}}, gates=[parse("f1>=0.8")])
    first = add(catalog, 1, f1=0.9)
    add(catalog, 2, f1=0.1)

    assert catalog.labels[NAME] == {} and len(catalog.barred) == 1
    assert catalog.resolve(NAME) is first


def test_where_no_version_passes_the_highest_available_counts() -> None:
    catalog = Catalog(gates=[parse("f1>=0.8")])
    add(catalog, 1), add(catalog, 3, State.EXPORTING, f1=0.9)
    second = add(catalog, 2, f1=0.1)

    assert catalog.resolve(NAME) is second


def test_unknown_references_say_what_there_is(catalog: Catalog) -> None:
    add(catalog, 1), add(catalog, 2)
    catalog.labels[NAME] = {"stable": 1, "canary": 2}

    with pytest.raises(NotFound, match="there is no model 'shop.other'; there are shop.tiny$"):
        catalog.resolve("shop.other")
    with pytest.raises(NotFound, match="model 'shop.tiny' has no version 7; it has 1, 2"):
        catalog.resolve(NAME, number=7)
    with pytest.raises(NotFound, match="model 'shop.tiny' has no label 'best'; it has canary, stable"):
        catalog.resolve(NAME, label="best")


def test_an_unknown_model_is_told_at_most_eight_others(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match="there is no model 'shop.x'; there are none$"):
        catalog.resolve("shop.x")
    first = add(catalog)
    catalog.models = {f"shop.m{index}": {1: first} for index in range(9)}
    names = ", ".join(f"shop.m{index}" for index in range(8))
    with pytest.raises(NotFound, match=f"there is no model 'shop.x'; there are {names} and 1 more$"):
        catalog.resolve("shop.x")


def test_a_model_of_which_every_folder_is_refused_says_why(catalog: Catalog) -> None:
    catalog.untrained.append(Untrained(PLUGIN, "shop.new"))
    catalog.refused += [
        Refusal(PLUGIN, "NO_HOOK", "it has no models"),
        *(Refusal(PLUGIN, "FOLDER_DAMAGED", f"{NAME} {number} is torn; mend it", NAME, number) for number in (1, 2)),
    ]
    load = "load it with `mercato admin load --plugin mercato-tiny`"
    text = f"^model 'shop.tiny' version 2 is refused: FOLDER_DAMAGED: shop.tiny 2 is torn; mend it; then {load}$"
    for number, label in ((None, None), (1, None), (None, "stable")):
        with pytest.raises(ModelFailed, match=text) as caught:
            catalog.resolve(NAME, number, label)
        assert caught.value.model == NAME
    with pytest.raises(ModelFailed, match=text):
        catalog.set_label(NAME, "stable", None)
    with pytest.raises(NotFound, match="^there is no model ''; there are none$"):
        catalog.resolve("")

    catalog.refused[:] = [Refusal(PLUGIN, "FOLDER_DAMAGED", "the folders cannot be read", NAME)]
    with pytest.raises(ModelFailed, match=r"^model 'shop.tiny' is refused: FOLDER_DAMAGED: the folders cannot be r"):
        catalog.model(NAME)
    add(catalog, 1)
    assert catalog.resolve(NAME).number == 1


@pytest.mark.parametrize(
    ("has_folders", "way_out"),
    [
        (True, "load it with `mercato admin load --plugin mercato-tiny`"),
        (False, "start the server with --models-dir"),
    ],
)
def test_an_untrained_model_says_how_it_is_served(has_folders: bool, way_out: str) -> None:
    catalog = Catalog(untrained=[Untrained(PLUGIN, NAME)], has_folders=has_folders)
    text = "model 'shop.tiny' is installed but has no trained version; train one with `mercato train shop.tiny` and"
    with pytest.raises(NotFound, match=f"^{text} {way_out}$"):
        catalog.resolve(NAME)
    catalog.untrained[:] = [Untrained(PLUGIN, NAME, trains=False)]
    with pytest.raises(NotFound, match=f"version; write its folder with mercato_plugin.publish_folder and {way_out}$"):
        catalog.resolve(NAME)


def test_a_label_of_a_version_that_is_not_there_is_not_found(catalog: Catalog) -> None:
    add(catalog, 1)
    catalog.labels[NAME] = {"stable": 9}

    for label in (None, "stable"):
        with pytest.raises(NotFound, match="label 'stable' of model 'shop.tiny' means version 9; it has 1"):
            catalog.resolve(NAME, label=label)


def test_a_version_of_the_same_number_takes_the_others_place_in_one_step(catalog: Catalog) -> None:
    old = add(catalog, 1)
    told: list[Version] = []
    catalog.listeners.append(told.append)
    new = catalog.add(Version(NAME, 1, old.spec, old.plugin))

    assert catalog.find(NAME) is new and catalog.versions() == [new] and told == [new]


def test_a_label_moves_and_is_taken_away(catalog: Catalog) -> None:
    add(catalog, 1), add(catalog, 2)

    assert catalog.set_label(NAME, "stable", 1) == {"stable": 1}
    assert catalog.set_label(NAME, "stable", 2) == {"stable": 2}
    assert catalog.resolve(NAME, label="stable").number == 2
    assert catalog.set_label(NAME, "stable", None) == {}
    with pytest.raises(NotFound, match="model 'shop.tiny' has no label 'stable'; it has none"):
        catalog.set_label(NAME, "stable", None)


@pytest.mark.parametrize("state", sorted(set(State) - {State.AVAILABLE}, key=str))
def test_a_label_moves_to_available_versions_only(catalog: Catalog, state: State) -> None:
    add(catalog, 1), add(catalog, 2, state)
    catalog.set_label(NAME, "stable", 1)
    with pytest.raises(LabelRefused, match=f"version 2 is {state.value}; labels move to AVAILABLE versions"):
        catalog.set_label(NAME, "stable", 2)
    assert catalog.resolve(NAME).number == 1


@pytest.mark.parametrize("label", ["", "Stable", "a.b", "1st", "a-b", "ü", "a" * 65, "stable\n"])
def test_what_is_no_label_is_refused(catalog: Catalog, label: str) -> None:
    add(catalog, 1)
    catalog.set_label(NAME, "a" * 64, 1)
    with pytest.raises(InvalidRequest, match="expected at most 64 lower-case letters, digits and _, a letter first"):
        catalog.set_label(NAME, label, 1)


def test_a_label_of_an_unknown_model_or_version_is_not_found(catalog: Catalog) -> None:
    for number in (1, None):
        with pytest.raises(NotFound, match="there is no model 'shop.tiny'"):
            catalog.set_label(NAME, "stable", number)
    add(catalog, 1)
    with pytest.raises(NotFound, match="has no version 9; it has 1$"):
        catalog.set_label(NAME, "stable", 9)
    add(catalog, 2, accuracy=0.9)
    load = "where there is a folder of it, `mercato admin load shop.tiny --version 9` loads it"
    with pytest.raises(NotFound, match=f"has no version 9; it has 1, 2; {load}$"):
        catalog.set_label(NAME, "stable", 9)


@pytest.mark.parametrize("state", sorted(STARTING, key=str))
def test_a_version_on_its_way_is_not_ready(catalog: Catalog, state: State) -> None:
    add(catalog, 1, state)
    with pytest.raises(ModelNotReady, match=f"version 1 is {state.value}; retry when it is AVAILABLE"):
        catalog.resolve(NAME)


def test_a_failed_version_says_why(catalog: Catalog) -> None:
    add(catalog, 1, State.FAILED, "PARITY_FAILED: error 0.5, tolerance 1e-05")
    with pytest.raises(ModelFailed, match="version 1 failed: PARITY_FAILED: error 0.5, tolerance 1e-05"):
        catalog.resolve(NAME)


@pytest.mark.parametrize("state", [State.DRAINING, State.UNLOADED])
def test_a_version_on_its_way_out_is_draining(catalog: Catalog, state: State) -> None:
    add(catalog, 1, state)
    with pytest.raises(Draining, match=f"version 1 is {state.value}"):
        catalog.resolve(NAME)


def test_a_stopping_server_is_draining_whatever_the_model_was_doing(catalog: Catalog) -> None:
    add(catalog, 1, State.EXPORTING)
    catalog.draining = True
    with pytest.raises(Draining):
        catalog.resolve(NAME)


@pytest.mark.parametrize("start", State)
@pytest.mark.parametrize("end", State)
def test_every_step_of_the_table_and_no_other(catalog: Catalog, start: State, end: State) -> None:
    version = add(catalog, 1, start)
    told: list[State] = []
    catalog.listeners.append(lambda v: told.append(v.status.state))

    if end in LEGAL[start]:
        catalog.move(version, end, "because")
        assert (version.status.state, version.status.reason, told) == (end, "because", [end])
    else:
        with pytest.raises(ValueError, match=f"no way from {start.value} to {end.value}"):
            catalog.move(version, end)
        assert (version.status.state, told) == (start, [])


def test_the_order_of_a_life() -> None:
    """Written out, so that a change of the table is a change of this test."""
    table = {start.value: " ".join(sorted(end.value for end in ends)) for start, ends in LEGAL.items()}
    assert table == {
        "DISCOVERED": "EXPORTING FAILED LOADING UNLOADED",
        "EXPORTING": "FAILED LOADING UNLOADED",
        "LOADING": "FAILED UNLOADED WARMING",
        "WARMING": "AVAILABLE FAILED LOADING UNLOADED",
        "AVAILABLE": "DRAINING FAILED LOADING",
        "FAILED": "UNLOADED",
        "DRAINING": "UNLOADED",
        "UNLOADED": "",
    }


def test_since_says_when_the_state_was_reached(catalog: Catalog) -> None:
    version = add(catalog, 1, State.DISCOVERED)
    before = version.status.since
    catalog.move(version, State.LOADING)

    assert version.status.since >= before


@pytest.mark.parametrize(
    ("word", "quoted"), [("a", "'a'"), ("a\nb", r"'a\nb'"), ("\u202ex", r"'\u202ex'"), ("x" * 99, f"'{'x' * 77}...'")]
)
def test_a_callers_word_is_quoted_escaped_and_cut(word: str, quoted: str) -> None:
    assert shown(word) == quoted
