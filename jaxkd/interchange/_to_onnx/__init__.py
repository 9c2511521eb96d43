"""Translate inference functions to ONNX, check and quantize the result."""
