"""The doctor: what is wrong with a project, and how to mend it."""
