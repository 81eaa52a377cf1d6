"""Settings of plugins: filled from what the operator wrote, refused with the key that is wrong."""

from pathlib import Path
from typing import Any

import pytest
from tests.server.plugins.conftest import Discover, Install
from tests.server.plugins.installed import HOOK, plugin

from mercato_plugin import Secret
from mercato_plugin.settings import build_settings
from mercato_server import config
from mercato_server.export.job import find_offered
from mercato_server.export.request import ExportRequest

SETTINGS = """
    @dataclass(frozen=True)
    class settings:
        folder: Path | None = setting(None, doc="where the encoder is")
        top: int = setting(5, doc="how many")
        token: Secret = setting(Secret(""), doc="for the price list")

    def spec(self, ctx):
        assert ctx.files is None and ctx.version is None
        return replace(SPEC, doc=f"top {ctx.settings.top}")
"""


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mercato.toml"
    path.write_text("")
    monkeypatch.setenv("MERCATO_CONFIG", str(path))
    return path


@pytest.fixture
def filled(add: Install, found: Discover, settings_file: Path) -> Any:
    """Settings and specification that come out of the file, or the refusal."""
    add("mercato-made", plugin("made", SETTINGS))

    def run(toml: str = "") -> Any:
        settings_file.write_text(f'[plugins."mercato-made"]\n{toml}\n')
        discovery = found(config.load().plugin)
        refused = [refusal for refusal in discovery.refused if refusal.code != "DENIED"]
        return refused[0] if refused else discovery.models[0]

    return run


def test_without_any_the_defaults_hold(filled: Any) -> None:
    offered = filled()

    assert (offered.settings.folder, offered.settings.top, offered.settings.token) == (None, 5, "")
    assert offered.spec.doc == "top 5"


def test_the_file_fills_them_and_the_specification_sees_them(filled: Any, tmp_path: Path) -> None:
    offered = filled(f"top = 7\nfolder = {str(tmp_path)!r}")

    assert (offered.settings.folder, offered.settings.top) == (tmp_path, 7)
    assert offered.spec.doc == "top 7"


def test_the_environment_wins_over_the_file(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_MADE__TOP", "9")

    assert filled("top = 7").settings.top == 9


def test_an_unknown_key_is_refused_with_the_known_ones(filled: Any) -> None:
    refusal = filled("tpo = 3")

    assert refusal.code == "SETTINGS_INVALID"
    assert "[plugins.\"mercato-made\"] unknown settings ['tpo']; known are ['folder', 'token', 'top']" in refusal.reason


def test_a_value_of_another_type_is_refused_without_the_value(filled: Any) -> None:
    refusal = filled("top = 'hush-hush'")

    assert refusal.code == "SETTINGS_INVALID"
    assert "top: Input should be a valid integer" in refusal.reason and "hush-hush" not in refusal.reason


def test_a_secret_in_the_file_is_refused(filled: Any) -> None:
    refusal = filled("token = 'hush-hush'")

    assert refusal.code == "SETTINGS_INVALID"
    assert "secret 'token' must come from the environment or be written as { file = '...' }" in refusal.reason
    assert "hush-hush" not in refusal.reason


def test_a_secret_comes_from_the_environment(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_MADE__TOKEN", "hush-hush")
    token = filled().settings.token

    assert token == "hush-hush" and isinstance(token, Secret)
    assert "hush-hush" not in repr(filled().settings)


def test_a_secret_comes_from_a_file(filled: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush-hush\n")
    token = filled(f"token = {{ file = {str(tmp_path / 'token')!r} }}").settings.token

    assert token == "hush-hush" and isinstance(token, Secret)


def test_a_secret_whose_file_is_missing_is_refused_without_its_path(filled: Any, tmp_path: Path) -> None:
    refusal = filled(f"token = {{ file = {str(tmp_path / 'absent')!r} }}")

    assert refusal.code == "SETTINGS_INVALID"
    assert "secret 'token': its file cannot be read: FileNotFoundError" in refusal.reason
    assert str(tmp_path) not in refusal.reason


def test_a_required_setting_that_is_missing_is_named(add: Install, found: Discover) -> None:
    body = "    @dataclass(frozen=True)\n    class settings:\n        region: str = setting(doc='where')\n"
    add("mercato-made", plugin("made", body))
    [refusal] = [refusal for refusal in found().refused if refusal.code != "DENIED"]

    assert refusal.code == "SETTINGS_INVALID"
    assert "region: Field required" in refusal.reason


def test_settings_for_a_plugin_without_any_are_refused(add: Install, found: Discover) -> None:
    add("mercato-made", plugin("made"))
    [refusal] = [refusal for refusal in found(lambda name: {"top": 3}).refused if refusal.code != "DENIED"]

    assert refusal.code == "SETTINGS_INVALID"
    assert "unknown settings ['top']; known are []" in refusal.reason


OPTIONAL = """
    @dataclass(frozen=True)
    class settings:
        token: HINT = setting(None, doc="for the price list")
"""


@pytest.mark.parametrize("hint", ["Secret | None", "Annotated[Secret | None, 'doc']", "Optional[Annotated[Secret, 1]]"])
def test_an_optional_secret_is_a_secret(
    add: Install, found: Discover, monkeypatch: pytest.MonkeyPatch, hint: str
) -> None:
    code = "from typing import Annotated, Optional\n" + plugin("made", OPTIONAL.replace("HINT", hint))
    add("mercato-made", code)
    [refusal] = [r for r in found(lambda name: {"token": "hush-hush"}).refused if r.code != "DENIED"]
    [absent] = found().models
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_MADE__TOKEN", "hush-hush")
    [given] = found(config.load().plugin).models

    assert refusal.code == "SETTINGS_INVALID" and "secret 'token' must come from" in refusal.reason
    assert isinstance(given.settings.token, Secret) and given.settings.token == "hush-hush"
    assert build_settings(given.settings) == build_settings(absent.settings) == {}


SIBLINGS = """
    @dataclass(frozen=True)
    class settings:
        region: str = setting(doc="where")
        token: Secret | None = setting(None, doc="for the price list")


class Other(Model):
    spec = replace(SPEC, name="shop.other")

    @dataclass(frozen=True)
    class settings:
        top: int = setting(doc="how many")
"""


def test_a_model_is_found_again_for_its_export_beside_one_with_other_settings(
    add: Install, found: Discover, tmp_path: Path
) -> None:
    add("mercato-made", plugin("made", SIBLINGS, HOOK.replace("[Made()]", "[Made(), Other()]")))
    given = {"region": "eu", "top": 3, "token": Secret("hush-hush")}

    for offered in found(lambda name: given).models:
        request = ExportRequest.from_json(ExportRequest.of(offered, tmp_path, "a" * 64).to_json())
        again = find_offered(request)
        assert (again.spec, vars(again.settings)) == (offered.spec, vars(offered.settings))
        assert "hush-hush" not in repr(offered)
