"""In place of PyTorch, in the environment of these tests alone.

TorchServe's Python side names one thing of it, to send a handler's tensors. The handlers here answer bytes, and PyPI's
PyTorch comes with two gigabytes of CUDA.
"""


class Tensor:
    """What no handler here answers."""
