"""From a plugin's network to a certified ONNX artifact; the only room that imports torch, onnx and skl2onnx."""
