"""Fine-tuning: a translator of one kind of captions is taught another kind."""
