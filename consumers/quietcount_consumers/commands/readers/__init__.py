"""The commands of those who read what was published: they need that file, and neither service nor secrets."""
