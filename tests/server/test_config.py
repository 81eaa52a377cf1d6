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
from mercato_server.contract.words import shown
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


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        (
            "MERCATO_GATE",
            '["f1>=0.8"',
            "gate: MERCATO_GATE begins with [ and is no JSON: Expecting ',' delimiter at char",
        ),
        (
            "mercato_gate",
            "[",
            "gate: mercato_gate begins with [ and is no JSON: Expecting value at character 2; write a ",
        ),
        ("MERCATO_GATE", "[" * 10**5, "gate: MERCATO_GATE begins with [ and is no JSON: it nests too deeply"),
        (
            "MERCATO_MODELS",
            '{"a.b": {"gate": [}}',
            "models: MERCATO_MODELS is no JSON: Expecting value at character 19",
        ),
        ("MERCATO_MODELS", '{"a.b": {"gate": "["}}', "models.a.b.gate: begins with [ and is no JSON: Expecting value"),
        (
            "MERCATO_MODELS",
            "[" * 10**5,
            "the environment: a variable is no JSON: it nests too deeply; tables are written",
        ),
        ("mercato_access", "{", "access: got a text in mercato_access, expected a list of tables, written as JSON in"),
    ],
)
def test_broken_json_names_the_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        config.load()

    assert str(caught.value).startswith(told) and len(str(caught.value)) < 200


def test_a_broken_list_in_the_file_names_no_variable(folder: Path) -> None:
    (folder / "mercato.toml").write_text('gate = "["')
    with pytest.raises(
        ConfigError, match=r"^gate: begins with \[ and is no JSON: Expecting value at character 2; write"
    ):
        config.load()


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
    assert config.is_loopback(listen) is is_loopback


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("MERCATO_TLS_CERTS", "MERCATO_TLS_CERTS is no setting; did you mean MERCATO_TLS_CERT"),
        ("MERCATO_STRICKT", "MERCATO_STRICKT is no setting; did you mean MERCATO_STRICT"),
        ("mercato_insecur", "mercato_insecur is no setting; did you mean MERCATO_INSECURE"),
        ("MERCATO_PLUGIN__MERCATO_MADE__TOP", "MERCATO_PLUGIN__MERCATO_MADE__TOP is no setting"),
        ("MERCATO_QQQQQQQQ", "MERCATO_QQQQQQQQ is no setting; unset it"),
        ("MERCATO_", "MERCATO_ is no setting"),
        ("MERCATO_PORT", "MERCATO_PORT is no setting"),
        ("mercato_config", "mercato_config is no setting; did you mean MERCATO_CONFIG"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, told: str) -> None:
    monkeypatch.setenv(name, "hush-hush")
    with pytest.raises(ConfigError) as caught:
        config.load()

    assert str(caught.value).startswith(told) and "hush" not in str(caught.value)


