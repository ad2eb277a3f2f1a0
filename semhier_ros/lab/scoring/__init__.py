"""What runs are worth: overlap, precision, names, delivery, bootstrap, frontiers."""
