"""Where dataset versions are kept, and who may use them."""
