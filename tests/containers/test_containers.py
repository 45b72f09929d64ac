"""What `docker compose up` promises, on a real engine with real models."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from cluster import CAT, ROOT, STATE_PATIENCE_S, Cluster, docker, free_port, run, wait_until
from load import Load

sys.path.insert(0, str(ROOT / "tests" / "deploy"))
OURS = ("token", "store", "router", "worker", "demo")
MODELS = [f"efficientnet_lite{n}.tar.gz" for n in range(3)] + ["resnet_18.tar.gz", "squeezenet_v1.0.tar.gz"]
LABELS = {f"com.amazonaws.sagemaker.capabilities.{it}": "true" for it in ("multi-models", "accept-bind-to-port")}


def setUpModule():
    subprocess.run([sys.executable, "scripts/base_images.py"], cwd=ROOT, check=True, stdout=sys.stderr.fileno())
    Cluster.build()


class Containers(unittest.TestCase):
    """One cluster, started once. What a test changes, the next one asks for as it needs it."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.down)
        cls.cat = CAT.read_bytes()
        cls.cluster.up()
        demo = wait_until("the demo's models are there", cls.ended_demo, 600)
        cls.logs = cls.cluster.compose("logs", "--no-color")
        if demo["State"]["ExitCode"] != 0:
            raise AssertionError(cls.logs[-8000:])

    @classmethod
    def tearDownClass(cls):
        cls.cluster.down()
        left = cls.cluster.left()
        if left:
            raise AssertionError(f"left behind: {left}")

    @classmethod
    def ended_demo(cls):
        demo, = cls.cluster.inspect("demo", "--all")
        return demo if demo["State"]["Status"] == "exited" else None

    def setUp(self):
        if len(self.cluster.containers("worker")) != 2 or len(self.cluster.in_service()) != 2:
            self.cluster.up(2)

    def invoke(self, model):
        status, headers, text = self.cluster.invoke(model, self.cat)
        self.assertEqual(status, 200, text)
        return headers, json.loads(text)

    def check_no_failure(self, load):
        self.assertGreater(load.n_answered, 20)
        self.assertEqual(load.failed, [], f"of {load.n_answered}")

    def test_the_curl_of_the_readme_gets_its_answer(self):
        if not shutil.which("curl"):
            self.skipTest("curl is not here")
        command = re.search(r"^curl [^`]*", (ROOT / "README.md").read_text(), re.M).group(0)
        command = command.replace("\\\n", " ").replace("127.0.0.1:8080", f"127.0.0.1:{self.cluster.port}")
        answer = run([*shlex.split(command), "--silent", "--show-error"])
        self.assertRegex(json.loads(answer)[0], "class=Egyptian cat")

    def test_every_model_of_the_demo_answers(self):
        models = [*MODELS, "resnet_152.tar.gz"] + [f"demo-subfolder/squeezenet_v1.0_{n}.tar.gz" for n in range(6)]
        for model in models:
            with self.subTest(model):
                self.assertEqual(len(self.invoke(model)[1]), 5)
        homes = {self.invoke(model)[0]["x-manifold-instance"] for model in models}
        self.assertEqual(len(homes), 2, "both workers serve")
        for model in models:
            self.assertEqual(self.invoke(model)[0]["x-manifold-cache"], "hit")

    def test_routers_and_workers_obey_who_has_the_token_alone(self):
        for path in ("/manifold/v1/instances", "/metrics"):
            with self.assertRaisesRegex(OSError, "401"):
                self.cluster.get(path)
            self.cluster.get(path, Authorization=f"Bearer {self.cluster.token()}")
        # From within the containers' network: as a stranger there would.
        worker = self.cluster.inspect("worker")[0]["Config"]["Hostname"]
        request = f"POST /invocations HTTP/1.1\\r\\nHost: {worker}\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n"
        ask = f"exec 3<>/dev/tcp/{worker}/8080; printf '{request}' >&3; head -1 <&3"
        said = docker("exec", self.cluster.containers("store")[0], "bash", "-c", ask)
        self.assertIn(" 401 ", said)
        token, = self.cluster.inspect("token", "--all")
        self.assertEqual(docker("logs", token["Id"]), "", "it is said to nobody")

    def test_instances_have_the_names_of_their_containers(self):
        names = {it["Config"]["Hostname"] for it in self.cluster.inspect("worker")}
        self.assertEqual({it["instance"] for it in self.cluster.in_service()}, names)

    def test_the_start_leaves_nothing_in_the_logs_to_worry_about(self):
        worrying = [it for it in self.logs.splitlines() if re.search(r"\b(WARN|ERROR)\b|panicked", it)]
        # It is so: the port is published on this machine alone.
        self.assertEqual([it for it in worrying if "WARN router::access: no credentials:" not in it], [])

    def test_containers_of_ours_are_confined(self):
        for service in OURS:
            for it in self.cluster.inspect(service, "--all"):
                with self.subTest(service):
                    self.assertTrue(it["HostConfig"]["ReadonlyRootfs"])
                    self.assertEqual(it["Config"]["User"], "65532:65532")
                    self.assertEqual(it["HostConfig"]["CapDrop"], ["ALL"])
                    self.assertEqual(it["HostConfig"]["SecurityOpt"], ["no-new-privileges:true"])
                    self.assertGreater(it["HostConfig"]["Memory"], 0)
        for service in ("router", "worker", "store"):
            container = self.cluster.containers(service)[0]
            for path in ("/usr/local/bin/x", "/x", "/etc/x"):
                done = subprocess.run(["docker", "exec", container, "touch", path], capture_output=True, text=True)
                self.assertIn("Read-only file system", done.stderr)
            self.assertIn("65532", docker("exec", container, "cat", "/proc/1/status"))

    def test_images_hold_programs_and_no_build_tools(self):
        for image in ("manifold", "manifold-router", "manifold-worker", "manifold-demo"):
            inspected, = json.loads(docker("image", "inspect", image))
            print(f"{image}: {inspected['Size'] / 1e6:.0f} MB", file=sys.stderr)
            shell = "! command -v gcc && ! command -v cargo && ! command -v python3 && ! command -v curl"
            docker("run", "--rm", "--entrypoint", "bash", image, "-c", shell)

    def test_the_workers_image_is_a_sagemaker_container(self):
        image, = json.loads(docker("image", "inspect", "manifold-worker"))
        self.assertEqual({key: image["Config"]["Labels"].get(key) for key in LABELS}, LABELS)
        port = free_port()
        # As the platform starts it, on a port of its choice.
        flags = ["--detach", "--read-only", "--tmpfs", "/tmp", "--env", "SAGEMAKER_BIND_TO_PORT=9000"]
        container = docker("run", *flags, "--publish", f"127.0.0.1:{port}:9000", "manifold-worker", "serve").strip()
        self.addCleanup(docker, "rm", "--force", "--volumes", container)
        wait_until("it answers", lambda: self.cluster.get("/ping", port) is not None)
        self.assertEqual(json.loads(self.cluster.get("/models", port))["models"], [])
        docker("stop", "--time", "30", container)
        state, = json.loads(docker("inspect", container))
        self.assertEqual(state["State"]["ExitCode"], 0, docker("logs", container))

    def test_four_workers_serve_once_they_are_asked_for(self):
        with Load(self.cluster, MODELS, self.cat) as load:
            self.cluster.up(4)
            load.wait_for(20)
        self.assertEqual(len(self.cluster.in_service()), 4)
        self.check_no_failure(load)

    def test_a_worker_that_is_asked_to_end_fails_nothing(self):
        self.check_loss(lambda it: docker("kill", "--signal", "TERM", it["Id"]), exit_code=0)

    def test_a_worker_that_is_killed_fails_nothing(self):
        self.check_loss(lambda it: docker("kill", "--signal", "KILL", it["Id"]), exit_code=137)

    def check_loss(self, end, exit_code):
        self.cluster.up(3)
        for model in MODELS:
            self.invoke(model)
        victim = self.holder_of(MODELS[0])
        with Load(self.cluster, MODELS, self.cat) as load:
            load.wait_for(20)
            end(victim)
            wait_until("it has ended", lambda: victim["Id"] not in self.cluster.containers("worker"))
            self.cluster.wait_until_in_service(2)
            load.wait_for(20)
        self.check_no_failure(load)
        state, = json.loads(docker("inspect", victim["Id"]))
        self.assertEqual(state["State"]["ExitCode"], exit_code)

    def holder_of(self, model):
        name = self.invoke(model)[0]["x-manifold-instance"]
        return next(it for it in self.cluster.inspect("worker") if it["Config"]["Hostname"] == name)

    @unittest.skipUnless(os.geteuid() == 0, "only root may kill a process of a container from outside")
    def test_a_worker_that_crashes_comes_back(self):
        victim = self.cluster.inspect("worker")[0]
        with Load(self.cluster, MODELS, self.cat) as load:
            load.wait_for(10)
            os.kill(victim["State"]["Pid"], signal.SIGKILL)
            wait_until("it runs again", lambda: self.has_restarted(victim))
            self.cluster.wait_until_in_service(2)
            load.wait_for(10)
        self.check_no_failure(load)

    def has_restarted(self, victim):
        now, = json.loads(docker("inspect", victim["Id"]))
        return now["State"]["Running"] and now["State"]["Pid"] != victim["State"]["Pid"]

    def test_prometheus_sees_everything_and_every_query_has_an_answer(self):
        from test_observe import queries, rules
        self.cluster.compose("--profile", "observe", "up", "-d", "--no-build", "--no-deps", "prometheus")
        with Load(self.cluster, MODELS, self.cat) as load:
            up = 'count by (job) (up{job=~"router|worker|etcd"} == 1)'
            expected = {"router": "1", "worker": "2", "etcd": "1"}
            wait_until("all are scraped", lambda: {
                it["metric"]["job"]: it["value"][1] for it in self.cluster.query(up)} == expected)
            alerts = {rule["alert"] for rule in rules()}
            for where, query in queries():
                if where in alerts:
                    # It says nothing while all is well.
                    self.assertEqual(self.cluster.query(query), [], where)
                else:
                    wait_until(f"{where}: {query}", lambda: self.has_answer(query, is_rare="cold start" in where))
        self.check_no_failure(load)
        self.check_budget()

    def has_answer(self, query, is_rare):
        """A quantile of what did not happen within the interval is no number."""
        samples = self.cluster.query(query)
        return samples and (is_rare or all(it["value"][1] != "NaN" for it in samples))

    def check_budget(self):
        """What models may take follows what the container may."""
        for it in self.cluster.query("worker_budget_bytes"):
            limit_bytes = self.cluster.inspect("worker")[0]["HostConfig"]["Memory"]
            share = float(it["value"][1]) / limit_bytes
            self.assertGreater(share, 0.4, it)
            self.assertLessEqual(share, 0.7, it)


class Ending(unittest.TestCase):
    def test_everything_ends_in_order_and_nothing_is_left(self):
        cluster = Cluster()
        self.addCleanup(cluster.down)
        cluster.up(3)
        cluster.up(1)
        services = ("router", "worker", "store")
        cluster.compose("stop", patience_s=180)
        for service in services:
            for it in cluster.inspect(service, "--all"):
                self.assertEqual(it["State"]["ExitCode"], 0, docker("logs", it["Id"]))
        cluster.down()
        self.assertEqual(cluster.left(), [])


if __name__ == "__main__":
    unittest.main()
