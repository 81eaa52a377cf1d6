"""Plugins that misbehave: their code, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

HEADER = """
import ctypes, locale, os, signal, subprocess, sys, threading
from pathlib import Path

import numpy as np

from mercato_plugin import Example, Model, ModelSpec, Tensor, hookimpl

ROW = Tensor("float32", ("batch", 4))
"""

MODEL = '''

class Made(Model):
    """y = x, unless told otherwise."""

    spec = ModelSpec(name="bad.NAME", inputs={"x": ROW}, outputs={"y": ROW}, doc="Answers with its input.")

    def build(self, ctx):
        from onnx import TensorProto, helper

        rows = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "made", rows[:1], rows[1:])
        path = Path(os.environ["MADE"]) / "NAME.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(made.SerializeToString())
        return path

    def examples(self, ctx):
        return [Example({"x": [[1, 2, 3, 4]]})]
'''

HOOK = """

@hookimpl
def mercato_models():
    return [Made()]
"""

Fate = Literal["refused", "failed", "serves"]


@dataclass(frozen=True)
class Row:
    """One plugin: `top` stands before its class, `body` in it, `hook` behind it.

    A plugin that is refused has a `code`, a model that failed the code of its reason.
    """

    number: int
    name: str
    fate: Fate
    code: str = ""
    says: str = ""
    top: str = ""
    body: str = ""
    hook: str = HOOK

    @property
    def word(self) -> str:
        return "".join(letter if letter.isalnum() else "_" for letter in self.name.lower())

    @property
    def model(self) -> str:
        return f"bad.{self.word}"

    @property
    def distribution(self) -> str:
        return f"mercato-bad-{self.word.replace('_', '-')}"

    @property
    def source(self) -> str:
        """The plugin's one module."""
        body = "\n".join(f"    {line}" for line in self.body.splitlines())
        return HEADER + self.top + MODEL.replace("NAME", self.word) + body + self.hook


def refused(name: str, code: str, says: str, top: str = "", hook: str = HOOK, body: str = "") -> Row:
    return Row(87, name, "refused", code, says, top, body, hook)


def failed(name: str, code: str, says: str, body: str) -> Row:
    return Row(87, name, "failed", code, says, body=body)


def building(name: str, says: str, *lines: str) -> Row:
    """A model whose build does this."""
    return failed(name, "EXPORT_FAILED", says, "\n".join(["def build(self, ctx):", *(f"    {line}" for line in lines)]))


def loading(name: str, says: str, line: str) -> Row:
    """A model whose load does this in the server; while it is exported it behaves."""
    guard = f"def load(self, ctx):\n    if 'mercato_server.export.job' not in sys.modules:\n        {line}"
    return failed(name, "LOAD_FAILED", says, guard)


AT_IMPORT = [
    refused("import error", "IMPORT_FAILED", "No module named 'no_such_module'", "import no_such_module\n"),
    refused("syntax error", "IMPORT_FAILED", "SyntaxError", "def broken(:\n"),
    refused("NUL in the source", "IMPORT_FAILED", "null bytes", "\0\n"),
    refused("exit at import", "IMPORT_FAILED", "SystemExit: 3", "sys.exit(3)\n"),
    refused("interrupt at import", "IMPORT_FAILED", "KeyboardInterrupt", "raise KeyboardInterrupt\n"),
    refused("odd exception at import", "IMPORT_FAILED", "Odd: x", "class Odd(BaseException): pass\nraise Odd('x')\n"),
    refused("endless recursion at import", "IMPORT_FAILED", "RecursionError", "def f(): f()\nf()\n"),
    refused("message of 1 MB at import", "IMPORT_FAILED", "ValueError: xxx", "raise ValueError('x' * 2**20)\n"),
    refused("build tool at import", "IMPORTS_BUILD_TOOLS", "imports torch", "import torch\n"),
    refused("no hook", "NO_HOOK", "has no @hookimpl def mercato_models()", hook=""),
    refused("unknown hook", "HOOK_INVALID", "mercato_model", hook=HOOK.replace("mercato_models", "mercato_model")),
    refused("hook of wrong signature", "HOOK_INVALID", "does not fit the hook", hook=HOOK.replace("()", "(more)", 1)),
    refused("hook that raises", "HOOK_FAILED", "ValueError: no stock",
        hook=HOOK.replace("return [Made()]", "raise ValueError('no stock')")),
    refused("hook that exits", "HOOK_FAILED", "SystemExit", hook=HOOK.replace("return [Made()]", "sys.exit(0)")),
    refused("hook that gives classes", "HOOK_FAILED", "gave type", hook=HOOK.replace("[Made()]", "[Made]")),
    refused("hook that gives None", "HOOK_FAILED", "gave no models", hook=HOOK.replace("[Made()]", "None")),
    refused("interface too new", "API_VERSION", "this server has 1.0", body="api_version = (1, 99)"),
    refused("interface too old", "API_VERSION", "this server has 1.0", body="api_version = (0, 9)"),
    refused("one name twice", "NAME_CLASH", "offers the name twice", hook=HOOK.replace("[Made()]", "[Made(), Made()]")),
]  # fmt: skip

