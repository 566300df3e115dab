"""The export: what the published file holds, in the formats of spreadsheets, data portals and other databases."""
