"""What happens around the epochs of the training loop, one matter a file."""
