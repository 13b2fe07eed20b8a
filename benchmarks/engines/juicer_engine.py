"""data-juicer's filters of face count and face ratio over the first files of a folder, as its executor calls them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from data_juicer.ops.filter.image_face_count_filter import ImageFaceCountFilter  # type: ignore[import-not-found]
from data_juicer.ops.filter.image_face_ratio_filter import ImageFaceRatioFilter  # type: ignore[import-not-found]
from data_juicer.utils.constant import Fields  # type: ignore[import-not-found]


def main() -> None:
    """Decide and write the fates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--photos", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--files", type=int, required=True)
    arguments = parser.parse_args()
    # A face of 64 pixels is .01 of a small picture's area; the default upper end is .4.
    filters = {"face_ratio": ImageFaceRatioFilter(min_ratio=0.005), "face_count": ImageFaceCountFilter()}
    fates = {}
    for file in sorted(arguments.photos.iterdir())[: arguments.files]:
        sample: dict[str, Any] = {"images": [str(file)], "text": "", Fields.stats: {}}
        broken = []
        for name, one in filters.items():
            sample = one.compute_stats_single(sample)
            if not one.process_single(sample):
                broken.append(name)
        fates[file.name] = ",".join(broken) or "kept"
    arguments.out.write_text(json.dumps(fates), "utf-8")


if __name__ == "__main__":
    main()
