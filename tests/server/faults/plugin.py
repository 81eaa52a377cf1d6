"""A plugin that does on command what its input says, and writes down what it runs; and the commands it is given."""

import functools
from dataclasses import dataclass

from tests.server.faults.history import Row

WIDTH = 64
HOLD = 999

SOURCE = '''
import ctypes, gc, json, locale, os, signal, sys, threading, time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mercato_plugin import Example, Model, ModelSpec, Tensor, hookimpl

FOLDER = Path(os.environ["FAULTS"])
SERVES = "mercato_server.export.job" not in sys.modules
ROW = Tensor("int64", ("batch", 64), low=0, high=2**40)


def obey(place):
    order = FOLDER / place
    if SERVES and order.exists():
        exec(order.read_text(), dict(globals()))


def stop(place):
    told = os.open(FOLDER / "gate" / f"{place}.reached", os.O_WRONLY)
    os.write(told, b"%d\\n" % os.getpid())
    os.close(told)
    go = os.open(FOLDER / "gate" / f"{place}.go", os.O_RDONLY)
    os.read(go, 1)
    os.close(go)


def note(**facts):
    line = json.dumps({"version": VERSION, "pid": os.getpid(), "began": time.monotonic(), **facts})
    log = os.open(FOLDER / "MODULE.executions", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, line.encode() + b"\\n")
    os.close(log)


class Made(Model):
    """y = 3 x + version; the first cell of a row is its id, the second what to do first."""

    spec = ModelSpec(
        name="faults.MODULE", version=VERSION, inputs={"x": ROW}, outputs={"y": ROW}, doc="Does what it is told."
    )

    def build(self, ctx):
        from onnx import TensorProto, helper

        rows = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", 64]) for n in ("x", "y")]
        facts = [helper.make_tensor(n, TensorProto.INT64, [], [v]) for n, v in (("three", 3), ("version", VERSION))]
        nodes = [helper.make_node("Mul", ["x", "three"], ["z"]), helper.make_node("Add", ["z", "version"], ["y"])]
        graph = helper.make_graph(nodes, "made", rows[:1], rows[1:], facts)
        path = FOLDER / "MODULE.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(made.SerializeToString())
        return path

    def examples(self, ctx):
        return [Example({"x": [[0] * 64]}, outputs={"y": [[VERSION] * 64]})]

    def load(self, ctx):
        obey("MODULE.load")

    def preprocess(self, batch):
        x = batch.inputs["x"]
        if not x[:, 0].any():
            obey("MODULE.warm")
        elif SERVES:
            self.told(x[:, 0].tolist(), set(x[:, 1].tolist()) - {0})
        return batch.inputs

    def told(self, ids, commands):
        note(ids=ids)
        try:
            for number in commands:
                stop("run") if number == HOLD else obey(f"run{number}")
        except BaseException:
            note(ids=ids, raised=True)
            raise


obey("MODULE.import")


def another(number):
    return type(f"Made{number}", (Made,), {"spec": replace(Made.spec, name=f"faults.MODULE_{number}")})()


@hookimpl
def mercato_models():
    return [Made(), *map(another, range(1, COUNT))]
'''


def source(module: str, version: int = 1, count: int = 1) -> str:
    """The code of one such plugin with `count` models: `faults.MODULE`, `faults.MODULE_1` and so on."""
    facts = {"MODULE": module, "VERSION": str(version), "HOLD": str(HOLD), "COUNT": str(count)}
    return functools.reduce(lambda text, fact: text.replace(*fact), facts.items(), SOURCE)


def reference(version: int, row: Row) -> Row:
    """What a version answers to a row."""
    return tuple(3 * cell + version for cell in row)


def owner(version: int, row: Row) -> int:
    """The id of the row that a row of an answer belongs to."""
    return (row[0] - version) // 3


def row(id: int, command: int = 0) -> Row:
    """A row of the input: its id, what to do, and numbers that no other row has."""
    return (id, command, *(id * WIDTH + place for place in range(2, WIDTH)))


