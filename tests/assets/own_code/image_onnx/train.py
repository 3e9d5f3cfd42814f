"""A PyTorch classifier of image folders: TensorBoard, checkpoints, ONNX."""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from network import Net  # a module beside the script
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

parser = argparse.ArgumentParser()
parser.add_argument("--learning_rate", type=float, default=0.01)
parser.add_argument("--per_device_train_batch_size", type=int, default=16)
parser.add_argument("--num_train_epochs", type=int, default=3)
args = parser.parse_args()
torch.manual_seed(0)
torch.set_num_threads(1)


def load(split):
    root = Path(os.environ["EM_DATASET_TRAIN"]) / split
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    files = [(path, index) for index, name in enumerate(classes) for path in sorted((root / name).iterdir())]
    pixels = np.stack(
        [np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255 for path, _ in files]
    )
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor([label for _, label in files]), classes


x, y, classes = load("train")
network = Net(len(classes))
optimizer = torch.optim.AdamW(network.parameters(), lr=args.learning_rate)
writer = SummaryWriter(os.environ["EM_TENSORBOARD_LOG_DIR"])
checkpoint = os.path.join(os.environ["EM_CHECKPOINT_DIR"], "last.pt")
first = 0
if os.path.exists(os.path.join(os.environ.get("EM_CHECKPOINT_INPUT_DIR", ""), "last.pt")):
    state = torch.load(os.path.join(os.environ["EM_CHECKPOINT_INPUT_DIR"], "last.pt"))
    network.load_state_dict(state["network"])
    first = state["epoch"]
    print(f"going on from epoch {first}")
for epoch in range(first, args.num_train_epochs):
    for rows in torch.randperm(len(x)).split(args.per_device_train_batch_size):
        loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save({"network": network.state_dict(), "epoch": epoch + 1}, checkpoint + ".partial")
    os.replace(checkpoint + ".partial", checkpoint)
    writer.add_scalar("train/loss", loss.item(), epoch + 1)
    writer.flush()
    print(f"[epoch {epoch + 1}] loss={loss.item():.4f}")
writer.close()
network.eval()
torch.onnx.export(
    network, (x[:1],), os.path.join(os.environ["EM_MODEL_DIR"], "model.onnx"),
    input_names=["input"], output_names=["logits"], dynamic_axes={"input": {0: "n"}, "logits": {0: "n"}},
    dynamo=False,
)  # fmt: skip
