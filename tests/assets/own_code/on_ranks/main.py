"""A training as torchrun starts it: DistributedDataParallel on iris, rank 0 logs and saves."""

import json
import os
from pathlib import Path

import lightgbm
import pandas as pd
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
cluster = json.loads(os.environ["TF_CONFIG"])
assert cluster["task"] == {"type": "worker", "index": rank}
assert len(cluster["cluster"]["worker"]) == size

folder = Path(os.environ["EM_DATASET_TRAIN"])
frame = pd.read_csv(folder / "train.csv")
mine = frame.iloc[rank::size]
inputs = torch.tensor(mine.drop(columns=["label"]).select_dtypes("number").to_numpy(), dtype=torch.float32)
labels = torch.tensor(pd.Categorical(mine["label"], sorted(frame["label"].unique())).codes, dtype=torch.long)

torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(inputs.shape[1], 3))
optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
for epoch in range(1, 6):
    optimiser.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(inputs), labels)
    loss.backward()
    optimiser.step()
    mean = loss.detach()
    dist.all_reduce(mean)
    print(f"rank {rank} of {size}: epoch {epoch} loss {mean.item() / size:.4f}", flush=True)

if rank == 0:
    columns = [name for name in frame.columns if name != "label"]
    data = lightgbm.Dataset(
        frame[columns], pd.Categorical(frame["label"], sorted(frame["label"].unique())).codes
    )
    booster = lightgbm.train(
        {"objective": "multiclass", "num_class": 3, "verbose": -1, "min_data_in_leaf": 5}, data, 10
    )
    booster.save_model(Path(os.environ["EM_MODEL_DIR"]) / "model.txt")
dist.barrier()
dist.destroy_process_group()
