"""compose.yaml and the Dockerfile as files: what they must say, whoever reads them."""

import json
import re
import shutil
import subprocess
import unittest
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = ROOT / ".manifold" / "compose-spec" / "compose_spec.json"
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
OURS = {"manifold", "manifold-router", "manifold-worker", "manifold-demo"}


class ComposeFile(unittest.TestCase):
    def setUp(self):
        self.text = (ROOT / "compose.yaml").read_text()
        self.file = yaml.safe_load(self.text)
        self.services = self.file["services"]

    def each(self):
        for name, service in self.services.items():
            with self.subTest(service=name):
                yield name, service

    def test_it_follows_the_compose_specification(self):
        validator = jsonschema.Draft201909Validator(json.loads(SCHEMA.read_text()))
        self.assertEqual([error.message for error in validator.iter_errors(self.file)], [])
        # And the schema would say so, if it did not.
        self.services["router"]["unheard-of"] = True
        self.assertFalse(validator.is_valid(self.file))

    def test_docker_compose_reads_it_with_every_profile(self):
        if not shutil.which("docker-compose"):
            self.skipTest("docker-compose is not here")
        command = ["docker-compose", "--profile", "observe", "config", "--quiet"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_a_plain_up_has_a_router_workers_a_store_and_etcd_and_the_rest_is_a_profile(self):
        plain = {name for name, service in self.services.items() if "profiles" not in service}
        self.assertLessEqual({"router", "worker", "store", "etcd", "demo"}, plain)
        observe = {name for name, service in self.services.items() if service.get("profiles") == ["observe"]}
        self.assertEqual(observe, {"prometheus", "grafana"})
        self.assertEqual(self.services["worker"]["deploy"]["replicas"], 2)

    def test_workers_can_be_scaled(self):
        for name, service in self.each():
            self.assertNotIn("container_name", service)
        self.assertFalse({"ports", "hostname"} & set(self.services["worker"]))
        # Nobody would remove them with the workers.
        self.assertFalse([it for it in self.services["worker"]["volumes"] if ":" not in it], "volumes without a name")

    def test_only_this_machine_reaches_what_is_published(self):
        for name, service in self.each():
            for port in service.get("ports", []):
                self.assertRegex(port, r"^127\.0\.0\.1:")

    def test_every_service_is_bounded_and_confined(self):
        for name, service in self.each():
            self.assertIn("mem_limit", service)
            self.assertEqual(service["cap_drop"], ["ALL"])
            self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
            self.assertIn("max-size", service["logging"]["options"])
            self.assertTrue(service["restart"])
            if service["image"] in OURS:
                self.assertTrue(service["read_only"])
                self.assertNotIn("user", service, "the image says it already")

    def test_images_are_ours_or_of_one_version(self):
        for name, service in self.each():
            if service["image"] in OURS:
                self.assertEqual(service["build"]["dockerfile"], "deploy/docker/Dockerfile")
                self.assertIn(f" AS {service['build']['target']}\n", DOCKERFILE)
            else:
                self.assertRegex(service["image"], r":v?\d+\.\d+\.\d+$")

    def test_every_variable_has_a_default(self):
        for variable in re.findall(r"\$\{[^}]*\}", self.text):
            self.assertIn(":-", variable)

    def test_what_is_mounted_is_there(self):
        for name, service in self.each():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("./"):
                    self.assertTrue((ROOT / source).exists(), source)
                elif ":" in volume:
                    self.assertIn(source, self.file["volumes"])


class Dockerfile(unittest.TestCase):
    def test_the_classic_builder_understands_it(self):
        for what in (r"^# syntax=", r"--mount", r"--chmod", r"--link", r"<<", r"--security"):
            self.assertNotRegex(DOCKERFILE, re.compile(what, re.M))

    def test_programs_are_the_first_process_so_that_they_get_the_signals(self):
        starts = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", DOCKERFILE, re.M)
        self.assertTrue(starts)
        for start in starts:
            self.assertIsInstance(json.loads(start), list)

    def test_the_worker_is_what_sagemaker_looks_for(self):
        worker = DOCKERFILE.split(" AS worker\n")[1].split("\nFROM ")[0]
        for label in ("multi-models", "accept-bind-to-port"):
            self.assertIn(f"com.amazonaws.sagemaker.capabilities.{label}=true", worker)
        self.assertIn('CMD ["serve"]', worker)

    def test_nothing_is_built_in_what_is_run(self):
        stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
        final = [it for it in stages if it.split()[0] not in ("rust:1.95-bookworm", "tools")]
        self.assertTrue(final)
        for stage in final:
            self.assertNotRegex(stage, r"apt-get|pip|cargo ")
        self.assertIn("\nUSER 65532:65532\n", DOCKERFILE)

    def test_set_up_has_every_script_that_it_imports(self):
        allowed = set(re.findall(r"^!scripts/(\w+)\.py$", (ROOT / ".dockerignore").read_text(), re.M))
        needed, found = {"setup"}, set()
        while needed - found:
            name = sorted(needed - found)[0]
            found.add(name)
            text = (ROOT / "scripts" / f"{name}.py").read_text()
            imports = re.findall(r"^(?:import|from) (\w+)", text, re.M)
            needed |= {it for it in imports if (ROOT / "scripts" / f"{it}.py").exists()}
        self.assertEqual(needed - allowed, set(), "add them to .dockerignore")


if __name__ == "__main__":
    unittest.main()
