"""What importing the client brings, and what it does not."""

import subprocess
import sys

HEAVY = ("typer", "rich", "pandas", "torch", "onnxruntime", "mercato_server", "mercato_plugin")


def test_importing_the_client_brings_nothing_heavy() -> None:
    code = f"import mercato_client, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code).stdout.strip() == "[]"


def test_the_command_without_its_packages_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from mercato_client.cli import main; main()"
    done = run(code, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == 'mercato: the command needs more packages; run: pip install "mercato-client[cli]"\n'


def run(code: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=check, timeout=60)
