"""The server's own settings: what is taken, and that what is not is told in one line."""

import json
import logging
from pathlib import Path

import pytest
import typer

from mercato_plugin import ModelSpec, Tensor
from mercato_server import config
from mercato_server.app import App
from mercato_server.commands import serve
from mercato_server.contract.plugin import PluginInfo
from mercato_server.errors import ConfigError, StartupError
from mercato_server.serving.catalog import Version


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MERCATO_CONFIG", raising=False)
    return tmp_path


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["one,two", " one , two ,", '["one", "two"]'])
def test_a_list_in_the_environment_is_json_or_names_with_commas(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("MERCATO_PLUGINS_ALLOW", written)
    monkeypatch.setenv("MERCATO_PLUGINS_DENY", written)
    settings = config.load()

    assert settings.plugins_allow == settings.plugins_deny == ("one", "two")


def test_lists_in_the_file_are_taken_as_they_are(folder: Path) -> None:
    (folder / "mercato.toml").write_text('plugins_allow = ["a,b"]')

    assert (config.load().plugins_allow, config.load().plugins_deny) == (("a,b",), ())


@pytest.mark.parametrize("name", ["PLUGINS_DENY", "PLUGINS_ALLOW", "MODELS", "PLUGINS"])
def test_broken_json_in_the_environment_names_the_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"MERCATO_{name}", "['hush-hush'")
    with pytest.raises(ConfigError, match=name.lower()) as caught:
        config.load()

    assert "hush" not in str(caught.value)


def test_a_settings_file_that_is_a_folder_is_refused(folder: Path) -> None:
    (folder / "mercato.toml").mkdir()

    with pytest.raises(ConfigError, match="mercato.toml cannot be read: Is a directory"):
        config.load()


def test_a_settings_file_in_a_place_that_is_no_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "plain").write_text("")
    monkeypatch.setenv("MERCATO_CONFIG", str(folder / "plain" / "my.toml"))

    with pytest.raises(ConfigError, match="my.toml cannot be read: Not a directory"):
        config.load()


def test_a_named_file_that_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERCATO_CONFIG", "absent.toml")

    with pytest.raises(ConfigError, match="the file that MERCATO_CONFIG names does not exist"):
        config.load()


def test_an_empty_name_of_the_file_counts_as_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mercato.toml").write_text("threads = 3")
    monkeypatch.setenv("MERCATO_CONFIG", "")

    assert config.load().threads == 3


@pytest.mark.parametrize(
    ("listen", "is_loopback"),
    [
        ("127.0.0.1:0", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.1:1", False),
        ("shop.example:1", False),
    ],
)
def test_which_addresses_stay_on_the_machine(listen: str, is_loopback: bool) -> None:
    assert config.load(listen=listen).is_loopback is is_loopback


# --- what `serve` says ------------------------------------------------------------------------------------------------


def test_an_unknown_log_level_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        serve.command(log_level="foo")

    assert capsys.readouterr().err == ("mercato serve: log level 'foo', expected one of DEBUG, INFO, WARNING, ERROR\n")


def with_overrides(folder: Path, *, strict: bool) -> App:
    """A server of no plugin, one model of which stands in the catalog, and overrides of which one fits."""
    (folder / "mercato.toml").write_text(
        f"plugins_allow = []\nstrict = {json.dumps(strict)}\nlisten = '127.0.0.1:0'\nprovider = 'cpu'\n"
        "[models.'shop.made']\nlabels = { stable = 1, canary = 9 }\n[models.'shop.typo']\n"
    )
    app = App(config.load(store=folder / "store"), lambda model, progress: None)
    x = Tensor("float32", ("batch", 1))
    spec = ModelSpec(name="shop.made", inputs={"x": x}, outputs={"y": x})
    app.catalog.add(Version("shop.made", 1, spec, PluginInfo("mercato-made", "1.0", "made", "made")))
    return app


STRAY = (
    "[models.'shop.typo'] names a model that is not installed",
    "[models.'shop.made'] label 'canary' means version 9, which is not installed",
)


async def test_overrides_of_what_is_not_there_are_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = with_overrides(folder, strict=False)
    await app.start(lambda port: None)
    await app.stop()

    assert tuple(r.getMessage() for r in caplog.records if r.levelno == logging.WARNING) == STRAY


async def test_strict_refuses_overrides_of_what_is_not_there(folder: Path) -> None:
    app = with_overrides(folder, strict=True)
    with pytest.raises(StartupError) as caught:
        await app.start(lambda port: None)
    await app.stop()

    assert str(caught.value) == "refusing to serve (strict): " + "; ".join(STRAY)
