"""The notebook of `examples/`, cell by cell in Jupyter, against `manifold up`."""
import os
import tempfile
import unittest

import nbformat
from nbclient import NotebookClient

from cluster import ROOT
from local_cluster import LocalCluster
from one_url import own_environment

NOTEBOOK = ROOT / "examples" / "multi_model_endpoint.ipynb"
# The slowest cell uploads a third of a gigabyte.
CELL_SECONDS = 300


class Notebook(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.notebook = nbformat.read(NOTEBOOK, as_version=4)

    def test_it_is_kept_without_answers(self):
        nbformat.validate(self.notebook)
        for cell in self.notebook.cells:
            if cell.cell_type == "code":
                self.assertEqual((cell.outputs, cell.execution_count), ([], None))

    def test_it_runs_from_top_to_bottom(self):
        with LocalCluster() as cluster:
            n_before = len(cluster.instances())
            said = self.run_cells(cluster)
            self.assertEqual(len(cluster.instances()), n_before)
            endpoints = cluster.client("sagemaker").list_endpoints(NameContains="many-models")["Endpoints"]
            self.assertEqual(endpoints, [])
        self.assertIn("arn:aws:iam::123456789012:role/", said)
        self.assertIn("InService with 2 instances", said)
        self.assertRegex(said, r"cold: [\d.]+ ms \(miss\)\nwarm: [\d.]+ ms \(hit\)\nprobability=0\.\d+, class=Egyptian cat\n")
        self.assertIn("Failed to download model data", said)
        self.assertRegex(said, r"100 answers in [\d.]+ s: \{.*'hit': \d+")
        # Two instances share the models.
        homes = {line.split()[-1] for line in said.splitlines() if ".tar.gz    " in line and "MB" not in line}
        self.assertEqual(len(homes), 2, said)
        self.assertIn("0 endpoints left", said)

    def run_cells(self, cluster):
        """Returns all that the cells print."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        # Settings of Jupyter that whoever runs the tests may have are no part of the test.
        own = {name: os.path.join(folder.name, name) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
        environment = own_environment(AWS_ENDPOINT_URL=cluster.url, **own)
        client = NotebookClient(
            self.notebook, timeout=CELL_SECONDS, kernel_name="python3",
            resources={"metadata": {"path": str(NOTEBOOK.parent)}})
        said = []
        with client.setup_kernel(env=environment):
            for n, cell in enumerate(self.notebook.cells):
                executed = client.execute_cell(cell, n)
                for output in executed.get("outputs", []):
                    said.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
        return "\n".join(said)


if __name__ == "__main__":
    unittest.main()
