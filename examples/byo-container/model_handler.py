"""Serves scikit-learn's classifiers, as a handler of Multi Model Server: each model's archive holds a `model.joblib`.

joblib reads pickles, which run code: serve only models whose makers you trust.
"""

import json
import os

import joblib


class Classifier:
    def __init__(self):
        self.model = None

    def initialize(self, context):
        folder = context.system_properties["model_dir"]
        self.model = joblib.load(os.path.join(folder, "model.joblib"))

    def handle(self, data, context):
        return [self.answer(idx, request, context) for idx, request in enumerate(data)]

    def answer(self, idx, request, context):
        try:
            rows = json.loads(bytes(request["body"]))["instances"]
            classes, probabilities = self.model.predict(rows), self.model.predict_proba(rows).max(axis=1)
        except (KeyError, TypeError, ValueError) as error:
            context.set_response_status(400, "Bad Request", idx)
            return {"error": f'send {{"instances": [[number, …], …]}}: {error}'}
        context.set_response_content_type(idx, "application/json")
        told = zip(classes.tolist(), probabilities.tolist())
        return {"predictions": [{"class": it, "probability": probability} for it, probability in told]}


_service = Classifier()


def handle(data, context):
    """What SAGEMAKER_HANDLER names: called once with nothing, to load the model, and then with requests."""
    if data is None:
        return _service.initialize(context)
    return _service.handle(data, context)