AT_BUILD = [
    building("message of 1 MB in build", "build raised ValueError: xxx", "raise ValueError('x' * 2**20)"),
    building("exit in build", "build raised SystemExit", "sys.exit(0)"),
    building("interrupt in build", "KeyboardInterrupt", "raise KeyboardInterrupt"),
    building("odd exception in build", "Odd: strange", "class Odd(BaseException): pass", "raise Odd('strange')"),
    building("hard exit in build", "the export process ended with exit code 0 and without a result", "os._exit(0)"),
    building("segmentation fault in build", "was ended by signal SIGSEGV", "ctypes.string_at(0)"),
    building("abort in build", "was ended by signal SIGABRT", "os.abort()"),
    building("killed in build", "was ended by signal SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)"),
    building("memory in build", "MemoryError", "bytearray(2**50)"),
    building("recursion in build", "build raised RecursionError", "self.build(ctx)"),
    building("build of None", "build returned NoneType; expected", "return None"),
    building("build of a number", "build returned int; expected", "return 7"),
    failed("examples that raise", "EXPORT_FAILED", "examples raised ValueError: none",
        "def examples(self, ctx):\n    raise ValueError('none')"),
    failed("answer of None", "EXPORT_FAILED", "answers NoneType",
        "def postprocess(self, outputs, batch):\n    return None"),
    failed("predict that raises", "EXPORT_FAILED", "example 0",
        "def predict(self, batch, graphs):\n    raise KeyError"),
]  # fmt: skip

AT_LOAD = [
    loading("load that raises", "load_that_raises raised ValueError: no file", "raise ValueError('no file')"),
    loading("load that exits", "raised SystemExit", "sys.exit(0)"),
    loading("load that interrupts", "raised KeyboardInterrupt", "raise KeyboardInterrupt"),
    loading("message of 1 MB in load", "raised ValueError: xxx", "raise ValueError('x' * 2**20)"),
    loading("build tool in load", "onnx must not enter a serving process", "import onnx"),
    loading("memory in load", "raised MemoryError", "bytearray(2**50)"),
]

HARMLESS = [
    Row(87, "prints at import", "serves", top="print('x' * 2**20)\n"),
    Row(87, "changes the folder at import", "serves", top="os.chdir('/')\n"),
    Row(87, "changes the locale at import", "serves", top="locale.setlocale(locale.LC_ALL, 'C')\n"),
    Row(87, "signal handler at import", "serves", top="signal.signal(signal.SIGTERM, lambda *_: None)\n"),
    Row(87, "empties the environment at import", "serves",
        top="if 'mercato_server.export.job' not in sys.modules: os.environ.clear()\n"),
    Row(87, "writes to descriptor 1 at import", "serves", top="os.write(1, b'no event' * 2**17)\n"),
    Row(87, "starts threads at import", "serves",
        top="threading.Thread(target=threading.Event().wait, daemon=True).start()\n"),
    Row(87, "prints ten megabytes in build", "serves",
        body="def examples(self, ctx):\n    print('x' * (10 * 2**20))\n    return Model.examples(self, ctx)"),
    Row(87, "leaves a process behind in build", "serves",
        body="def examples(self, ctx):\n    subprocess.Popen(['sleep', '600'])\n    return []"),
    Row(87, "leaves a thread behind in build", "serves",
        body="def examples(self, ctx):\n    threading.Thread(target=threading.Event().wait).start()\n    return []"),
]  # fmt: skip

