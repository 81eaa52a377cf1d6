"""A process forked after a client was open never hangs: it is told what to do."""

import subprocess
import sys

import pytest
from tests.client.fake import FakeServer

CALL = 'client.predict("pricing.linear", {"x": 1.0})["x"].tolist()'
ASK = 'stream.predict("pricing.linear", {"x": 1.0})'
TOLD = (
    "InvalidInput: this process was forked from one in which a client was open, and gRPC does not work on both "
    'sides of a fork; start processes with multiprocessing.get_context("spawn"), or open the first client after '
    "the fork"
)

PROGRAM = """
import asyncio, os, sys
from mercato_client import AsyncClient, Client

def attempt(action):
    try:
        print(action(), flush=True)
    except Exception as error:
        print(f"{{type(error).__name__}}: {{error}}", flush=True)

address = {address!r}
{before}
child = os.fork()
if child == 0:
    {inside}
    sys.exit(0)
print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
{after}
"""


def run(server: FakeServer, before: str, inside: str, after: str = "") -> list[str]:
    """What a program prints that forks after `before`; the child does `inside`."""
    code = PROGRAM.format(address=server.address, before=before, inside=inside, after=after)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done
    return done.stdout.splitlines()


OPEN = f"client = Client(address); {CALL}"


def test_a_client_of_the_parent_refuses_in_the_child_and_works_in_the_parent(server: FakeServer) -> None:
    inside = f"attempt(lambda: {CALL}); attempt(client.health); attempt(client.close)"
    printed = run(server, OPEN, inside, f"print({CALL})")
    assert printed == [TOLD, TOLD, "None", "exit 0", "[1.0]"]


@pytest.mark.parametrize("before", [OPEN, "Client(address)", f"{OPEN}; client.close()"])
def test_a_new_client_in_the_child_refuses(server: FakeServer, before: str) -> None:
    inside = "attempt(lambda: Client(address)); attempt(lambda: AsyncClient(address))"
    assert run(server, before, inside) == [TOLD, TOLD, "exit 0"]


def test_an_open_stream_refuses_and_its_block_ends(server: FakeServer) -> None:
    before = f"{OPEN}; stream = client.stream(); stream.__enter__(); pending = {ASK}"
    inside = f"attempt(lambda: {ASK}); stream.__exit__(None, None, None)"
    after = "stream.__exit__(None, None, None); print(pending.result(0)['x'].tolist())"
    assert run(server, before, inside, after) == [TOLD, "exit 0", "[1.0]"]


def test_a_process_forked_before_the_first_client_works(server: FakeServer) -> None:
    inside = f"client = Client(address); print({CALL}, flush=True); client.close()"
    assert run(server, "", inside, f"client = Client(address); print({CALL})") == ["[1.0]", "exit 0", "[1.0]"]


def test_a_spawned_process_works(server: FakeServer) -> None:
    spawned = f"from mercato_client import Client; client = Client({server.address!r}); print({CALL}, flush=True)"
    after = f"import subprocess; subprocess.run([sys.executable, '-c', {spawned!r}], check=True)"
    assert run(server, OPEN, "pass", after) == ["exit 0", "[1.0]"]
