"""SavedModels: written, and opened again."""

from ktransformer.exporting.saved_model.export import export_saved_model as export_saved_model
from ktransformer.exporting.saved_model.export import write_saved_model as write_saved_model
from ktransformer.exporting.saved_model.opened import SavedModel as SavedModel
from ktransformer.exporting.saved_model.opened import is_saved_model as is_saved_model
