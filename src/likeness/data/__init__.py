"""Images and shards: reading, normalising, filtering, captioning and splitting."""
