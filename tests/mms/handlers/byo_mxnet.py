"""A bring-your-own handler for MXNet's checkpoints, after the pattern of AWS' example: pictures to five labels."""

import glob
import json
import os

import mxnet as mx

DataBatch = mx.io.DataBatch


class ModelHandler:
    def __init__(self):
        self.is_ready = False
        self.module = None
        self.labels = None
        self.shapes = None

    def initialize(self, context):
        folder = context.system_properties["model_dir"]
        [symbol] = glob.glob(os.path.join(folder, "*-symbol.json"))
        prefix = os.path.basename(symbol)[: -len("-symbol.json")]
        with open(os.path.join(folder, f"{prefix}-shapes.json"), encoding="utf-8") as shapes:
            self.shapes = [(it["name"], tuple(it["shape"])) for it in json.load(shapes)]
        # Relative to where the process works, as everybody wrote it.
        symbol, arguments, states = mx.model.load_checkpoint(prefix, 0)
        self.module = mx.mod.Module(symbol=symbol, context=mx.cpu(), label_names=None)
        self.module.bind(for_training=False, data_shapes=self.shapes)
        self.module.set_params(arguments, states, allow_missing=True)
        with open("synset.txt", encoding="utf-8") as labels:
            self.labels = [it.rstrip() for it in labels]
        self.is_ready = True

    def prepared(self, row):
        picture = mx.img.imdecode(row["body"])
        _, _, height, width = self.shapes[0][1]
        picture = mx.image.imresize(picture, width, height)
        return picture.transpose((2, 0, 1)).expand_dims(axis=0)

    def handle(self, data, context):
        self.module.forward(DataBatch([self.prepared(row) for row in data]), is_train=False)
        probabilities = self.module.get_outputs()[0].asnumpy().squeeze()
        best = probabilities.argsort()[::-1][:5]
        return [["probability=%f, class=%s" % (probabilities[it], self.labels[it]) for it in best]]


_service = ModelHandler()


def handle(data, context):
    if not _service.is_ready:
        _service.initialize(context)
    return None if data is None else _service.handle(data, context)
