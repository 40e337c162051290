"""Fine-tuning: LoRA and full, bit-for-bit reproducible and resumable."""
