"""Model archives, made in memory."""
import io
import tarfile

ECHO = b'[model]\nruntime = "echo"\n'


def archive(files):
    """Packs `files` (name to bytes) as a .tar.gz."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def echo():
    """A model that answers with its input."""
    return archive({"manifold.toml": ECHO})


def broken():
    """A model that cannot be loaded."""
    return archive({"model.pt": b"not TorchScript"})
