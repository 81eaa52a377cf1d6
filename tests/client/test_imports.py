"""What importing the client brings, and what it does not."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("typer", "rich", "pandas", "torch", "onnxruntime", "mercato_server", "mercato_plugin")


def test_importing_the_client_brings_nothing_heavy() -> None:
    code = f"import mercato_client, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code).stdout.strip() == "[]"


def test_the_command_without_its_packages_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from mercato_client.cli import main; main()"
    done = run(code, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == 'mercato: the command needs more packages; run: pip install "mercato-client[cli]"\n'


def test_a_command_of_others_is_loaded_before_grpc_is(tmp_path: Path) -> None:
    """The server sets how gRPC behaves in its process, and gRPC reads that once, when it is imported."""
    info = tmp_path / "mercato_added-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mercato-added\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[mercato.commands]\nprobe = probe:probe\n")
    (tmp_path / "probe.py").write_text(
        "import sys\nloaded = 'grpc' in sys.modules\ndef probe() -> None:\n    print('grpc', loaded)\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['mercato', 'probe']"
    done = run(f"{code}; from mercato_client.cli import main; main()")
    assert done.stdout == "grpc False\n"


def test_what_is_imported_on_first_use_is_found_and_nothing_else() -> None:
    code = "import mercato_client as m; print(all(hasattr(m, n) for n in m.__all__), hasattr(m, 'Clients'))"
    assert run(code).stdout == "True False\n"


def run(code: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=check, timeout=60)
