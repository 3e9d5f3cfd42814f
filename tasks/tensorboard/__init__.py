"""TensorBoard on request: views of one training, of several or of an experiment, that follow them live."""
