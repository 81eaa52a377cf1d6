"""Sessions and the worker that owns them; with `export`, the only importer of onnxruntime."""

import os

# The Linux wheel's telemetry starts at import and writes to the home folder; it can only be stopped before that.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
