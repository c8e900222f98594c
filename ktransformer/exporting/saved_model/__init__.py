"""SavedModels: written, and opened again."""
