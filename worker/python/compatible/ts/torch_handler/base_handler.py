"""`ts.torch_handler.base_handler`: a PyTorch model, loaded as an archive's manifest says."""

from __future__ import annotations

import importlib
import os
import time

import torch

from ts.utils.util import list_classes_from_module, load_label_mapping


class BaseHandler:
    """Loads a TorchScript module, or an eager one with its class, and runs it on tensors."""

    def __init__(self):
        self.model = None
        self.mapping = None
        self.device = None
        self.initialized = False
        self.context = None
        self.model_pt_path = None
        self.manifest = None
        self.map_location = None
        self.explain = False
        self.target = 0

    def initialize(self, context):
        """Loads the model that the manifest names."""
        properties = context.system_properties
        gpu_id = properties.get("gpu_id")
        has_gpu = torch.cuda.is_available() and gpu_id is not None
        self.map_location = "cuda" if has_gpu else "cpu"
        self.device = torch.device(f"cuda:{gpu_id}" if has_gpu else "cpu")
        self.context = context
        self.manifest = context.manifest or {}
        model_dir = properties.get("model_dir")
        description = self.manifest.get("model", {})
        if description.get("serializedFile"):
            self.model_pt_path = os.path.join(model_dir, description["serializedFile"])
        model_file = description.get("modelFile", "")
        if model_file:
            self.model = self._load_pickled_model(model_dir, model_file, self.model_pt_path)
            self.model.to(self.device)
        elif self.model_pt_path:
            self.model = self._load_torchscript_model(self.model_pt_path)
        if self.model is not None:
            self.model.eval()
        self.mapping = load_label_mapping(os.path.join(model_dir, "index_to_name.json"))
        self.initialized = True

    def _load_torchscript_model(self, model_pt_path):
        return torch.jit.load(model_pt_path, map_location=self.device)

    def _load_pickled_model(self, model_dir, model_file, model_pt_path):
        if not os.path.isfile(os.path.join(model_dir, model_file)):
            raise RuntimeError(f"Missing the {model_file} file")
        module = importlib.import_module(os.path.splitext(model_file)[0].replace("/", "."))
        classes = list_classes_from_module(module)
        if len(classes) != 1:
            raise ValueError(f"Expected only one class as model definition, found {len(classes)}")
        model = classes[0]()
        if model_pt_path:
            model.load_state_dict(torch.load(model_pt_path, map_location=self.device, weights_only=True))
        return model

    def preprocess(self, data):
        """Makes a tensor of whatever came."""
        return torch.as_tensor(data, device=self.device)

    def inference(self, data, *args, **kwargs):
        """Runs the model."""
        with torch.inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    def postprocess(self, data):
        """Makes a list of the model's output."""
        return data.tolist()

    def handle(self, data, context):
        """Answers a batch."""
        started = time.time()
        self.context = context
        output = self.postprocess(self.inference(self.preprocess(data)))
        context.metrics.add_time("HandlerTime", round((time.time() - started) * 1000, 2), None, "ms")
        return output
