"""Packages come with a stand-in for apt: what is kept, what is made again, what a machine without apt is told."""

from __future__ import annotations

import os
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import debian
import wheels

# Writes down what it was asked for, and offers one package without lists.
APT = """#!/bin/sh
echo "$0 $*" >> "$LOG"
case "$*" in *download*) : > etcd-server_1_amd64.deb ;; esac
[ "${0##*/}" != apt-cache ] || exit "$KNOWN"
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin" "$3/etc" && echo etcd > "$3/usr/bin/etcd"
"""


class Packages(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        programs = self.root / "programs"
        programs.mkdir()
        for name, text in (("apt-get", APT), ("apt-cache", APT), ("dpkg-deb", DPKG)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.log = self.root / "log"
        self.log.touch()
        path = f"{programs}:{os.environ['PATH']}"
        patch = mock.patch.dict(os.environ, {"PATH": path, "LOG": str(self.log), "KNOWN": "0"})
        patch.start()
        self.addCleanup(patch.stop)

    def test_programs_are_there_and_a_second_time_nothing_is_fetched(self) -> None:
        debian.provide(self.root)
        self.assertEqual((self.root / ".debian" / "usr" / "bin" / "etcd").read_text(), "etcd\n")
        self.assertNotIn(" update", self.log.read_text())
        left = sorted(it.name for it in (self.root / ".debian").iterdir())
        self.assertEqual(left, [".lock", wheels.STAMP, "usr"])
        self.log.write_text("")
        debian.provide(self.root)
        self.assertEqual(self.log.read_text(), "")

    def test_a_machine_without_lists_gets_its_own(self) -> None:
        with mock.patch.dict(os.environ, {"KNOWN": "100"}):
            debian.provide(self.root)
        self.assertRegex(self.log.read_text(), r"Dir::State::Lists=\S*\.debian/.staging/lists .* update")

    def test_other_packages_are_fetched_anew(self) -> None:
        debian.provide(self.root)
        with mock.patch.dict(debian.PACKAGES, {"another": "another"}):
            debian.provide(self.root)
        self.assertEqual(self.log.read_text().count(" download "), 2)

    def test_libraries_that_the_machine_lacks_come_too(self) -> None:
        depends = """#!/bin/sh
case "$*" in
*" haproxy") printf 'haproxy\\n  Depends: libc6\\n  Depends: libwrapper0\\n    libother0\\n  Depends: <libvirtual>\\n' ;;
*" libwrapper0") printf 'libwrapper0\\n  Depends: libc6\\n  Depends: libinner1\\n  Suggests: libdoc\\n' ;;
esac
"""
        (self.root / "programs" / "apt-cache").write_text(depends)
        query = self.root / "programs" / "dpkg-query"
        query.write_text("#!/bin/sh\n[ \"$3\" != libc6 ] || printf installed\n")
        query.chmod(0o755)
        debian.provide(self.root)
        self.assertRegex(self.log.read_text(), r" download .*\bhaproxy .*prometheus libinner1 libwrapper0\n")

    def test_a_mirror_that_fails_is_told_and_leaves_no_stamp(self) -> None:
        (self.root / "programs" / "apt-get").write_text("#!/bin/sh\necho no network; exit 100\n")
        with self.assertRaisesRegex(wheels.SetupError, "no network"):
            debian.provide(self.root)
        self.assertFalse((self.root / ".debian" / wheels.STAMP).exists())

    def test_a_machine_without_apt_is_told_so(self) -> None:
        with mock.patch.object(shutil, "which", return_value=None):
            with self.assertRaises(debian.CannotRunHere):
                debian.provide(self.root)


if __name__ == "__main__":
    unittest.main()
