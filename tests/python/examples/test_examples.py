"""The other examples, each with the client that it is written for, against `manifold up`."""
import os
import subprocess
import unittest

from cluster import ROOT
from local_cluster import LocalCluster
from one_url import own_environment

EXAMPLES = ROOT / "examples"
ENVIRONMENTS = ROOT / ".python"
# A SageMaker SDK alone takes seconds to import.
SECONDS = 300


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = LocalCluster().__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)

    def check(self, environment, *command):
        """Runs an example with nothing but the URL, and returns what it says. It leaves nothing."""
        n_before = len(self.cluster.instances())
        path = os.pathsep.join([str(ENVIRONMENTS / environment / "bin"), os.environ["PATH"]])
        # The SDK looks for settings there.
        home = str(self.cluster.folder)
        ran = subprocess.run(
            command, env=own_environment(AWS_ENDPOINT_URL=self.cluster.url, PATH=path, HOME=home), timeout=SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        self.assertEqual(ran.returncode, 0, ran.stdout)
        self.assertIn("class=Egyptian cat", ran.stdout)
        endpoints = self.cluster.client("sagemaker").list_endpoints()["Endpoints"]
        self.assertEqual([it["EndpointName"] for it in endpoints], ["demo"], ran.stdout)
        self.assertEqual(len(self.cluster.instances()), n_before)
        bucket = self.cluster.client("s3").list_objects_v2(Bucket="sagemaker-us-east-1-123456789012")
        self.assertEqual(bucket["KeyCount"], 0)
        return ran.stdout

    def test_the_aws_cli(self):
        said = self.check("awscli", EXAMPLES / "aws_cli.sh")
        self.assertIn("InService\t2", said)
        self.assertEqual(said.count("class=Egyptian cat"), 4)

    def test_version_2_of_the_sagemaker_sdk(self):
        said = self.check("sagemaker-v2", "python", EXAMPLES / "sagemaker_sdk.py")
        self.assertIn("version 2.", said)
        self.assertIn("models: efficientnet_lite0.tar.gz, new/efficientnet_lite1.tar.gz", said)

    def test_version_3_of_the_sagemaker_sdk(self):
        self.assertIn("version 3", self.check("sagemaker-v3", "python", EXAMPLES / "sagemaker_sdk.py"))


if __name__ == "__main__":
    unittest.main()
