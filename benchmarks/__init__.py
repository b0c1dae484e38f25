"""Speed and memory of vaelab beside a bare PyTorch loop and beside pythae; ``python -m benchmarks``."""
