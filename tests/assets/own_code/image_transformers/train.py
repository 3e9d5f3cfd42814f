"""transformers' Trainer on image folders, with the names of hyperparameters that its users know."""

import os
from pathlib import Path

import torch
from PIL import Image
from transformers import (
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)
from transformers import ViTImageProcessorPil as ViTImageProcessor

torch.set_num_threads(1)
parser = HfArgumentParser(TrainingArguments)
parser.set_defaults(output_dir=os.environ["EM_CHECKPOINT_DIR"], report_to=["none"], use_cpu=True)
(args,) = parser.parse_args_into_dataclasses()
set_seed(args.seed)  # before the model is made; the trainer's own comes after that

root = Path(os.environ["EM_DATASET_TRAIN"]) / "train"
labels = sorted(p.name for p in root.iterdir() if p.is_dir())
processor = ViTImageProcessor(size={"height": 16, "width": 16})
config = ViTConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16,
    patch_size=4,
    id2label=dict(enumerate(labels)), label2id={name: index for index, name in enumerate(labels)},
)  # fmt: skip
model = ViTForImageClassification(config)
rows = []
for index, name in enumerate(labels):
    for path in sorted((root / name).iterdir()):
        pixels = processor(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"][0]
        rows.append({"pixel_values": pixels, "labels": index})
trainer = Trainer(model=model, args=args, train_dataset=rows)
trainer.train()
trainer.save_model(os.environ["EM_MODEL_DIR"])
processor.save_pretrained(os.environ["EM_MODEL_DIR"])