ROWS = [*AT_IMPORT, *AT_BUILD, *AT_LOAD, *HARMLESS]

FILLS = "held = [b'x' * 2**24 for _ in range(2**16)]"
ENDING = [
    refused("import that hangs", "IMPORT_TIMEOUT", "longer than 8 s", "threading.Event().wait()\n"),
    refused("import that loops", "IMPORT_TIMEOUT", "longer than 8 s", "while True: pass\n"),
    refused("hard exit at import", "IMPORT_CRASHED", "ended with exit code 3", "os._exit(3)\n"),
    refused("segmentation fault at import", "IMPORT_CRASHED", "was ended by signal SIGSEGV", "ctypes.string_at(0)\n"),
    refused("abort at import", "IMPORT_CRASHED", "was ended by signal SIGABRT", "os.abort()\n"),
    refused("memory filled at import", "IMPORT_FAILED", "MemoryError", f"{FILLS}\n"),
    loading("hard exit in load", "ended with exit code 3", "os._exit(3)"),
    loading("segmentation fault in load", "was ended by signal SIGSEGV", "ctypes.string_at(0)"),
    loading("abort in load", "was ended by signal SIGABRT", "os.abort()"),
    loading("endless loop in load", "longer than 4 s", "while True: pass"),
    loading("memory filled in load", "raised MemoryError", FILLS),
]
"""Plugins that end, hang or fill their process: rows for a server of short times and little memory for a worker."""


@dataclass(frozen=True)
class Mood:
    """What a served model does on one number: `line` is run with `y`, the right answer; empty `says` = answered.

    `reason` is that of the status when it is not answered. What is `lasting` stays until the process ends.
    """

    number: int
    name: str
    line: str
    says: str = ""
    answer: str = "right"
    reason: str = "PLUGIN_FAULT"
    lasting: bool = False


