"""The wire: the only room that knows grpc, and it knows no model."""
