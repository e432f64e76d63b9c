"""How right the models are, and what bad inputs lead to."""
