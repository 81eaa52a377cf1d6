"""The commands of the page about securing a server, run as they stand; and the methods that the reference lists."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import blocks, read, sections
from tests.server.conftest import Start
from tests.server.running import MERCATO
from tests.server.security.test_access import METHODS, OPEN

PAGE = {block.title: block.text for block in blocks(read("docs/how-to/secure.md"))}


def test_the_commands_of_the_page_give_a_secured_server(start: Start, store: Path, tmp_path: Path) -> None:
    path = {"PATH": f"{MERCATO.parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("bash", "-eu", "-c", PAGE["issue.sh"])
    settings = PAGE["mercato.toml"]
    for name in ("server.pem", "server.key", "ca.pem"):
        settings = settings.replace(f'"{name}"', f'"{tmp_path / name}"')
    (tmp_path / "given.toml").write_text(settings)
    running = start(store, MERCATO_CONFIG=str(tmp_path / "given.toml"))
    event = running.event("listening")
    running.event("ready")

    said = run("bash", "-eu", "-c", PAGE["call.sh"].replace("localhost:8500", f"localhost:{event['port']}"))
    assert re.search(r"\b(8\.0|7\.99)", said)
    run(sys.executable, "-c", PAGE["probe.py"].replace("8502", str(event["probe_port"])))


def test_the_reference_lists_every_method_and_which_are_open() -> None:
    rows = dict(
        re.findall(r"^\| `([\w.]+/\w+)` \| (.+?) \|$", sections(read("docs/reference/access.md"))["Methods"], re.M)
    )
    assert rows.keys() == METHODS.keys()
    assert {name for name, checked in rows.items() if checked.startswith("nothing")} == OPEN
