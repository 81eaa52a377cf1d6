"""The Mercato server: discovers, exports, loads and serves models over gRPC."""
