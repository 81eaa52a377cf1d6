"""The way of a request from signature check to answer; knows numpy and futures, neither gRPC nor onnxruntime."""
