"""The commands of an emitter's installation."""
