"""Trains two classifiers of irises and packs each as a model archive: `python train.py FOLDER`."""

import io
import pathlib
import sys
import tarfile

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

MODELS = {
    "forest.tar.gz": RandomForestClassifier(n_estimators=20, random_state=1),
    "logistic.tar.gz": LogisticRegression(max_iter=1000),
}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    irises = load_iris()
    names = irises.target_names[irises.target]
    for archive, model in MODELS.items():
        packed = io.BytesIO()
        joblib.dump(model.fit(irises.data, names), packed)
        with tarfile.open(folder / archive, "w:gz") as tar:
            entry = tarfile.TarInfo("model.joblib")
            entry.size = packed.tell()
            packed.seek(0)
            tar.addfile(entry, packed)
        print(f"{folder / archive}: {entry.size} bytes of {type(model).__name__}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
