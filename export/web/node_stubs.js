// @sctg/sentencepiece-js imports two modules of Node; the import map puts this file in their place.
// It calls readFileSync with what its `load` was given: here that is the model itself.
export const readFileSync = (model) => model;
// Used by the models built into it alone.
export const Buffer = undefined;