FAULT = "failed (id "
MOODS = [
    Mood(87, "raises", "raise ValueError('secret 1234')", FAULT),
    Mood(87, "raises with 1 MB", "raise ValueError('x' * 2**20)", FAULT),
    Mood(87, "exits", "sys.exit(0)", FAULT),
    Mood(87, "interrupts", "raise KeyboardInterrupt", FAULT),
    Mood(87, "raises what is no exception", "raise BaseException('strange')", FAULT),
    Mood(87, "stops an iteration", "raise StopIteration", FAULT),
    Mood(87, "recurses", "f = lambda: f(); f()", FAULT),
    Mood(87, "asks for too much memory", "bytearray(2**50)", FAULT),
    Mood(87, "None", "return None", "the plugin returned NoneType, expected a mapping of outputs"),
    Mood(87, "a list", "return [y]", "the plugin returned list, expected a mapping of outputs"),
    Mood(87, "nothing", "return {}", "the plugin left out outputs ['y']"),
    Mood(87, "another name", "return {'z': y}", "the plugin left out outputs ['y']"),
    Mood(87, "None inside", "return {'y': None}", "output 'y' has a scalar, the batch has"),
    Mood(87, "a scalar", "return {'y': np.float32(1)}", "output 'y' has a scalar, the batch has"),
    Mood(87, "a row less", "return {'y': y[:-1]}", "output 'y' has"),
    Mood(87, "a row more", "return {'y': np.concatenate([y, y[:1]])}", "output 'y' has"),
    Mood(87, "another type", "return {'y': y.astype('float64')}", "output 'y' is float64, the signature says float32"),
    Mood(87, "the other byte order", "return {'y': y.astype('>f4')}", "output 'y' is >f4, the signature says float32"),
    Mood(87, "objects", "return {'y': y.astype(object)}", "output 'y' is object, the signature says float32"),
    Mood(87, "another width", "return {'y': y[:, :3]}", "rows of shape [3], the signature says [4]"),
    Mood(87, "another rank", "return {'y': y[:, None]}", "rows of shape [1, 4], the signature says [4]"),
    Mood(87, "rows of differing length", "return {'y': [[1.0], [1.0, 2.0]][:len(y)] + [3.0]}", FAULT),
    Mood(87, "huge", "return {'y': np.broadcast_to(np.float32(0), (len(y), 2**40))}", "rows of shape [1099511627776]"),
    Mood(87, "writes to its input", "batch.inputs['x'][:] = 0", FAULT),
    Mood(87, "signal handler", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", FAULT),
    Mood(87, "not contiguous", "return {'y': np.repeat(y, 2, 1)[:, ::2]}"),
    Mood(87, "backwards", "return {'y': y[:, ::-1]}", answer="backwards"),
    Mood(87, "in Fortran's order", "return {'y': np.asfortranarray(y)}"),
    Mood(87, "more outputs than declared", "return {'y': y, 'z': y}"),
    Mood(87, "not a number", "return {'y': y * np.float32('nan')}", answer="nan"),
    Mood(87, "prints", "print('x' * 2**20)"),
    Mood(87, "changes the folder", "os.chdir('/')"),
    Mood(87, "changes the locale", "locale.setlocale(locale.LC_ALL, 'C')"),
    Mood(87, "starts a thread", "threading.Thread(target=threading.Event().wait, daemon=True).start()"),
    Mood(87, "a thread that raises", "threading.Thread(target=lambda: 1 / 0).start()"),
    Mood(87, "a process that ends", "subprocess.run(['true'], check=True)"),
    Mood(87, "warnings as errors", "import warnings; warnings.simplefilter('error')"),
]  # fmt: skip


def crashes(name: str, line: str) -> Mood:
    return Mood(87, name, line, "its worker ended before the answer was ready", reason="WORKER_CRASHED")


DARK_MOODS = [
    crashes("exits hard", "os._exit(3)"),
    crashes("segmentation fault", "ctypes.string_at(0)"),
    crashes("abort", "os.abort()"),
    crashes("endless loop", "while True: pass"),
    crashes("endless wait that holds the interpreter", "ctypes.PyDLL(None).pause()"),
    crashes("closes its descriptors", "os.closerange(0, 21)"),
    Mood(87, "fills its memory", FILLS, FAULT),
    Mood(87, "replaces a function of numpy", "np.asarray = None", FAULT, lasting=True),
    Mood(87, "another file as standard output", "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)"),
    Mood(87, "empties the environment", "os.environ.clear()"),
    Mood(87, "ignores signals", "ctypes.CDLL(None).signal(15, 1)"),
]
"""What a model does to its process, for the server of short times."""

LOOPS = crashes("a graph that loops without end on this input", "")


def moody(moods: Sequence[Mood]) -> str:
    """A plugin whose answer to a batch with the number 100 + n is the n-th mood."""
    cases = "".join(f"        if mood == {100 + place}:\n            {m.line}\n" for place, m in enumerate(moods))
    method = (
        "\n    def postprocess(self, outputs, batch):\n        y = outputs['y']\n        mood = int(y[:, 0].max())\n"
        f"{cases}        return outputs\n"
    )
    return HEADER + MODEL.replace("NAME", "moody") + method + HOOK


LOOPING = """
    def build(self, ctx):
        from onnx import TensorProto, helper

        row, truth = TensorProto.FLOAT, TensorProto.BOOL
        step = helper.make_graph(
            [helper.make_node("Identity", ["on"], ["on_"]), helper.make_node("Identity", ["v"], ["v_"])], "step",
            [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("on", truth, []),
             helper.make_tensor_value_info("v", row, None)],
            [helper.make_tensor_value_info("on_", truth, []), helper.make_tensor_value_info("v_", row, None)],
        )
        limit = helper.make_tensor("limit", row, [], [1000.0])
        nodes = [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Greater", ["most", "limit"], ["on"]),
            helper.make_node("Loop", ["", "on", "x"], ["y"], body=step),
        ]
        rows = [helper.make_tensor_value_info(n, row, ["batch", 4]) for n in ("x", "y")]
        path = Path(os.environ["MADE"]) / "looping.onnx"
        graph = helper.make_graph(nodes, "made", rows[:1], rows[1:], [limit])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(made.SerializeToString())
        return path
"""
"""A graph that runs without end when a number is above 1000."""


def looping() -> str:
    return HEADER + MODEL.replace("NAME", "looping") + LOOPING + HOOK
