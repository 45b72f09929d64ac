"""What stock boto3 sees: answers, diagnosis, and each error as its own exception class."""
import io
import json
import tempfile
import unittest
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

import archives
from cluster import MODELS, ROOT, Cluster

CAT = (ROOT / "driver" / "assets" / "cat.jpg").read_bytes()
CAT_PNG = (Path(__file__).resolve().parent / "cat.png").read_bytes()  # the same picture, losslessly
MAX_BODY = 26_214_400  # SageMaker's 25 MB
REFERENCE = {  # libtorch through PyTorch, the same picture and preparation
    "efficientnet_lite0.tar.gz": [("Egyptian cat", 0.8117), ("tiger cat", 0.0769), ("tabby", 0.0668)],
    "efficientnet_lite1.tar.gz": [("Egyptian cat", 0.7962), ("tabby", 0.0565), ("tiger cat", 0.0502)],
    "efficientnet_lite2.tar.gz": [("Egyptian cat", 0.7413), ("tiger cat", 0.0616), ("tabby", 0.0430)],
}


def store(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class Runtime(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.models = folder.name
        store(Path(cls.models) / "echo.tar.gz", archives.echo())
        store(Path(cls.models) / "broken.tar.gz", archives.broken())
        for model in [*REFERENCE, "tiny_mlp.tar.gz"]:
            (Path(cls.models) / model).write_bytes((MODELS / model).read_bytes())
        cls.cluster = Cluster(models=cls.models).__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        cls.client = cls.new_client()

    @classmethod
    def new_client(cls, **config):
        return boto3.client(
            "sagemaker-runtime", endpoint_url=cls.cluster.url, region_name="us-east-1",
            aws_access_key_id="any", aws_secret_access_key="credentials",
            config=Config(proxies={}, **config))  # a proxy of the environment cannot reach loopback

    def invoke(self, target_model="echo.tar.gz", body=b"hello", client=None, **arguments):
        return (client or self.client).invoke_endpoint(
            EndpointName=arguments.pop("EndpointName", "demo"), TargetModel=target_model, Body=body, **arguments)

    def refused(self, exception, **arguments):
        with self.assertRaises(exception) as caught:
            self.invoke(**arguments)
        return caught.exception.response

    def check_cat(self, model, picture, kind):
        answer = self.invoke(model, io.BytesIO(picture), ContentType=kind)
        classes = [parse(it) for it in json.loads(answer["Body"].read())]
        self.assertEqual(len(classes), 5)
        for (name, probability), (expected_name, expected_probability) in zip(classes, REFERENCE[model]):
            self.assertEqual(name, expected_name, model)
            self.assertAlmostEqual(probability, expected_probability, delta=0.01, msg=model)

    def test_the_cat_is_an_egyptian_cat(self):
        for model in REFERENCE:
            self.check_cat(model, CAT, "image/jpeg")

    def test_a_png_of_the_cat_is_the_same_cat(self):
        self.check_cat("efficientnet_lite0.tar.gz", CAT_PNG, "image/png")

    def test_answers_carry_sagemakers_members_and_our_diagnosis(self):
        self.invoke()
        answer = self.invoke(CustomAttributes="trace=1", InferenceId="abc", TargetVariant="AllTraffic")
        self.assertEqual(answer["Body"].read(), b"hello")
        self.assertEqual(answer["InvokedProductionVariant"], "AllTraffic")
        metadata = answer["ResponseMetadata"]
        self.assertEqual(len(metadata["RequestId"]), 36)
        self.assertEqual(metadata["HTTPHeaders"]["x-manifold-cache"], "hit")
        self.assertIn("x-manifold-instance", metadata["HTTPHeaders"])
        self.assertEqual(metadata["RetryAttempts"], 0)

    def test_an_unknown_endpoint_is_a_validation_error(self):
        error = self.refused(self.client.exceptions.ValidationError, EndpointName="nobody")
        self.assertEqual(error["Error"]["Message"], "Endpoint nobody of account 123456789012 not found.")
        self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], 400)

    def test_an_absent_artifact_is_a_validation_error(self):
        error = self.refused(self.client.exceptions.ValidationError, target_model="absent.tar.gz")
        self.assertIn("Failed to download model data", error["Error"]["Message"])

    def test_a_target_model_that_climbs_is_a_validation_error(self):
        for target_model in ["../x", "/etc/passwd", "a//b"]:
            self.refused(self.client.exceptions.ValidationError, target_model=target_model)

    def test_a_broken_artifact_is_a_model_error_and_tried_once(self):
        error = self.refused(self.client.exceptions.ModelError, target_model="broken.tar.gz")
        self.assertEqual(error["OriginalStatusCode"], 400)
        self.assertTrue(error["OriginalMessage"])
        self.assertIn("/aws/sagemaker/Endpoints/demo", error["LogStreamArn"])
        self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], 424)
        self.assertEqual(error["ResponseMetadata"]["RetryAttempts"], 0)

    def test_wrong_input_is_a_model_error_with_the_models_own_status(self):
        error = self.refused(
            self.client.exceptions.ModelError, target_model="tiny_mlp.tar.gz", body=b"[[1, 2, 3]]",
            ContentType="application/json")
        self.assertEqual(error["OriginalStatusCode"], 400)

    def test_a_body_of_exactly_25_mb_is_served(self):
        answer = self.invoke(body=b"x" * MAX_BODY)
        self.assertEqual(len(answer["Body"].read()), MAX_BODY)

    def test_a_larger_body_is_refused_in_exactly_one_attempt(self):
        for mode in ["legacy", "standard", "adaptive"]:
            client = self.new_client(retries={"mode": mode})
            attempts = []
            client.meta.events.register("before-send.sagemaker-runtime.InvokeEndpoint", lambda **_: attempts.append(1))
            with self.assertRaises(ClientError) as caught:
                self.invoke(body=b"x" * 30_000_000, client=client)
            response = caught.exception.response
            self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], 413, mode)
            self.assertEqual(response["Error"]["Code"], "ValidationError", mode)
            self.assertEqual(len(attempts), 1, mode)

    def test_a_model_uploaded_now_is_found_now(self):
        self.refused(self.client.exceptions.ValidationError, target_model="new/model.tar.gz")
        store(Path(self.models) / "new" / "model.tar.gz", archives.echo())
        self.assertEqual(self.invoke("new/model.tar.gz")["Body"].read(), b"hello")


def parse(text):
    """Splits "probability=0.811700, class=Egyptian cat"."""
    probability, name = text.split(", class=", 1)
    return name, float(probability.removeprefix("probability="))


if __name__ == "__main__":
    unittest.main()
