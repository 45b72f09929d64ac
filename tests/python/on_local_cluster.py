"""What tests of a local cluster have in common: clients, names, records that are made and waited for."""
import datetime
import itertools
import json
import time
import unittest

from botocore.exceptions import ClientError

import archives
from local_cluster import LocalCluster

BUCKET = "tests"
REGION, ACCOUNT = "us-east-1", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/manifold"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/many-models:latest"
# The waiters as they are, but for their 30 seconds between two looks.
PATIENCE = {"Delay": 1, "MaxAttempts": 60}
PATIENCE_SECONDS = 30


class OnLocalCluster(unittest.TestCase):
    """A cluster for each class of tests, and a bucket with two models below `models/`."""

    flags = ()

    @classmethod
    def new_cluster(cls):
        return LocalCluster(*cls.flags)

    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.new_cluster().__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        cls.s3, cls.sagemaker, cls.runtime = map(cls.cluster.client, ("s3", "sagemaker", "sagemaker-runtime"))
        cls.numbers = itertools.count(1)
        cls.s3.create_bucket(Bucket=BUCKET)
        cls.upload("models/echo.tar.gz", "models/broken.tar.gz")

    @classmethod
    def upload(cls, *keys):
        for key in keys:
            content = archives.broken() if "broken" in key else archives.echo()
            cls.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def new_name(self, stem="it"):
        return f"{stem}-{next(self.numbers)}"

    def new_model(self, name=None, url=f"s3://{BUCKET}/models/", multi_model=None, **arguments):
        name = name or self.new_name("model")
        container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": url}
        if multi_model:
            container["MultiModelConfig"] = multi_model
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, **arguments)
        self.addCleanup(self.forget, self.sagemaker.delete_model, ModelName=name)
        return name

    def new_config(self, name=None, variants=None, **arguments):
        """`variants` have a `ModelName` each; what else they need is filled in."""
        name = name or self.new_name("config")
        variants = variants or [{"ModelName": self.new_model()}]
        filled = [
            {"VariantName": "AllTraffic", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1, **variant}
            for variant in variants
        ]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=filled, **arguments)
        self.addCleanup(self.forget, self.sagemaker.delete_endpoint_config, EndpointConfigName=name)
        return name

    def new_endpoint(self, config=None, name=None, wait=True, **arguments):
        name = name or self.new_name("endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config or self.new_config(), **arguments)
        self.addCleanup(self.remove, name)
        if wait:
            self.in_service(name)
        return name

    def in_service(self, name):
        self.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=PATIENCE)
        return self.sagemaker.describe_endpoint(EndpointName=name)

    def remove(self, name):
        """Deletes an endpoint and waits until it is gone, whatever state it is in."""
        self.forget(self.sagemaker.delete_endpoint, EndpointName=name)
        self.gone(name)

    def gone(self, name):
        self.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=PATIENCE)

    @staticmethod
    def forget(delete, **arguments):
        """Deletes what may be gone already, or on its way."""
        try:
            delete(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise

    def invoke(self, endpoint, target_model="echo.tar.gz", body=b"hello", **arguments):
        return self.runtime.invoke_endpoint(
            EndpointName=endpoint, TargetModel=target_model, Body=body, **arguments)

    def refused(self, exception, message, operation, **arguments):
        """The operation raises `exception` with exactly this text, and is not tried again."""
        with self.assertRaises(exception) as caught:
            operation(**arguments)
        response = caught.exception.response
        self.assertEqual(response["Error"]["Message"], message)
        self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], 400)
        self.assertEqual(response["ResponseMetadata"]["RetryAttempts"], 0)
        self.assertTrue(response["ResponseMetadata"]["RequestId"])
        return response["Error"]["Code"]

    def invalid(self, message, operation, **arguments):
        """The control plane's error for nearly everything. It is in no client's model, so it has no class of its own."""
        code = self.refused(ClientError, message, operation, **arguments)
        self.assertEqual(code, "ValidationException")

    def as_sent(self, time):
        """What boto3 makes of a time: 1.34 sends whole seconds."""
        bodies = []
        client = self.cluster.client("sagemaker")
        client.meta.events.register("before-call.sagemaker", lambda params, **_: bodies.append(json.loads(params["body"])))
        client.list_models(CreationTimeAfter=time)
        return datetime.datetime.fromtimestamp(bodies[0]["CreationTimeAfter"], datetime.timezone.utc)

    def n_instances(self):
        return sum(1 for it in self.cluster.instances() if it["in_service"])

    def eventually(self, condition, what):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"{what}: still not so after {PATIENCE_SECONDS} s")
            time.sleep(0.05)


def arn(kind, name, region=REGION):
    """SageMaker writes names in lower case there."""
    return f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind}/{name.lower()}"
