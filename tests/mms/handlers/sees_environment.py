"""Says what of its process handlers depend on."""

import os
import sys
import threading

import neighbor


def handle(data, context):
    if data is None:
        return None
    with open("words.txt", encoding="utf-8") as words:
        text = words.read()
    main = threading.current_thread() is threading.main_thread()
    names = ("OMP_NUM_THREADS", "MXNET_USE_OPERATOR_TUNING")
    return [
        {
            "neighbor": neighbor.VALUE,
            "words": text,
            "module": __name__,
            "main thread": main,
            "variables": {name: os.environ.get(name) for name in names},
            "model folder on path": any(os.path.samefile(it, os.getcwd()) for it in sys.path if os.path.isdir(it)),
            "encodings": [sys.getfilesystemencoding(), sys.getdefaultencoding()],
        }
    ]
