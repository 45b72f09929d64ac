"""Scripts for scikit-learn and XGBoost as SageMaker's users have them: in archives, through the router, by boto3.

Run by the runner with the environment that has boto3 and the libraries, once for a worker whose interpreter has the
real toolkit, and once for one that has to do with our modules:

    python endpoint.py MODELS BINARIES [FLAG OF THE WORKER …]
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

import boto3
import joblib
import numpy
import xgboost
from botocore.config import Config
from botocore.exceptions import ClientError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import archives  # noqa: E402, beside the other Python tests
import cluster  # noqa: E402

ROWS = [[0.1, 0.2, 0.3, 0.4], [-1, 1, 0, 0.5]]
CSV = "\n".join(",".join(map(str, row)) for row in ROWS).encode()
FILES = {"sklearn": "model.joblib", "xgboost": "model.json"}


class Endpoint(unittest.TestCase):
    models: Path
    worker_flags: list[str]

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        for name, model in FILES.items():
            script = (HERE / "toolkit" / f"{name}_inference.py").read_bytes()
            content = {"code/inference.py": script, model: (cls.models / name / model).read_bytes()}
            Path(folder.name, f"{name}.tar.gz").write_bytes(archives.archive(content))
        running = cluster.Cluster(models=folder.name, worker=cls.worker_flags).__enter__()
        cls.addClassCleanup(running.__exit__)
        cls.client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=running.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(proxies={}),
        )

    def invoke(self, model, body, content_type, accept=None):
        more = {"Accept": accept} if accept else {}
        answer = self.client.invoke_endpoint(
            EndpointName="demo", TargetModel=f"{model}.tar.gz", Body=body, ContentType=content_type, **more
        )
        return answer["ContentType"], answer["Body"].read().decode()

    def refused(self, *arguments):
        with self.assertRaises(ClientError) as caught:
            self.invoke(*arguments)
        response = caught.exception.response
        self.assertEqual(response["Error"]["Code"], "ModelError")
        return response["OriginalStatusCode"], response["OriginalMessage"]

    def test_scikit_learn_answers_as_in_its_own_process(self):
        wanted = joblib.load(self.models / "sklearn" / "model.joblib").predict(ROWS).tolist()
        for body, content_type in ((CSV, "text/csv"), (json.dumps(ROWS).encode(), "application/json")):
            answered, text = self.invoke("sklearn", body, content_type, "application/json")
            self.assertEqual((answered, json.loads(text)), ("application/json", wanted))
        answered, text = self.invoke("sklearn", CSV, "text/csv", "text/csv")
        self.assertEqual((answered, [float(it) for it in text.split()]), ("text/csv", wanted))

    def test_arrays_of_numpy_go_in_and_out(self):
        wanted = joblib.load(self.models / "sklearn" / "model.joblib").predict(ROWS)
        body = io.BytesIO()
        numpy.save(body, numpy.array(ROWS))
        answer = self.client.invoke_endpoint(
            EndpointName="demo",
            TargetModel="sklearn.tar.gz",
            Body=body.getvalue(),
            ContentType="application/x-npy",
            Accept="application/x-npy",
        )
        numpy.testing.assert_array_equal(numpy.load(io.BytesIO(answer["Body"].read())), wanted)

    def test_xgboost_answers_as_in_its_own_process(self):
        booster = xgboost.Booster()
        booster.load_model(self.models / "xgboost" / "model.json")
        wanted = booster.predict(xgboost.DMatrix(numpy.array(ROWS))).tolist()
        answered, text = self.invoke("xgboost", CSV, "text/csv")
        self.assertEqual((answered, json.loads(text)), ("application/json", {"predictions": wanted}))
        answered, text = self.invoke("xgboost", json.dumps(ROWS).encode(), "application/json", "text/csv")
        self.assertEqual((answered, [float(it) for it in text.split()]), ("text/csv", wanted))

    def test_what_a_script_refuses_is_told_with_its_status_and_message(self):
        status, message = self.refused("sklearn", b"0.1,0.2,0.3,0.4", "text/csv")
        self.assertEqual(status, 400)
        self.assertTrue(message.startswith("two dimensions are needed, not 1"), message)

    def test_what_a_library_raises_is_told_with_500(self):
        status, message = self.refused("sklearn", b"[[1, 2]]", "application/json")
        self.assertEqual(status, 500)
        self.assertIn("X has 2 features", message)


if __name__ == "__main__":
    Endpoint.models, cluster.BINARIES, Endpoint.worker_flags = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    unittest.main(argv=sys.argv[:1], verbosity=2)
