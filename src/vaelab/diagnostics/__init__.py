"""What a trained VAE looks like from the inside: measures and pictures."""
