"""Translation of Multi30k, and the programs around it."""
