"""The wire: the only room that knows grpc, and it knows no model."""

import os

# This process starts children only to replace them at once (fork and exec), which needs no help from gRPC;
# with its fork support on, gRPC writes a line to standard error at every start of an export.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
