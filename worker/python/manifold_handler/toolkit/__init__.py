"""The functions of a SageMaker inference script, model_fn, input_fn, predict_fn, output_fn and transform_fn, as a handler.

Behaves as SageMaker Inference Toolkit 1.10.1, but where that contradicts itself: docs/handlers.md lists each difference.
"""
