"""A table classifier as users of other platforms write it: pandas, scikit-learn, skops."""

import argparse
import json
import os

import pandas as pd
import skops.io as sio
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

parser = argparse.ArgumentParser()
parser.add_argument("--n_estimators", type=int, default=50)
parser.add_argument("--max_depth", type=int, default=None)
parser.add_argument("--label", default="species")
args = parser.parse_args()

hyperparameters = json.loads(os.environ["EM_HPS"])
assert int(os.environ["EM_HP_N_ESTIMATORS"]) == args.n_estimators == hyperparameters["n_estimators"]

folder = os.environ["EM_DATASET_TRAIN"]
assert json.loads(os.environ["EM_DATASETS"])["train"] == folder
train = pd.read_csv(os.path.join(folder, "train.csv"))
validation = pd.read_csv(os.path.join(folder, "validation.csv"))
x, y = train.drop(columns=[args.label]), train[args.label]

prepare = make_column_transformer(
    (SimpleImputer(), make_column_selector(dtype_include="number")),
    (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
)
model = make_pipeline(
    prepare, RandomForestClassifier(args.n_estimators, max_depth=args.max_depth, random_state=0)
)
model.fit(x, y)
accuracy = accuracy_score(validation[args.label], model.predict(validation.drop(columns=[args.label])))
print(f"epoch 1 accuracy: {accuracy}")
sio.dump(model, os.path.join(os.environ["EM_MODEL_DIR"], "model.skops"))
