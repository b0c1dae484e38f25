"""Wrong inputs by the hundred, made from tables of places × values; ``python -m tests.wrong_inputs`` runs them."""
