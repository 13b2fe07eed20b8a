"""Races for one pointer: in each round 8 processes promote different versions from the same state; one may win.

    python benchmarks/promotion_races.py --rounds 1000 --out benchmarks/results/promotion_races.json

On a folder and on a real S3 server (Ceph's gateway, started here unless AWS_ENDPOINT_URL_S3 names one). A round is
right if exactly one process is told that it won, every other is told the winner's version, and the log says the same.
Exit code 1 if any round is wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from likeness.core.io import write_json
from likeness.registration.events import Registered
from likeness.registration.registry import Registry, RegistryConflictError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
MODEL, CHANNEL = "raced", "production"


def prepare(address: str, racers: int) -> None:
    """Two versions for each racer, so that in no round a version is raced for that is live already."""
    registry = Registry.open(address)
    for number in range(1, 2 * racers + 1):
        digest = registry.put(f"version {number}".encode())
        about = {"model": MODEL, "version": number, "manifest": digest, "candidate": digest}
        event = Registered.model_validate({**about, "passed": True, "channel": CHANNEL, "seen": 0})
        registry.append("bench", lambda state, event=event: event)


def race(address: str, racer: int, racers: int, rounds: int, barrier: Any, results: Any) -> None:
    """One process: of every round the version it promoted, whether it won, and the winner it was told."""
    registry = Registry.open(address)
    registry.prepare_to_write()
    for number in range(rounds):
        version = (number % 2) * racers + racer + 1
        barrier.wait(600)
        try:
            registry.promote(MODEL, version, CHANNEL, f"racer {racer}", seen=number)
            results.put((number, version, True, version))
        except RegistryConflictError as conflict:
            results.put((number, version, False, conflict.winner.version))


def judge(rounds: dict[int, list[tuple[int, bool, int]]], live: list[int]) -> dict[str, int]:
    """How many rounds had one winner, whose losers knew it, and which the log confirms."""
    counts = Counter({"one_winner": 0, "losers_told": 0, "log_agrees": 0})
    for number, outcomes in rounds.items():
        winners = [version for version, won, _ in outcomes if won]
        counts["one_winner"] += len(winners) == 1
        counts["losers_told"] += all(told == winners[0] for _, won, told in outcomes if not won) if winners else False
        counts["log_agrees"] += winners == [live[number]]
    return dict(counts)


def run(address: str, rounds: int, racers: int) -> dict[str, Any]:
    """All rounds on the store of ``address``."""
    prepare(address, racers)
    before = _cpu()
    context = mp.get_context("fork")
    barrier, results = context.Barrier(racers), context.Queue()
    processes = [
        context.Process(target=race, args=(address, i, racers, rounds, barrier, results)) for i in range(racers)
    ]
    for process in processes:
        process.start()
    found: dict[int, list[tuple[int, bool, int]]] = {}
    for _ in tqdm(range(rounds * racers), desc=address.partition("://")[0][:8], unit="try", disable=None):
        number, *outcome = results.get(timeout=600)
        found.setdefault(number, []).append(tuple(outcome))
    for process in processes:
        process.join()
    registry = Registry.open(address)
    live = [move.version for move in registry.state().history(MODEL, CHANNEL)]
    wins = Counter((version - 1) % racers for outcomes in found.values() for version, won, _ in outcomes if won)
    return {
        "rounds": rounds,
        "racers": racers,
        **judge(found, live),
        "moves": len(live),
        "wins_of_each": [wins[racer] for racer in range(racers)],
        "cpu_seconds_a_round": round((_cpu() - before) / rounds, 4),
    }


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def server() -> Iterator[None]:
    """A real S3 server at AWS_ENDPOINT_URL_S3, and its keys where boto3 looks for them."""
    if "AWS_ENDPOINT_URL_S3" in os.environ:
        yield
        return
    from radosgw import ACCESS, SECRET, radosgw  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder, radosgw(Path(folder)) as endpoint:
        os.environ.update(AWS_ENDPOINT_URL_S3=endpoint, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
        yield


def bucket() -> str:
    """A new bucket."""
    import boto3

    name = f"races-{os.getpid()}"
    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], region_name="us-east-1").create_bucket(
        Bucket=name
    )
    return name


def main() -> int:
    """Run both, write the result, and say whether every round was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--racers", type=int, default=8)
    parser.add_argument("--stores", nargs="+", default=["folder", "s3"], choices=["folder", "s3"])
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/promotion_races.json"))
    args = parser.parse_args()
    result = {}
    if "folder" in args.stores:
        with tempfile.TemporaryDirectory() as folder:
            result["folder"] = run(f"{folder}/registry", args.rounds, args.racers)
    if "s3" in args.stores:
        with server():
            result["s3"] = run(f"s3://{bucket()}/registry", args.rounds, args.racers)
    write_json(args.out, result)
    print(result)
    return int(
        any(
            found[key] != args.rounds
            for found in result.values()
            for key in ("one_winner", "losers_told", "log_agrees")
        )
    )


if __name__ == "__main__":
    sys.exit(main())
