"""Prometheus' and Grafana's files: every query is one, over metrics that there are; every reference leads somewhere."""

import json
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
OBSERVE = ROOT / "deploy" / "observe"
PROVISIONING = OBSERVE / "grafana" / "provisioning"
# What a query may name beside functions and labels. The metrics of etcd are its own documentation's.
ETCD = {"etcd_server_has_leader", "etcd_server_proposals_committed_total", "etcd_debugging_mvcc_watcher_total"}
# What Grafana puts in the place of its variable, for who is not Grafana.
RATE_INTERVAL = ("$__rate_interval", "1m")


def dashboard():
    return json.loads((OBSERVE / "grafana" / "dashboards" / "manifold.json").read_text())


def rules():
    groups = yaml.safe_load((OBSERVE / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries():
    """Every query, by where it stands."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", target["expr"].replace(*RATE_INTERVAL)
    for rule in rules():
        yield rule["alert"], rule["expr"]


def metrics(query):
    query = re.sub(r'"[^"]*"', "", query)
    return set(re.findall(r"\b((?:router|worker|etcd)_\w+)\b", query))


def documented():
    """The names in docs/metrics.md, as they are in the text of `/metrics`."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    return set(re.findall(r"`((?:router|worker)_\w+)", page))


class Queries(unittest.TestCase):
    def test_every_metric_is_documented(self):
        known = documented()
        known |= {f"{it}_{end}" for it in known for end in ("bucket", "count", "sum") if it.endswith("_seconds")}
        for where, query in queries():
            with self.subTest(where):
                self.assertEqual(metrics(query) - known - ETCD, set())

    def test_counters_are_read_as_rates(self):
        for where, query in queries():
            for name in metrics(query):
                if name.endswith(("_total", "_count", "_bucket")) and not name.startswith("etcd_debugging"):
                    with self.subTest(where, metric=name):
                        self.assertRegex(query, rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[")

    def test_promtool_takes_configuration_rules_and_every_query(self):
        promtool = shutil.which("promtool") or ROOT / ".debian" / "usr" / "bin" / "promtool"
        if not Path(promtool).exists():
            self.skipTest("promtool is not here")
        # The token is made when the cluster starts.
        self.check([promtool, "check", "config", "--syntax-only", OBSERVE / "prometheus.yml"])
        self.check([promtool, "test", "rules", ROOT / "tests" / "deploy" / "rules_test.yml"])
        recorded = [{"record": f"query_{i}", "expr": query} for i, (_, query) in enumerate(queries())]
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump({"groups": [{"name": "queries", "rules": recorded}]}, file)
            file.flush()
            self.check([promtool, "check", "rules", file.name])

    def check(self, command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)


class Dashboard(unittest.TestCase):
    def setUp(self):
        self.dashboard = dashboard()
        self.panels = self.dashboard["panels"]

    def test_ids_are_unique(self):
        ids = [panel["id"] for panel in self.panels]
        self.assertEqual(len(ids), len(set(ids)))
        titles = [panel["title"] for panel in self.panels if panel["type"] != "row"]
        self.assertTrue(all(titles))

    def test_every_panel_asks_the_source_that_is_provisioned(self):
        source, = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
        expected = {"type": source["type"], "uid": source["uid"]}
        for panel in self.panels:
            if panel["type"] == "row":
                continue
            with self.subTest(panel["title"]):
                self.assertEqual(panel["datasource"], expected)
                self.assertTrue(panel["targets"])
                refs = [target["refId"] for target in panel["targets"]]
                self.assertEqual(len(refs), len(set(refs)))
                for target in panel["targets"]:
                    self.assertEqual(target["datasource"], expected)
                    self.assertTrue(target["expr"].strip())
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])

    def test_no_panel_lies_upon_another_or_beside_the_grid(self):
        taken = {}
        for panel in self.panels:
            box = panel["gridPos"]
            self.assertLessEqual(box["x"] + box["w"], 24, panel["title"])
            for x in range(box["x"], box["x"] + box["w"]):
                for y in range(box["y"], box["y"] + box["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} lies upon {taken.get((x, y))}")
                    taken[x, y] = panel["title"]

    def test_labels_in_legends_are_grouped_by(self):
        for panel in self.panels:
            for target in panel.get("targets", []):
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    with self.subTest(panel["title"]):
                        self.assertRegex(target["expr"], rf"by \([^)]*\b{label}\b")

    def test_it_is_provisioned_where_compose_mounts_it(self):
        provider, = yaml.safe_load((PROVISIONING / "dashboards" / "manifold.yml").read_text())["providers"]
        grafana = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]
        mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in grafana["volumes"]}
        folder = ROOT / mounted[provider["options"]["path"]]
        self.assertTrue((folder / "manifold.json").is_file())
        home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        self.assertEqual(home, f"{provider['options']['path']}/manifold.json")
        self.assertEqual(ROOT / mounted["/etc/grafana/provisioning"], PROVISIONING)

    def test_the_source_is_the_service_of_compose(self):
        source, = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
        services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
        host = re.fullmatch(r"http://(\w+):9090", source["url"]).group(1)
        self.assertIn(host, services)


class Alerts(unittest.TestCase):
    def test_each_says_what_is_wrong_and_what_to_do(self):
        names = [rule["alert"] for rule in rules()]
        self.assertEqual(len(names), len(set(names)))
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
                self.assertTrue(rule["annotations"]["summary"] and rule["annotations"]["description"])


if __name__ == "__main__":
    unittest.main()