Outcome = tuple[str, str]
ANSWERED: Outcome = ("OK", "")
CRASHED: Outcome = ("UNAVAILABLE", "WORKER_CRASHED")
NOT_READY: Outcome = ("UNAVAILABLE", "MODEL_NOT_READY")
FAULT: Outcome = ("INTERNAL", "PLUGIN_FAULT")
EXPIRED: Outcome = ("DEADLINE_EXCEEDED", "DEADLINE_EXPIRED")
TOO_LATE: Outcome = ("RESOURCE_EXHAUSTED", "DEADLINE_UNREACHABLE")
TIMED_OUT: Outcome = ("DEADLINE_EXCEEDED", "")
DRAINING: Outcome = ("UNAVAILABLE", "DRAINING")
UNREACHABLE: Outcome = ("UNAVAILABLE", "")


@dataclass(frozen=True)
class Nemesis:
    """What a request makes the plugin do, the statuses that its caller may get, and why its worker ended then.

    One that is `lasting` leaves the process damaged by the plugin's own hand.
    """

    name: str
    code: str
    outcomes: tuple[Outcome, ...]
    ended: str = ""
    lasting: bool = False


def ends(name: str, ended: str, code: str) -> Nemesis:
    return Nemesis(name, code, (CRASHED,), ended)


def raises(name: str, code: str) -> Nemesis:
    return Nemesis(name, code, (FAULT,))


def answers(name: str, code: str) -> Nemesis:
    return Nemesis(name, code, (ANSWERED,))


def damages(name: str, *outcomes: Outcome, code: str) -> Nemesis:
    return Nemesis(name, code, outcomes, lasting=True)


EACH_SOCKET = "for fd in range(3, 64):\n    try: {}\n    except OSError: pass\n"
TOOK_LONGER = "took longer than 2 s"

NEMESES = (
    ends("exits hard", "ended with exit code 3", "os._exit(3)"),
    ends("exits hard without a code", "ended with exit code 0", "os._exit(0)"),
    ends("segmentation fault", "was ended by signal SIGSEGV", "ctypes.string_at(0)"),
    ends("abort", "was ended by signal SIGABRT", "os.abort()"),
    ends("overflows the stack", "was ended by signal SIGSEGV",
        "sys.setrecursionlimit(10**9)\ndef deep(x): return max([x], key=deep)\ndeep(1)"),
    ends("kills itself", "was ended by signal SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)"),
    ends("endless loop", TOOK_LONGER, "while True: pass"),
    ends("endless wait in native code that holds the interpreter", TOOK_LONGER, "ctypes.PyDLL(None).pause()"),
    ends("exits hard and leaves a child with its descriptors", "ended with exit code 4",
        "if os.fork() == 0: signal.pause()\nos._exit(4)"),
    raises("takes memory and fills it", "held = []\nwhile True: held.append(b'x' * 2**24)"),
    raises("raises SystemExit", "sys.exit(0)"),
    raises("raises KeyboardInterrupt", "raise KeyboardInterrupt"),
    answers("writes to standard output", "os.write(1, b'written raw\\n')\nprint('printed', flush=True)"),
    answers("changes the folder", "os.chdir('/')"),
    answers("changes the file mode mask", "os.umask(0o777)"),
    answers("changes the locale", "locale.setlocale(locale.LC_ALL, 'C')"),
    answers("ignores signals", "[ctypes.CDLL(None).signal(number, 1) for number in (1, 2, 13, 15)]"),
    answers("empties the environment", "os.environ.clear()"),
    answers("starts threads", "for _ in range(5): threading.Thread(target=signal.pause, daemon=True).start()"),
    answers("turns the collector of garbage off", "gc.disable()"),
    answers("closes the standard streams", "[os.close(fd) for fd in (0, 1, 2)]"),
    damages("interrupts its process", ANSWERED, CRASHED, code="os.kill(os.getpid(), signal.SIGINT)"),
    damages("closes descriptors", CRASHED, code="os.closerange(0, 21)"),
    damages("puts other files in the place of its sockets", CRASHED,
        code="null = os.open('/dev/null', os.O_RDWR)\n" + EACH_SOCKET.format("os.dup2(null, fd)")),
    damages("turns its sockets to not blocking", ANSWERED, CRASHED, code=EACH_SOCKET.format("os.set_blocking(fd, 0)")),
    damages("replaces functions of numpy", FAULT, CRASHED, code="np.asarray = np.frombuffer = np.ndarray = None"),
)  # fmt: skip
"""A request with number n + 1 in its second cell does the n-th."""