def test_all_variables_that_are_no_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERCATO_ACESS", "[]")
    monkeypatch.setenv("MERCATO_TLS_KEYS", "key.pem")
    with pytest.raises(ConfigError, match="MERCATO_ACESS is no setting.*; MERCATO_TLS_KEYS is no setting"):
        config.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MERCATO_THREADS", "2"),
        ("mercato_threads", "2"),
        ("MERCATO_PLUGINS__MERCATO_MADE__TOP", "9"),
        ("MERCATO_SERVICE_HOST", "192.0.2.1"),
        ("MERCATO_SERVICE_PORT", "8500"),
        ("MERCATO_SERVICE_PORT_GRPC", "8500"),
        ("MERCATO_PORT", "tcp://192.0.2.1:8500"),
        ("MERCATO_PORT_8500_TCP", "tcp://192.0.2.1:8500"),
        ("MERCATO_METRICS_PORT_8501_TCP_ADDR", "192.0.2.1"),
        ("MERCATOR", "x"),
    ],
)
def test_variables_of_settings_and_of_services_beside_are_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A Kubernetes service called mercato puts its own variables into every pod beside it."""
    monkeypatch.setenv(name, value)

    config.load()


@pytest.mark.parametrize("name", ["listen", "metrics_listen", "probe_listen"])
@pytest.mark.parametrize("listen", ["::1:8500", ":::8500", "[::1:8500", "::1]:8500", "[]:1", "[localhost]:1", "a:b:1"])
def test_an_ipv6_host_stands_in_brackets(name: str, listen: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}: got .*; an IPv6 host stands in brackets, as in \[::1\]:8500$"):
        config.load(**{name: listen})


# --- what fits together -----------------------------------------------------------------------------------------------

CERT = {"tls_cert": Path("cert.pem"), "tls_key": Path("key.pem")}
ROW = {"principal": "shop", "methods": "*", "models": ["pricing.linear"]}


@pytest.mark.parametrize(
    "given",
    [
        {"listen": "127.0.0.1:0"},
        {"listen": "[::1]:8500", "metrics_listen": "off", "probe_listen": "off"},
        {"listen": "0.0.0.0:8500", "metrics_listen": "0.0.0.0:8501", "insecure": True},
        {"listen": "0.0.0.0:8500", **CERT},
        {"listen": "0.0.0.0:8500", "metrics_listen": "0.0.0.0:8501", "insecure": True, **CERT},
        {**CERT, "tls_client_ca": Path("ca.pem"), "access": [ROW]},
        {**CERT, "tls_client_ca": Path("ca.pem"), "access": []},
        {"connection_age": 0},
    ],
)
def test_settings_that_fit_together_are_taken(given: dict[str, object]) -> None:
    config.load(**given).check_serving()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tls_cert": Path("cert.pem")}, "tls_cert is set without tls_key; TLS needs both"),
        ({"tls_key": Path("key.pem")}, "tls_key is set without tls_cert; TLS needs both"),
        ({"tls_client_ca": Path("ca.pem")}, "tls_client_ca is set without tls_cert and tls_key"),
        ({"access": [ROW]}, "access is set without tls_client_ca"),
        ({"access": [ROW], **CERT}, "access is set without tls_client_ca"),
        (
            {"listen": "0.0.0.0:1"},
            "listen 0.0.0.0:1 opens a port to the network in plain text; set tls_cert and tls_key",
        ),
        ({"listen": "shop.example:1"}, "or allow it with insecure = true (--insecure)"),
        (
            {"metrics_listen": "[::]:1"},
            "metrics_listen [::]:1 opens a port to the network in plain text; use a loopback",
        ),
        ({"metrics_listen": "[::]:1", **CERT}, "or allow it with insecure = true (--insecure)"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_by_name(given: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(**given).check_serving()

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"listen": "off"}, "listen: got 'off', expected host:port"),
        (
            {"metrics_listen": "8501"},
            "metrics_listen: got '8501', expected host:port with a port from 0 to 65535, or 'off'",
        ),
        (
            {"probe_listen": "0.0.0.0:1"},
            "probe_listen: got '0.0.0.0:1', expected host:port on a loopback address, or 'off'",
        ),
        ({"connection_age": float("inf")}, "connection_age: Input should be a finite number"),
        ({"connection_age": -1}, "connection_age: Input should be greater than or equal to 0"),
        ({"access": [{"principal": "shop", "models": "*"}]}, "access.0.methods: Field required"),
        (
            {"access": [{**ROW, "methods": ["/a.B/C"]}]},
            "access.0.methods: got '/a.B/C', expected \"*\" or package.Service/Me",
        ),
        ({"access": [{**ROW, "principal": ""}]}, "access.0.principal: String should have at least 1 character"),
        ({"access": [{**ROW, "verbs": "*"}]}, "access.0.verbs: Extra inputs are not permitted"),
        ({"models": {"a.b": {"batch_row": 1}}}, "models.a.b.batch_row: Extra inputs are not permitted"),
        ({"models": {"a.b": {"batch_rows": 0}}}, "models.a.b.batch_rows: Input should be greater than or equal to 1"),
        ({"models": {"a.b": {"provider": "tpu"}}}, "models.a.b.provider: Input should be 'auto', 'cpu', 'cuda' or"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_what_does(given: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(**given)

    assert str(caught.value).startswith(told)


LABELLED = "expected at most 64 lower-case letters, digits and _, a letter first"


@pytest.mark.parametrize("label", ["", "Stable", "1st", "_x", "best one", "stable\n", "最新", "a" * 65])
def test_a_label_that_is_none_is_refused(label: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(models={"a.b": {"labels": {"stable": 1, label: 0}}})

    assert str(caught.value) == f"models.a.b.labels: got {shown(label)}, {LABELLED}"


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (0, "greater than or equal to 1"),
        (-1, "greater than or equal to 1"),
        (2**31, "less than or equal to 2147483647"),
        *((value, "a valid integer") for value in (True, "3", 3.0, None, [3])),
    ],
)
def test_a_version_is_a_whole_number_from_1(version: object, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(models={"a.b": {"labels": {"stable": version}}})
    assert str(caught.value) == f"models.a.b.labels.stable: Input should be {told}"
    with pytest.raises(ConfigError, match=rf"^models\.a\.b\.versions\.1: Input should be {told}"):
        config.load(models={"a.b": {"versions": [1, version]}})


def test_labels_and_versions_are_taken_from_file_and_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mercato.toml").write_text(f"[models.'a.b']\nlabels = {{ {'a' * 64} = {2**31 - 1} }}\nversions = [1]\n")
    assert config.load().models["a.b"].labels == {"a" * 64: 2**31 - 1}
    monkeypatch.setenv("MERCATO_MODELS", '{"a.b": {"labels": {"v2_1": 1}, "versions": [2]}}')
    given = config.load().models["a.b"]
    assert (given.labels["v2_1"], given.versions) == (1, (2,))


def test_the_access_table_comes_from_the_file_and_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mercato.toml").write_text("[[access]]\nprincipal = 'shop'\nmethods = ['a.B/C', 'a.B/D']\nmodels = '*'\n")
    rule = config.AccessRule(principal="shop", methods=("a.B/C", "a.B/D"), models=("*",))

    assert config.load().access == (rule,)
    monkeypatch.setenv("MERCATO_ACCESS", json.dumps([ROW]))
    assert config.load().access == (config.AccessRule(principal="shop", methods=("*",), models=("pricing.linear",)),)


def test_overrides_of_a_model_are_what_was_given(folder: Path) -> None:
    (folder / "mercato.toml").write_text("[models.'shop.made']\nlabels = { stable = 1 }\nthreads = 0\nbatch_rows = 8\n")

    assert config.load().overrides("shop.made") == {"threads": 0, "batch_rows": 8}
    assert config.load().overrides("shop.other") == {}


# --- what `serve` says ------------------------------------------------------------------------------------------------


def test_an_unknown_log_level_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        serve.command(log_level="foo")

    assert capsys.readouterr().err == (
        "mercato serve: log_level: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'\n"
    )


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


# --- workers ----------------------------------------------------------------------------------------------------------


def test_one_pool_for_a_worker_leaves_no_room_for_a_models_own_threads(folder: Path) -> None:
    (folder / "mercato.toml").write_text('thread_pool = "worker"\n[models."shop.tiny"]\nthreads = 2\n')
    with pytest.raises(ConfigError, match=r"\[models.'shop.tiny'\] sets threads, but with thread_pool = 'worker' all"):
        config.load().check_serving()
    config.load(thread_pool="session").check_serving()


def test_worker_processes_are_refused_where_the_system_has_not_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ConfigError, match=r"isolation = 'process' needs Linux; use isolation = 'inline'"):
        config.load().check_serving()
    config.load(isolation="inline").check_serving()
