"""The plugin host: every way a plugin can be bad, and that the good one beside it is offered all the same."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.server.plugins.conftest import Discover, Install
from tests.server.plugins.installed import HOOK, plugin

from mercato_server.contract.plugin import Discovery
from mercato_server.plugins.daemon import in_daemon_thread
from mercato_server.plugins.host import Policy

GOOD = plugin("good")

BAD: dict[str, tuple[str, str, str]] = {
    "an import that fails": ("import no_such_module", "IMPORT_FAILED", "No module named 'no_such_module'"),
    "a syntax error": ("def broken(:", "IMPORT_FAILED", "SyntaxError: invalid syntax"),
    "an exit at import": ("raise SystemExit(3)", "IMPORT_FAILED", "SystemExit: 3"),
    "an exception outside the usual tree": (
        "class Odd(BaseException): pass\nraise Odd('strange')",
        "IMPORT_FAILED",
        "Odd: strange",
    ),
    "no hook": ("x = 1", "NO_HOOK", "mercato_bad has no @hookimpl def mercato_models()"),
    "an unmarked hook": ("def mercato_models():\n    return []", "NO_HOOK", "has no @hookimpl def mercato_models()"),
    "a hook with an argument": (
        plugin("bad", hook=HOOK.replace("()", "(config)", 1)),
        "HOOK_INVALID",
        "does not fit the hook mercato_models()",
    ),
    "a misspelt hook": (
        plugin("bad", hook=HOOK.replace("mercato_models", "mercato_model")),
        "HOOK_INVALID",
        "mercato_model",
    ),
    "a hook that raises": (
        plugin("bad", hook=HOOK.replace("return [Made()]", "raise ValueError('no stock')")),
        "HOOK_FAILED",
        "ValueError: no stock",
    ),
    "a hook that exits": (plugin("bad", hook=HOOK.replace("return [Made()]", "exit(0)")), "HOOK_FAILED", "SystemExit"),
    "a hook that gives classes": (
        plugin("bad", hook=HOOK.replace("[Made()]", "[Made]")),
        "HOOK_FAILED",
        "mercato_models() gave type, expected mercato_plugin.Model",
    ),
    "a hook that gives no list": (
        plugin("bad", hook=HOOK.replace("[Made()]", "Made()")),
        "HOOK_FAILED",
        "'Made' object is not iterable",
    ),
    "a hook that gives nothing": (
        plugin("bad", hook=HOOK.replace("return [Made()]", "[Made()]")),
        "HOOK_FAILED",
        "mercato_models() gave no models",
    ),
    "a specification that contradicts itself": (
        plugin("bad", "    def spec(self, ctx):\n        return replace(SPEC, version=0)"),
        "SPEC_INVALID",
        "version must be between 1 and 2147483647, got 0",
    ),
    "a specification written wrong at import": (
        plugin("bad", "    spec = replace(SPEC, name='Bad')"),
        "IMPORT_FAILED",
        "model name 'Bad' must be two lower-case words",
    ),
    "no specification": (plugin("bad", "    del spec"), "SPEC_INVALID", "no attribute 'spec'"),
    "a specification of another kind": (
        plugin("bad", "    spec = {}"),
        "SPEC_INVALID",
        "Made.spec is dict, not ModelSpec",
    ),
    "a specification that raises": (
        plugin("bad", "    def spec(self, ctx):\n        return ctx.files / 'columns.json'"),
        "SPEC_INVALID",
        "TypeError: unsupported operand",
    ),
    "a bound that has no frozen form": (
        plugin("bad", "    spec = replace(SPEC, inputs={'x': replace(X, high=float('inf'))})"),
        "SPEC_INVALID",
        "shop.bad",
    ),
    "a name that is none": (
        plugin("bad", "    name = '../bad'"),
        "SPEC_INVALID",
        "Made.name is '../bad', expected two lower-case words with one dot",
    ),
    "text that no graph takes": (
        plugin("bad", "    from mercato_plugin import Text\n    spec = replace(SPEC, inputs={'x': Text()})"),
        "SPEC_INVALID",
        "'x' is text, which a graph cannot take",
    ),
    "a newer interface": (plugin("bad", "    api_version = (1, 99)"), "API_VERSION", "plugin interface 1.99"),
    "another interface": (plugin("bad", "    api_version = (2, 0)"), "API_VERSION", "this server has 1.0"),
    "a version of another kind": (plugin("bad", "    api_version = '1.0'"), "API_VERSION", "must be (major, minor)"),
    "a stream": (
        plugin("bad", "    def stream(self, batch, graphs):\n        yield {}"),
        "STREAM_UNSUPPORTED",
        "Made defines stream, which is not served yet",
    ),
    "settings that are no dataclass": (
        plugin("bad", "    settings = dict"),
        "SETTINGS_INVALID",
        "must be a frozen dataclass",
    ),
    "settings of an unknown type": (
        plugin("bad", "    @dataclass(frozen=True)\n    class settings:\n        place: 'Nowhere'"),
        "SETTINGS_INVALID",
        "Nowhere",
    ),
    "settings that nothing can fill": (
        plugin("bad", "    @dataclass(frozen=True)\n    class settings:\n        place: BuildContext"),
        "SETTINGS_INVALID",
        "BuildContext",
    ),
}


def only_refusal(discovery: Discovery, distribution: str = "mercato-bad") -> tuple[str, str]:
    [refusal] = [r for r in discovery.refused if r.plugin.distribution == distribution]
    return refusal.code, refusal.reason


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plugin_is_refused_with_its_reason_beside_a_good_one(
    add: Install, found: Discover, site: Path, case: str
) -> None:
    code, refusal, part = BAD[case]
    add("mercato-bad", code)
    add("mercato-good", GOOD)
    discovery = found()

    got, reason = only_refusal(discovery)
    assert got == refusal
    assert "mercato-bad" in reason and part in reason
    assert "Traceback" not in reason and "\n" not in reason and str(site) not in reason
    assert [offered.spec.name for offered in discovery.models] == ["shop.good"]


def test_all_bad_plugins_at_once_leave_the_good_one(add: Install, found: Discover) -> None:
    add("mercato-good", GOOD)
    for number, (code, _, _) in enumerate(BAD.values()):
        add(f"mercato-bad{number}", code)
    discovery = found()

    assert [offered.spec.name for offered in discovery.models] == ["shop.good"]
    refused = {refusal.plugin.distribution: refusal.code for refusal in discovery.refused if refusal.code != "DENIED"}
    assert refused == {f"mercato-bad{number}": code for number, (_, code, _) in enumerate(BAD.values())}


def test_what_is_offered_says_whose_it_is(add: Install, found: Discover) -> None:
    add("Mercato_Good", GOOD, version="2.3", entry_point="good")
    [offered] = found().models

    plugin = offered.plugin
    assert (plugin.distribution, plugin.version, plugin.entry_point, plugin.module) == (
        "mercato-good",
        "2.3",
        "good",
        "mercato_good",
    )
    assert offered.settings is None


def test_paths_of_the_machine_stay_out_of_a_reason(add: Install, found: Discover, site: Path) -> None:
    add("mercato-bad", "from mercato_plugin import no_such_name")
    add("mercato-worse", "open('/srv/secret/prices.csv')")
    discovery = found()

    assert only_refusal(discovery)[1].startswith("mercato-bad cannot be imported: ImportError: cannot import name")
    for refusal in discovery.refused:
        assert "/srv" not in refusal.reason and "/src/" not in refusal.reason


@pytest.mark.parametrize("requirement", ["mercato-plugin>=99", "Mercato_Plugin ==0.0.1; python_version > '3'"])
def test_another_interface_package_is_refused_before_anything_is_imported(
    add: Install, found: Discover, requirement: str
) -> None:
    add("mercato-bad", "raise SystemExit('was imported')", requires=["numpy", requirement])
    code, reason = only_refusal(found())

    assert code == "API_VERSION"
    assert "mercato-bad 1.0 needs mercato-plugin" in reason and "was imported" not in reason


@pytest.mark.parametrize("requirement", ["mercato-plugin", "mercato-plugin>=0.1", "mercato-plugin>=99; extra == 'new'"])
def test_a_requirement_that_holds_is_no_obstacle(add: Install, found: Discover, requirement: str) -> None:
    add("mercato-good", GOOD, requires=[requirement])

    assert [offered.spec.name for offered in found().models] == ["shop.good"]


def test_metadata_that_cannot_be_read_is_a_refusal(add: Install, found: Discover) -> None:
    add("mercato-bad", GOOD.replace("shop.good", "shop.bad"), requires=["not a requirement !!"])
    add("mercato-good", GOOD)
    discovery = found()

    code, reason = only_refusal(discovery)
    assert code == "IMPORT_FAILED" and "mercato-bad cannot be loaded: " in reason
    assert [offered.spec.name for offered in discovery.models] == ["shop.good"]


def test_an_installation_without_metadata_is_passed_over(add: Install, found: Discover, site: Path) -> None:
    add("mercato-torn", GOOD.replace("shop.good", "shop.torn"))
    (site / "mercato_torn-1.0.dist-info" / "METADATA").unlink()
    add("mercato-good", GOOD)

    assert [offered.spec.name for offered in found().models] == ["shop.good"]


def test_two_plugins_with_one_name_are_both_refused_by_name(add: Install, found: Discover) -> None:
    add("mercato-one", plugin("same"))
    add("mercato-two", plugin("same"), version="2.0")
    add("mercato-good", GOOD)
    discovery = found()

    for distribution in ("mercato-one", "mercato-two"):
        code, reason = only_refusal(discovery, distribution)
        assert code == "NAME_CLASH"
        assert "'shop.same' of mercato-one 1.0 and 'shop.same' of mercato-two 2.0" in reason
    assert [offered.spec.name for offered in discovery.models] == ["shop.good"]


def test_names_that_are_equal_with_underscores_clash(add: Install, found: Discover) -> None:
    add("mercato-one", plugin("x").replace("shop.x", "a.b_c"))
    add("mercato-two", plugin("x").replace("shop.x", "a_b.c"))
    discovery = found()

    assert only_refusal(discovery, "mercato-one")[0] == "NAME_CLASH"
    assert "'a.b_c' of mercato-one 1.0 and 'a_b.c' of mercato-two 1.0" in only_refusal(discovery, "mercato-two")[1]
    assert discovery.models == []


def test_a_plugin_that_offers_a_name_twice_clashes_with_itself(add: Install, found: Discover) -> None:
    add("mercato-bad", plugin("twice", hook=HOOK.replace("[Made()]", "[Made(), Made()]")))
    code, reason = only_refusal(found())

    assert code == "NAME_CLASH" and "'shop.twice' of mercato-bad 1.0" in reason
    assert reason.endswith("; mercato-bad offers the name twice; rename one of its models")


async def test_an_interrupt_that_a_plugin_raises_is_its_own_fault(add: Install, found: Discover) -> None:
    """The server discovers beside the main thread, and Ctrl-C never arrives there."""
    add("mercato-bad", "raise KeyboardInterrupt")
    add("mercato-good", GOOD)
    discovery = await in_daemon_thread(found)

    assert only_refusal(discovery) == ("IMPORT_FAILED", "mercato-bad cannot be imported: KeyboardInterrupt")
    assert [offered.spec.name for offered in discovery.models] == ["shop.good"]


@pytest.mark.parametrize(("handler", "goes_through"), [(signal.default_int_handler, True), (signal.SIG_IGN, False)])
def test_an_interrupt_on_the_main_thread_goes_through_unless_it_is_ignored(
    add: Install, found: Discover, handler: Any, goes_through: bool
) -> None:
    add("mercato-bad", "raise KeyboardInterrupt")
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt) if goes_through else contextlib.nullcontext():
            assert only_refusal(found())[0] == "IMPORT_FAILED"
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_denied_plugin_is_never_imported(add: Install, found: Discover) -> None:
    add("mercato-bad", "raise SystemExit('was imported')")
    code, reason = only_refusal(found(policy=Policy(deny=("Mercato_Bad",))))

    assert code == "DENIED" and "was imported" not in reason


def test_with_an_allow_list_only_those_are_imported(add: Install, found: Discover) -> None:
    add("mercato-bad", "raise SystemExit('was imported')")
    add("mercato-good", GOOD)
    discovery = found(policy=Policy(allow=("Mercato.Good",)))

    assert only_refusal(discovery)[0] == "NOT_ALLOWED"
    assert [offered.spec.name for offered in discovery.models] == ["shop.good"]


def test_deny_wins_over_allow(add: Install, found: Discover) -> None:
    add("mercato-good", GOOD)
    assert only_refusal(found(policy=Policy(("mercato-good",), ("mercato-good",))), "mercato-good")[0] == "DENIED"


def in_a_fresh_process(site: Path, code: str) -> list[str]:
    """Discover in a process where no build tool is loaded; the names it prints."""
    discover = (
        "import sys\n"
        "from mercato_server.plugins.host import Policy, discover\n"
        "found = discover(Policy(deny=('mercato-pricing', 'mercato-reviews', 'mercato-semantic')), lambda name: {})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", discover + code],
        env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.split("\n")


@pytest.mark.parametrize("tool", ["torch", "sklearn.linear_model", "onnx"])
def test_a_plugin_that_imports_build_tools_is_refused_and_brings_none(add: Install, site: Path, tool: str) -> None:
    add("mercato-bad", f"import {tool}\n{plugin('bad')}")
    add("mercato-bad2", f"import {tool}\n{plugin('bad2')}")
    add("mercato-good", GOOD)
    top = tool.partition(".")[0]
    lines = in_a_fresh_process(
        site,
        "print(*[m.spec.name for m in found.models])\n"
        "print(*[f'{r.plugin.distribution}:{r.code}' for r in found.refused if r.code != 'DENIED'])\n"
        "print(found.refused[0].reason)\n"
        f"print({top!r} in sys.modules)\n",
    )

    assert lines[0] == "shop.good"
    assert lines[1] == "mercato-bad:IMPORTS_BUILD_TOOLS mercato-bad2:IMPORTS_BUILD_TOOLS"
    assert f"loading mercato_bad imports {top}, which must not enter a serving process" in lines[2]
    assert lines[3] == "False"


def test_a_plugin_that_does_without_a_missing_tool_is_offered(add: Install, site: Path) -> None:
    add("mercato-good", f"try:\n    import torch\nexcept ImportError:\n    torch = None\n{GOOD}")

    lines = in_a_fresh_process(site, "print(*[m.spec.name for m in found.models], 'torch' in sys.modules)")
    assert lines[0] == "shop.good False"


def test_a_hook_that_imports_build_tools_is_refused_too(add: Install, site: Path) -> None:
    add("mercato-bad", plugin("bad", hook=HOOK.replace("    return", "    import torch\n    return")))

    lines = in_a_fresh_process(
        site, "print({r.plugin.distribution: r.code for r in found.refused}['mercato-bad'], 'torch' in sys.modules)"
    )
    assert lines[0] == "IMPORTS_BUILD_TOOLS False"


def test_build_tools_can_be_imported_after_discovery(add: Install, site: Path) -> None:
    add("mercato-bad", f"import onnx\n{plugin('bad')}")

    assert in_a_fresh_process(site, "import onnx; print(bool(onnx.__version__))")[0] == "True"
