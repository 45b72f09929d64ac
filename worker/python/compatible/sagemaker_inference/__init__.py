"""SageMaker Inference Toolkit's interface to scripts and containers, as of 1.10.1."""
