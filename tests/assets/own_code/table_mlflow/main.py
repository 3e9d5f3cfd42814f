"""A script that logs to MLflow as it would anywhere, with parameters and an early stop of its own."""

import argparse
import os

import mlflow
import pandas as pd
import skops.io as sio
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, default=1e-3)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--algorithm", default="sgd")
parser.add_argument("--batch-size", type=int, default=32)
args = parser.parse_args()

data = os.environ["EM_DATASET_TRAIN"]
train, valid = (pd.read_csv(f"{data}/{split}.csv") for split in ("train", "validation"))
label = train.columns[-1]
scaler = StandardScaler().fit(train.drop(columns=label))
model = SGDClassifier(loss="log_loss", alpha=args.alpha, random_state=args.seed)
with mlflow.start_run():
    mlflow.log_params(vars(args))
    for epoch in range(args.epochs):
        model.partial_fit(
            scaler.transform(train.drop(columns=label)), train[label], classes=sorted(train[label].unique())
        )
        scores = model.predict_proba(scaler.transform(valid.drop(columns=label)))
        mlflow.log_metric("own_validation_loss", log_loss(valid[label], scores), step=epoch + 1)
sio.dump(make_pipeline(scaler, model), os.path.join(os.environ["EM_MODEL_DIR"], "model.skops"))
print("done")
