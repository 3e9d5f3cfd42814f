"""Folders of transformers' `save_pretrained`: a configuration, and weights as safetensors."""

from __future__ import annotations

import json

from tasks.refs import Problem
from tasks.train.models.own_scores import Scores
from tasks.train.models.transformers_weights import TransformersModel, built
from tasks.train.own_code.saved_model import NotServed, Saved, first_line
from tasks.train.own_code.trial import Adopted, Trial, known_channels, pixels_of, scores_of, size_steps, tried


def adopt(saved: Saved, trial: Trial) -> Adopted:
    """See `tasks.train.own_code.adopting.adopt`."""
    if trial.problem is not Problem.IMAGE_CLASSIFICATION:
        raise NotServed("models of transformers are served for image classification only")
    config = json.loads((saved.path / "config.json").read_text())
    names = config.get("architectures") or [""]
    try:
        network = built(config, names[0])
        network, info = type(network).from_pretrained(
            str(saved.path),
            config=network.config,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers, torch and safetensors each have their own families
        raise NotServed(f"transformers cannot open it: {first_line(error)}") from error
    if info["missing_keys"]:
        raise NotServed(f"weights are missing: {', '.join(sorted(info['missing_keys'])[:5])}")
    labels = [str(network.config.id2label[i]) for i in sorted(network.config.id2label)]
    own = saved.classes or (() if labels == [f"LABEL_{i}" for i in range(len(labels))] else tuple(labels))
    channels = known_channels(getattr(network.config, "num_channels", 0))
    pixels = pixels_of(saved.path, trial, channels)
    if not pixels.height and not pixels.shortest_edge and not pixels.crop_height:
        side = getattr(network.config, "image_size", None)
        pixels = pixels.model_copy(update=size_steps(side, side)) if isinstance(side, int) else pixels
    model = TransformersModel(network, Scores(kind="logits"), pixels)
    inputs = model.stack_images(trial.images or [])
    raw = tried(lambda: model.raw(inputs))
    model.scores = scores_of(raw, "logits", own, trial)
    return Adopted(model, ())
