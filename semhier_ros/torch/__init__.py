"""The networks in torch: their definition, their training form, and the CUDA path. Never imported on the CPU path."""
