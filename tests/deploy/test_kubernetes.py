"""The manifests of deploy/kubernetes, as every kubectl here renders them: valid by the API's own schemas, and true to
the programs that they start. No cluster is needed.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import shutil
import subprocess
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(it.name for it in (KUBERNETES / "overlays").iterdir())
BINARIES = Path(os.environ.get("MANIFOLD_BINARIES", ROOT / "target" / "release"))
# The oldest that the manifests are for (see docs/kubernetes.md), one between, and the newest with schemas.
API_VERSIONS = ["1.30", "1.33", kubernetes_validate.latest_version()]
# The program of each container that is ours.
PROGRAMS = {"router": "manifold-router", "worker": "manifold-worker"}
# Who has a role of the cloud needs none.
SECRETS_OF_USERS = {"manifold-store"}


def renderers() -> list[str]:
    """Every kubectl here: Debian's from `.debian/`, and that of the PATH."""
    debians = ROOT / ".debian" / "usr" / "bin" / "kubectl"
    found = [str(debians) if debians.exists() else None, shutil.which("kubectl")]
    return list(dict.fromkeys(it for it in found if it))


@functools.lru_cache(maxsize=None)
def render(kubectl: str, overlay: str) -> tuple[dict, ...]:
    command = [kubectl, "kustomize", str(KUBERNETES / "overlays" / overlay)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(it for it in yaml.safe_load_all(done.stdout) if it)


@functools.lru_cache(maxsize=None)
def flags_of(program: str) -> dict[str, str]:
    """The flags of a program and the variable that each is read from, by its own help."""
    help_text = subprocess.run([BINARIES / program, "--help"], check=True, capture_output=True, text=True).stdout
    found = {}
    for entry in re.split(r"\n(?= +(?:-\w, )?--[a-z])", help_text):
        flag = re.match(r" +(?:-\w, )?--([a-z0-9-]+)", entry)
        variable = re.search(r"\[env: ([A-Z0-9_]+)=", entry)
        if flag:
            found[flag.group(1)] = variable.group(1) if variable else ""
    return found


def containers(resource: dict) -> Iterator[dict]:
    yield from resource.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def every_rendering(test: Callable[[Manifests, tuple[dict, ...]], None]) -> Callable[[Manifests], None]:
    """Makes of a check a test of every overlay by every kubectl."""

    @functools.wraps(test)
    def tested(self: Manifests) -> None:
        for kubectl in renderers():
            for overlay in OVERLAYS:
                with self.subTest(kubectl=kubectl, overlay=overlay):
                    test(self, render(kubectl, overlay))

    return tested


@unittest.skipUnless(renderers(), "kubectl is not here (Debian: kubernetes-client)")
class Manifests(unittest.TestCase):
    """Every overlay, by every kubectl."""

    def of_kind(self, resources: tuple[dict, ...], *kinds: str) -> list[dict]:
        found = [it for it in resources if it["kind"] in kinds]
        self.assertTrue(found, kinds)
        return found

    def workloads(self, resources: tuple[dict, ...]) -> list[dict]:
        return self.of_kind(resources, "Deployment", "StatefulSet")

    def programs(self, resources: tuple[dict, ...]) -> Iterator[tuple[str, dict, dict]]:
        """The program, the container and the workload of each that runs one of ours."""
        for workload in self.workloads(resources):
            for container in containers(workload):
                if container["name"] in PROGRAMS:
                    yield PROGRAMS[container["name"]], container, workload

    @every_rendering
    def test_every_resource_is_valid_by_the_schemas_of_its_api(self, resources: tuple[dict, ...]) -> None:
        for resource in resources:
            for version in API_VERSIONS:
                kubernetes_validate.validate(resource, version, strict=True)

    def test_both_kubectl_render_the_same(self) -> None:
        def joined(resource: dict) -> dict:
            if resource["kind"] != "Secret":
                return resource
            return {**resource, "data": {key: "".join(it.split()) for key, it in resource["data"].items()}}

        def comparable(resources: tuple[dict, ...]) -> list[str]:
            # They name what they generate by digests of their own, and break lines of secrets or not.
            texts = (yaml.safe_dump(joined(it), sort_keys=True) for it in resources)
            return sorted(re.sub(r"(manifold-[a-z-]+)-[a-z0-9]{10}\b", r"\1", it) for it in texts)

        for overlay in OVERLAYS:
            rendered = [comparable(render(kubectl, overlay)) for kubectl in renderers()]
            for other in rendered[1:]:
                self.assertEqual(rendered[0], other)

    @every_rendering
    def test_every_flag_and_variable_is_one_of_its_program(self, resources: tuple[dict, ...]) -> None:
        settings = {it["metadata"]["name"]: it["data"] for it in self.of_kind(resources, "ConfigMap")}
        for program, container, _ in self.programs(resources):
            flags = flags_of(program)
            given = [it.removeprefix("--").split("=")[0] for it in container["args"]]
            self.assertLessEqual(set(given), set(flags), program)
            variables = {it["configMapRef"]["name"] for it in container["envFrom"] if "configMapRef" in it}
            for name in variables:
                self.assertLessEqual(set(settings[name]), set(flags.values()), name)
                # A flag beats a variable, so one of them would be of no use.
                self.assertFalse(set(settings[name]) & {flags[it] for it in given}, name)

    @every_rendering
    def test_every_variable_in_an_argument_is_there(self, resources: tuple[dict, ...]) -> None:
        for _, container, _ in self.programs(resources):
            wanted = set(re.findall(r"\$\(([A-Z_]+)\)", " ".join(container["args"])))
            self.assertLessEqual(wanted, {it["name"] for it in container.get("env", [])})

    @every_rendering
    def test_every_selector_selects_what_is_there(self, resources: tuple[dict, ...]) -> None:
        labels = [it["spec"]["template"]["metadata"]["labels"] for it in self.workloads(resources)]
        for workload in self.workloads(resources):
            self.check_selects(workload["spec"]["selector"], [workload["spec"]["template"]["metadata"]["labels"]])
            for spread in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
                self.check_selects(spread["labelSelector"], labels)
        for service in self.of_kind(resources, "Service"):
            self.check_selects({"matchLabels": service["spec"]["selector"]}, labels)
        for budget in self.of_kind(resources, "PodDisruptionBudget"):
            self.check_selects(budget["spec"]["selector"], labels)
        for policy in self.of_kind(resources, "NetworkPolicy"):
            self.check_selects(policy["spec"]["podSelector"], labels)
            peers = [peer for rule in policy["spec"]["ingress"] for peer in rule.get("from", [])]
            for peer in peers:
                if "namespaceSelector" not in peer:
                    self.check_selects(peer["podSelector"], labels)

    def check_selects(self, selector: dict, labels: list[dict]) -> None:
        wanted = selector["matchLabels"].items()
        self.assertEqual(sum(wanted <= it.items() for it in labels), 1, selector)

    @every_rendering
    def test_every_port_that_is_named_exists(self, resources: tuple[dict, ...]) -> None:
        ports = {}
        for workload in self.workloads(resources):
            labels = workload["spec"]["template"]["metadata"]["labels"]
            for container in containers(workload):
                named = {it["name"] for it in container["ports"]}
                ports[labels["app.kubernetes.io/component"]] = named
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    self.assertIn(container[probe]["httpGet"]["port"], named)
        for service in self.of_kind(resources, "Service"):
            component = service["spec"]["selector"]["app.kubernetes.io/component"]
            self.assertLessEqual({it["targetPort"] for it in service["spec"]["ports"]}, ports[component])
        for policy in self.of_kind(resources, "NetworkPolicy"):
            component = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for rule in policy["spec"]["ingress"]:
                self.assertLessEqual({it["port"] for it in rule["ports"]}, ports[component])

    @every_rendering
    def test_programs_listen_where_their_ports_are(self, resources: tuple[dict, ...]) -> None:
        for _, container, _ in self.programs(resources):
            text = " ".join(container["args"])
            listened = {int(it) for it in re.findall(r"--(?:internal-)?listen=\S+:(\d+)|port=(\d+)", text) for it in it if it}
            self.assertEqual(listened, {it["containerPort"] for it in container["ports"]})

    @every_rendering
    def test_workers_look_for_routers_where_their_service_is(self, resources: tuple[dict, ...]) -> None:
        headless = {}
        for service in self.of_kind(resources, "Service"):
            if service["spec"].get("clusterIP") == "None":
                headless[service["metadata"]["name"]] = service["spec"]
        (worker,) = [it for program, it, _ in self.programs(resources) if program == "manifold-worker"]
        (name,) = [it.split("=")[1] for it in worker["args"] if it.startswith("--router-dns=")]
        host, port = name.split(":")
        spec = headless[host]
        self.assertEqual(spec["selector"]["app.kubernetes.io/component"], "router")
        self.assertIn(int(port), {it["port"] for it in spec["ports"]})
        # A name of a headless service leads to the pods themselves: the port is the container's own.
        (router,) = [it for program, it, _ in self.programs(resources) if program == "manifold-router"]
        self.assertIn(int(port), {it["containerPort"] for it in router["ports"]})
        self.assertTrue(spec["publishNotReadyAddresses"], "a router is found before clients come to it")

    @every_rendering
    def test_routers_find_etcd_where_its_service_is(self, resources: tuple[dict, ...]) -> None:
        settings = [it["data"] for it in self.of_kind(resources, "ConfigMap")]
        (url,) = [it["ROUTER_CLUSTER"] for it in settings if "ROUTER_CLUSTER" in it]
        scheme, places = url.split("://")
        own = [it for it in self.of_kind(resources, "Service") if it["metadata"]["name"] == "manifold-etcd"]
        if own:
            self.assertEqual((scheme, places), ("etcd", f"manifold-etcd:{own[0]['spec']['ports'][0]['port']}"))
        else:
            self.assertEqual(scheme, "etcds", "beyond the namespace only with TLS")

    @every_rendering
    def test_probes_hit_routes_that_are_there(self, resources: tuple[dict, ...]) -> None:
        for program, container, _ in self.programs(resources):
            source = ROOT / program.removeprefix("manifold-") / "src" / "http.rs"
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                path = container[probe]["httpGet"]["path"]
                self.assertIn(f'"{path}"', source.read_text())
                self.assertEqual(path, "/ping", "everything else wants the token")

    @every_rendering
    def test_pods_run_as_little_as_they_can(self, resources: tuple[dict, ...]) -> None:
        for workload in self.workloads(resources):
            pod = workload["spec"]["template"]["spec"]
            self.assertIs(pod["automountServiceAccountToken"], False)
            self.assertIs(pod["securityContext"]["runAsNonRoot"], True)
            self.assertGreater(pod["securityContext"]["runAsUser"], 0)
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            for container in containers(workload):
                context = container["securityContext"]
                self.assertIs(context["readOnlyRootFilesystem"], True)
                self.assertIs(context["allowPrivilegeEscalation"], False)
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                self.assertIn("memory", container["resources"]["limits"])

    @every_rendering
    def test_what_is_written_to_is_a_volume(self, resources: tuple[dict, ...]) -> None:
        for program, container, _ in self.programs(resources):
            mounts = {it["mountPath"]: it.get("readOnly", False) for it in container["volumeMounts"]}
            for argument in container["args"]:
                flag, _, path = argument.partition("=")
                if not path.startswith("/"):
                    continue
                (mount,) = [it for it in mounts if path == it or path.startswith(it + "/")]
                is_secret = flag in ("--credentials", "--cluster-token-file")
                self.assertEqual(mounts[mount], is_secret, argument)

    @every_rendering
    def test_every_secret_and_setting_that_is_named_is_there(self, resources: tuple[dict, ...]) -> None:
        known = {it["metadata"]["name"] for it in self.of_kind(resources, "Secret", "ConfigMap")}
        for workload in self.workloads(resources):
            pod = workload["spec"]["template"]["spec"]
            volumes = {it["secret"]["secretName"] for it in pod.get("volumes", []) if "secret" in it}
            self.assertLessEqual(volumes, known)
            accounts = {it["metadata"]["name"] for it in self.of_kind(resources, "ServiceAccount")}
            self.assertIn(pod["serviceAccountName"], accounts)
            for container in containers(workload):
                for source in container.get("envFrom", []):
                    for reference in source.values():
                        if reference.get("optional"):
                            self.assertIn(reference["name"], SECRETS_OF_USERS)
                        else:
                            self.assertIn(reference["name"], known)

    @every_rendering
    def test_secrets_are_mounted_as_programs_take_them(self, resources: tuple[dict, ...]) -> None:
        """Of root and its group alone, which is the pod's: anything wider is refused (docs/api.md)."""
        for workload in self.workloads(resources):
            pod = workload["spec"]["template"]["spec"]
            for volume in pod.get("volumes", []):
                if "secret" in volume:
                    self.assertEqual(oct(volume["secret"]["defaultMode"]), "0o440")
                    self.assertEqual(pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"])

    def test_no_secret_is_in_the_repository_and_placeholders_start_nothing(self) -> None:
        for overlay in OVERLAYS:
            for file in (KUBERNETES / "overlays" / overlay / "secrets").iterdir():
                text = file.read_text()
                self.assertIn("replace me", text.lower())
                flag = {"cluster-token": "--cluster-token-file", "credentials.toml": "--credentials"}.get(file.name)
                if not flag:
                    continue
                copy = ROOT / "target" / f"placeholder-{overlay}-{file.name}"
                copy.write_text(text)
                copy.chmod(0o600)
                self.addCleanup(copy.unlink)
                for program in PROGRAMS.values():
                    if flag.removeprefix("--") in flags_of(program):
                        self.check_refused(program, [f"{flag}={copy}"])

    def check_refused(self, program: str, arguments: list[str]) -> None:
        listen = {"manifold-router": ["--listen=127.0.0.1:0"], "manifold-worker": ["--bind=127.0.0.1:0"]}[program]
        done = subprocess.run([BINARIES / program, *listen, *arguments], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, "is no cluster token|there is no credential")

    @every_rendering
    def test_a_pod_has_the_time_to_drain(self, resources: tuple[dict, ...]) -> None:
        for program, container, workload in self.programs(resources):
            text = " ".join(container["args"])
            seconds = {"manifold-router": r"--drain-timeout-ms=(\d+)000\b", "manifold-worker": r"--drain-timeout-s=(\d+)\b"}
            (drain_s,) = re.findall(seconds[program], text)
            pause_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            grace_s = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            self.assertGreater(grace_s, int(drain_s) + pause_s)

    @every_rendering
    def test_instances_keep_their_names_and_caches(self, resources: tuple[dict, ...]) -> None:
        (worker,) = [it for program, *it in self.programs(resources) if program == "manifold-worker"]
        container, workload = worker
        self.assertEqual(workload["kind"], "StatefulSet")
        names = {it["name"]: it.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") for it in container["env"]}
        self.assertEqual((names["POD_NAME"], names["POD_IP"]), ("metadata.name", "status.podIP"))
        (join_s,) = [int(it.split("=")[1]) for it in container["args"] if it.startswith("--join-timeout-s=")]
        self.assertGreater(workload["spec"]["minReadySeconds"], join_s, "the next one goes when this one has its share")
        claims = {it["metadata"]["name"]: it for it in workload["spec"]["volumeClaimTemplates"]}
        (cache,) = [it.split("=")[1] for it in container["args"] if it.startswith("--cache-dir=")]
        # The folder that is mounted is root's, and open to the pod's group: no worker takes it for its own.
        mounts = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
        (volume,) = [name for name, path in mounts.items() if Path(path) in Path(cache).parents]
        size = claims[volume]["spec"]["resources"]["requests"]["storage"]
        (budget,) = [int(it.split("=")[1]) for it in container["args"] if it.startswith("--disk-budget=")]
        self.assertLess(budget, int(size.removesuffix("Gi")) << 30)
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        self.assertEqual(limits["memory"], requests["memory"], "the budget follows the limit")

    @every_rendering
    def test_autoscalers_ask_for_metrics_that_are_exported(self, resources: tuple[dict, ...]) -> None:
        adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())
        rules = {it["name"]["as"]: it["seriesQuery"].split("{")[0] for it in adapter["rules"]["custom"]}
        documented = set(re.findall(r"`((?:router|worker)_[a-z_]+)", (ROOT / "docs" / "metrics.md").read_text()))
        targets = {(it["kind"], it["metadata"]["name"]) for it in self.workloads(resources)}
        for scaler in self.of_kind(resources, "HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            self.assertIn((target["kind"], target["name"]), targets)
            # What scales it alone says how many there are: an apply would undo it.
            (workload,) = [it for it in self.workloads(resources) if it["metadata"]["name"] == target["name"]]
            self.assertNotIn("replicas", workload["spec"])
            self.assertGreaterEqual(scaler["spec"]["minReplicas"], 2)
            for metric in scaler["spec"]["metrics"]:
                series = rules[metric["pods"]["metric"]["name"]]
                self.assertIn(re.sub(r"_(sum|count|bucket)$", "", series), documented)
                self.assertTrue(series.startswith(target["name"].removeprefix("manifold-") + "_"))

    @every_rendering
    def test_images_are_of_one_release_and_named_in_the_overlay_alone(self, resources: tuple[dict, ...]) -> None:
        images = [container["image"] for _, container, _ in self.programs(resources)]
        self.assertEqual(len({it.rsplit(":", 1)[1] for it in images}), 1, images)
        self.assertTrue(all(it.startswith("registry.example/") for it in images), images)

    @every_rendering
    def test_everything_is_in_the_overlays_namespace(self, resources: tuple[dict, ...]) -> None:
        self.assertEqual({it["metadata"]["namespace"] for it in resources}, {"manifold"})

    @every_rendering
    def test_no_address_of_a_network_is_written_down(self, resources: tuple[dict, ...]) -> None:
        text = yaml.safe_dump_all(resources)
        for address in re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text):
            self.assertTrue(ipaddress.ip_address(address).is_unspecified or ipaddress.ip_address(address).is_loopback)


if __name__ == "__main__":
    unittest.main()
