"""A bundle's networks as files that run without them: ONNX, a manifest, and what reads both."""
