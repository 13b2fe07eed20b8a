"""Random projects on disk: photographs, runs of steps over them, DVC's cache, a registry. Their bytes tell the truth.

Each person's photographs carry a random token, and every step writes into its output the tokens of whatever it used.
So whether an artefact derives from a person is read from its bytes alone; the lineage is not asked.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.io import digest_bytes, digest_path
from likeness.core.step import Metrics, StepSpec, execute
from likeness.data.consent import Grant, append
from likeness.data.shards import IMAGE, write_shards
from likeness.registration.decision import read_decision, write_decision
from likeness.registration.parts import mark
from likeness.registration.register import register
from likeness.registration.registry import Registry

PEOPLE = ("ada", "bob", "eve", "kim")
LICENCE = b"the same licence text in every model"
SCHEMA = pa.schema([("image", IMAGE), ("id", pa.string()), ("person", pa.string()), ("words", pa.string())])
SHARDS, TABLE, LORA, HTML = ArtifactKind.SHARDS, ArtifactKind.TABLE, ArtifactKind.LORA, ArtifactKind.HTML


class Choice(Config):
    """What a step's random choice came to."""

    people: tuple[str, ...] = ()
    salt: int = 0
    marks: tuple[str, ...] | None = None


def contents(paths: Iterable[Path]) -> bytes:
    """All bytes of files, with those inside Parquet's compression; records of lineage left out."""
    out = b""
    for path in sorted(paths):
        if path.name.endswith("_lineage.json"):
            continue
        if path.read_bytes()[:4] == b"PAR1":
            out += repr(pq.read_table(path).to_pylist()).encode()
        else:
            out += path.read_bytes()
    return out


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def used(*paths: Path | None) -> str:
    """The tokens in what a step has read."""
    text = contents([file for path in paths if path is not None for file in files_of(path)]).decode("latin-1")
    return " ".join(sorted({word for word in text.replace("'", " ").replace("\\", " ").split() if "token:" in word}))


def rows_of(folder: Path) -> list[dict]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def picture(text: str) -> dict:
    return {"bytes": text.encode(), "path": None}


def gather(config: Choice, a: Path, out: Path) -> Metrics:
    """Photographs to rows that name persons."""
    people = {json.loads(line)["file_name"]: json.loads(line)["person"] for line in (a / "metadata.jsonl").open()}
    rows = []
    for name, person in sorted(people.items()):
        content = (a / name).read_bytes()
        image = {"bytes": content, "path": None}
        rows.append({"image": image, "id": digest_bytes(content)[:16], "person": person, "words": ""})
    write_shards(out, rows, rows_per_shard=3, schema=SCHEMA)
    return {"rows": len(rows)}


def select(config: Choice, a: Path, b: Path | None, out: Path, rest: Path) -> Metrics:
    """Rows of some people in one folder, of the others in a second."""
    rows = rows_of(a)
    kept = [row for row in rows if row["person"] in config.people]
    write_shards(out, kept, schema=SCHEMA)
    write_shards(rest, [row for row in rows if row not in kept], schema=SCHEMA)
    return {"rows": len(kept)}


def measure(config: Choice, a: Path, out: Path) -> Metrics:
    """A table about pictures without their persons, as detections are."""
    rows = [{"id": row["id"], "embedding": row["image"]["bytes"]} for row in rows_of(a)]
    write_shards(out, rows, schema=pa.schema([("id", pa.string()), ("embedding", pa.binary())]))
    return {"rows": len(rows)}


def redraw(config: Choice, a: Path, b: Path, out: Path) -> Metrics:
    """Rows that name persons, drawn again with a model."""
    rows = [
        {**row, "image": picture(f"{row['image']['bytes'].decode()} {used(b)} salt {config.salt}")}
        for row in rows_of(a)
    ]
    write_shards(out, rows, schema=SCHEMA)
    return {"rows": len(rows)}


def draw(config: Choice, a: Path, b: Path | None, out: Path) -> Metrics:
    """Pictures of nobody, from whatever was read."""
    rows = [{"image": picture(f"drawn {i} {config.salt} {used(a, b)}"), "id": f"{config.salt}{i}"} for i in range(2)]
    write_shards(out, rows)
    return {"rows": 2}


def train(config: Choice, a: Path, b: Path | None, out: Path) -> Metrics:
    """Weights that contain the tokens of the training data."""
    (out / "weights.safetensors").write_text(f"weights {config.salt} {used(a, b)} .")
    (out / "LICENSE").write_bytes(LICENCE)
    return {"loss": 0.0}


