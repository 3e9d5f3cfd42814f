"""LightGBM with its own output; labels are numbered by LabelEncoder."""

import argparse
import os

import lightgbm as lgb
import pandas as pd
from sklearn.preprocessing import LabelEncoder

parser = argparse.ArgumentParser()
parser.add_argument("--learning_rate", type=float, default=0.1)
parser.add_argument("--num_leaves", type=int, default=7)
parser.add_argument("--num_boost_round", type=int, default=20)
args, _ = parser.parse_known_args()

folder = os.environ.get("EM_DATASET_TRAIN")
train = pd.read_csv(f"{folder}/train.csv")
valid = pd.read_csv(f"{folder}/validation.csv")
label = train.columns[-1]
encoder = LabelEncoder().fit(train[label])
data = lgb.Dataset(train.drop(columns=label), encoder.transform(train[label]))
held = lgb.Dataset(valid.drop(columns=label), encoder.transform(valid[label]), reference=data)
booster = lgb.train(
    {
        "objective": "multiclass",
        "num_class": len(encoder.classes_),
        "learning_rate": args.learning_rate,
        "num_leaves": args.num_leaves,
        "num_threads": 1,
        "verbosity": -1,
    },
    data,
    num_boost_round=args.num_boost_round,
    valid_sets=[held],
    callbacks=[lgb.log_evaluation(5)],
)
booster.save_model(os.path.join(os.environ["EM_MODEL_DIR"], "model.txt"))
