"""Which base images are wanted, and what is said where there are none."""

from __future__ import annotations

import subprocess
import unittest
from unittest import mock

import base_images
from base_images import DEBIAN, RUST


def answered(**codes: int):
    """A stand-in for docker: each of its commands ends with the code that is given."""
    return lambda *args, **_: subprocess.CompletedProcess(args, codes[args[0]], "", "no such host")


class BaseImages(unittest.TestCase):
    def test_every_image_that_can_be_stood_in_for_is_wanted_and_debian_first(self) -> None:
        wanted = base_images.wanted()
        self.assertEqual(wanted[0], DEBIAN)
        self.assertIn(RUST, wanted)
        names = [name.rpartition(":")[0] for name in wanted]
        self.assertEqual(sorted(names[1:]), ["prom/prometheus", "quay.io/coreos/etcd", "rust"])

    def test_what_is_there_is_left_alone(self) -> None:
        with mock.patch.object(base_images, "_docker", answered(image=0)):
            self.assertEqual(base_images.provide(RUST), "is there (no stand-in)")

    def test_what_can_be_pulled_is_pulled(self) -> None:
        with mock.patch.object(base_images, "_docker", answered(image=1, pull=0)):
            self.assertEqual(base_images.provide(RUST), "pulled")

    def test_an_image_that_nothing_stands_in_for_is_said_to_be_missing(self) -> None:
        with mock.patch.object(base_images, "_docker", answered(image=1, pull=1)):
            with self.assertRaisesRegex(base_images.CannotMake, "grafana.*no such host"):
                base_images.provide("grafana/grafana:12.0.2")

    def test_a_toolchain_of_another_version_is_no_stand_in(self) -> None:
        with mock.patch.object(base_images, "_run", return_value="rustc 1.96.0 (abc 2026-05-05)"):
            with self.assertRaisesRegex(base_images.CannotMake, "this machine's Rust is 1.96.0, not 1.95"):
                base_images._rust(RUST)

    def test_only_root_makes_a_debian(self) -> None:
        with mock.patch("os.geteuid", return_value=1000):
            with self.assertRaisesRegex(base_images.CannotMake, "only root"):
                base_images._debian(DEBIAN)


if __name__ == "__main__":
    unittest.main()