def page(config: Choice, a: Path, b: Path | None, out: Path) -> Metrics:
    """A page about what was read."""
    out.write_text(f"<p>{config.salt} {used(a, b)} </p>")
    return {"bytes": 1}


def decide(config: Choice, lora: Path, decision: Path) -> Metrics:
    """A passed decision, as the gate writes it; ``marks``: whom the training pictures show."""
    number = {"value": 1.0, "ci_low": 1.0, "ci_high": 1.0, "threshold": 0.0}
    reason = {"rule": "r", "metric": "m", "passed": True, "text": "holds", **number}
    record = {"passed": True, "reasons": [reason], "candidate_digest": digest_path(lora), "people": config.marks}
    write_decision(decision, record)
    return {"passed": True}


def step(run: Callable[..., Metrics], inputs: dict[str, ArtifactKind], outputs: dict[str, ArtifactKind]) -> StepSpec:
    return StepSpec(run.__name__, "1", "data", Choice, run, inputs, outputs, optional=frozenset({"b"} & set(inputs)))


@dataclass
class Project:
    """A workspace with a cache. ``tokens`` by person; ``nodes``: path and kind of each output that was written.

    ``store``: address of the registry, in the workspace if none is given.

    ``truth``: whose tokens each output carried when it was written, by path and by DVC's digest; a decision, which has
    none, is as the weights that it is about.
    """

    root: Path
    seed: int
    store: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    nodes: list[tuple[Path, ArtifactKind]] = field(default_factory=list)
    stages: dict[str, dict] = field(default_factory=dict)
    loras: list[Path] = field(default_factory=list)
    truth: dict[Path | str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.tokens = {person: f"token:{self.rng.integers(1 << 60):x}" for person in PEOPLE}
        self.work, self.cache = self.root / "work", self.root / "cache/files/md5"
        self.store = self.store or str(self.work / "registry")
        self.work.mkdir(parents=True)
        self.cache.mkdir(parents=True)

    @classmethod
    def at(cls, root: Path, seed: int) -> Project:
        """A copy of a project that was built: only the places are known."""
        project = cls.__new__(cls)
        project.root, project.seed, project.work, project.cache = root, seed, root / "work", root / "cache/files/md5"
        project.store = str(project.work / "registry")
        return project

    def build(self, steps: int = 9) -> Project:
        """Photographs, random runs, models on record; what is committed to the cache may be gone from the workspace."""
        for number in range(int(self.rng.integers(1, 3))):
            self._photos(number)
        for number in range(steps):
            self._random_step(number)
        for number, lora in enumerate(self.loras):
            self._register(number, lora)
        (self.work / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": self.stages}))
        self._commit_all()
        grants = [
            Grant.model_validate({"id": person, "person": person, "scope": ["train"], "granted": "2026-01-01"})
            for person in PEOPLE
        ]
        append(self.work / "consent", grants)
        return self

    def run(
        self, function: Callable[..., Metrics], bound: dict[str, tuple[Path, ArtifactKind]], **config: object
    ) -> None:
        """Run a step into a folder of its own."""
        node = self.work / f"{len(self.stages):02d}-{function.__name__}"
        kinds = {"gather": {"out": SHARDS}, "select": {"out": SHARDS, "rest": SHARDS}, "measure": {"out": TABLE}}
        kinds |= {"train": {"out": LORA}, "page": {"out": HTML}, "decide": {"decision": ArtifactKind.DECISION}}
        outputs = kinds.get(function.__name__, {"out": SHARDS})
        ports = {port: kind for port, (_, kind) in bound.items()}
        if function in (select, draw, train, page) and "b" not in ports:
            ports["b"] = TABLE
        spec = step(function, ports, outputs)
        paths = {port: node / f"{port}{kind.suffix}" for port, kind in outputs.items()}
        inputs = {port: path for port, (path, _) in bound.items()}
        execute(spec, Choice.model_validate(config), inputs, paths, node / "metrics.json")
        self.nodes += [(paths[port], kind) for port, kind in outputs.items()]
        for path in paths.values():
            people = {person for person in PEOPLE if self.derives([path], person)}
            self.truth[path] = self.truth[self.md5(path)] = people | (
                self.truth[inputs["lora"]] if function is decide else set()
            )
        deps = [{"path": str(path), "md5": self.md5(path)} for path in inputs.values()]
        outs = [{"path": str(path), "md5": self.md5(path)} for path in (*paths.values(), node / "metrics.json")]
        self.stages[node.name] = {"cmd": "likeness", "deps": deps, "outs": outs}

    def _photos(self, number: int) -> None:
        folder = self.work / "photos" / str(number)
        folder.mkdir(parents=True)
        lines = []
        people = [person for person in PEOPLE if self.rng.random() < 0.8] or ["ada"]
        for person in people:
            for index in range(int(self.rng.integers(1, 3))):
                name = f"{number}-{PEOPLE.index(person)}-{index}.png"
                (folder / name).write_text(f"{self.tokens[person]} photograph {number} {index} .")
                lines.append(json.dumps({"file_name": name, "person": person}) + "\n")
        (folder / "metadata.jsonl").write_text("".join(lines))
        self.run(gather, {"a": (folder, ArtifactKind.PHOTOS)})

    def _random_step(self, number: int) -> None:
        named = [(path, kind) for path, kind in self.nodes if kind is SHARDS and _names_persons(path)]
        anything = [(path, kind) for path, kind in self.nodes if kind is not HTML]
        models = [(path, kind) for path, kind in self.nodes if kind is LORA]
        pick = lambda options: options[int(self.rng.integers(len(options)))]  # noqa: E731
        more = {"b": pick(anything)} if self.rng.random() < 0.5 else {}
        choice = self.rng.random()
        salt = int(self.rng.integers(1000))
        if choice < 0.3:
            some = tuple(person for person in PEOPLE if self.rng.random() < 0.5)
            self.run(select, {"a": pick(named)}, people=some)
        elif choice < 0.4:
            self.run(measure, {"a": pick(named)})
        elif choice < 0.5 and models:
            self.run(redraw, {"a": pick(named), "b": pick(models)}, salt=salt)
        elif choice < 0.65:
            self.run(draw, {"a": pick(anything), **more}, salt=salt)
        elif choice < 0.75:
            self.run(page, {"a": pick(anything), **more}, salt=salt)
        else:
            self.run(train, {"a": pick(anything), **more}, salt=salt)
            self.loras.append(self.nodes[-1][0])

    def _register(self, number: int, lora: Path) -> None:
        known = tuple(sorted(mark(person) for person in self.truth[lora]))
        self.run(decide, {"lora": (lora, LORA)}, marks=known if self.rng.random() < 0.5 else None)
        decision = self.nodes[-1][0]
        assert read_decision(decision).passed
        register(Registry.open(self.store), f"m{number}", lora, decision)

    def _commit_all(self) -> None:
        """Into DVC's cache goes most of it; of that, some is no longer in the workspace."""
        for path, _ in self.nodes:
            if self.rng.random() < 0.75:
                self.commit(path)
                if self.rng.random() < 0.3:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        for node in self.work.iterdir():
            if (node / "metrics.json").is_file():
                self.commit(node / "metrics.json")

    def commit(self, path: Path) -> None:
        """What ``dvc commit`` does."""
        for file in files_of(path):
            self._object(hashlib.md5(file.read_bytes()).hexdigest(), file.read_bytes())
        if path.is_dir():
            self._object(self.md5(path), self.listing(path))

    def md5(self, path: Path) -> str:
        if path.is_file():
            return hashlib.md5(path.read_bytes()).hexdigest()
        return hashlib.md5(self.listing(path)).hexdigest() + ".dir"

    def listing(self, folder: Path) -> bytes:
        entries = [
            {"md5": hashlib.md5(file.read_bytes()).hexdigest(), "relpath": file.relative_to(folder).as_posix()}
            for file in sorted(files_of(folder))
        ]
        return json.dumps(entries).encode()

    def _object(self, md5: str, content: bytes) -> None:
        file = self.cache / md5[:2] / md5[2:]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)

    def derives(self, paths: Iterable[Path], person: str) -> bool:
        """Whether the bytes of these files or folders carry the person's token."""
        return self.tokens[person].encode() in contents([file for path in paths for file in files_of(path)])

    def cached(self) -> dict[str, dict[str, Path]]:
        """The folders in the cache: files by name."""
        found = {}
        for file in self.cache.glob("*/*.dir"):
            listed = {e["relpath"]: self.cache / e["md5"][:2] / e["md5"][2:] for e in json.loads(file.read_text())}
            found[file.parent.name + file.name] = listed
        return found


def _names_persons(folder: Path) -> bool:
    return "person" in pq.read_schema(next(iter(folder.glob("*.parquet")))).names
