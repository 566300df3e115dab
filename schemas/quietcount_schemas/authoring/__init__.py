"""Authoring: a new schema from a few words, and stubs that tell a type checker what the schemas say."""
