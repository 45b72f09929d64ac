"""Makes the models of the cases that have some: run by the environment that has their library, not by the runner.

python models.py mxnet|toolkit FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 20261123


def make_mxnet(folder: Path) -> None:
    """Checkpoints as MXNet's module API writes them, with shapes and labels beside them, as AWS' example has them."""
    sys.path.insert(0, str(HERE.parent / "mxnet"))
    import module_style
    import networks

    for name, prefix in (("module resnet-18", "resnet-18"), ("module squeezenet_v1.0", "squeezenet_v1.0")):
        target = folder / prefix
        target.mkdir(parents=True)
        networks.export_module(module_style.NETWORKS[name](), target / prefix)
        shapes = [{"name": "data", "shape": [1, 3, 224, 224]}]
        (target / f"{prefix}-shapes.json").write_text(json.dumps(shapes), encoding="utf-8")
        labels = "".join(f"n{number:08d} thing {number}\n" for number in range(1000))
        (target / "synset.txt").write_text(labels, encoding="utf-8")


def make_toolkit(folder: Path) -> None:
    """A forest of scikit-learn's and one of XGBoost's, over the same data."""
    import joblib
    import numpy
    import xgboost
    from sklearn.ensemble import RandomForestRegressor

    random = numpy.random.default_rng(SEED)
    values = random.uniform(-1, 1, (200, 4))
    wanted = values @ [1.0, -2.0, 0.5, 3.0]
    for name in ("sklearn", "xgboost"):
        (folder / name).mkdir(parents=True)
    joblib.dump(
        RandomForestRegressor(n_estimators=10, random_state=SEED).fit(values, wanted),
        folder / "sklearn" / "model.joblib",
    )
    booster = xgboost.train({"seed": SEED, "nthread": 1}, xgboost.DMatrix(values, wanted), num_boost_round=10)
    booster.save_model(folder / "xgboost" / "model.json")


if __name__ == "__main__":
    {"mxnet": make_mxnet, "toolkit": make_toolkit}[sys.argv[1]](Path(sys.argv[2]))
