"""The wire: the only room that knows grpc, and it knows no model."""

import os

# This process starts children only to replace them at once (fork and exec), which needs no help from gRPC;
# with its fork support on, gRPC writes a line to standard error at every start of an export.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# gRPC writes lines of its own form, as often as anybody likes and with the server name that the caller sent, for
# handshakes that fail; what goes wrong on our side we say ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
