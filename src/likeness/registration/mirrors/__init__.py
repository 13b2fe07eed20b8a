"""Other registries as mirrors of ours, one file each. They show what is on record; none of them decides anything."""
