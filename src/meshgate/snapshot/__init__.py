"""What was seen, frozen: the model, its file, and what never enters it."""
