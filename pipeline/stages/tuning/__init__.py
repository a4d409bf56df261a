"""What `tune` is made of: batches that fit, a loss that is watched, threads that make way."""
