"""People's votes: the record, the files and exports that hold them, and what is kept apart before learning."""
