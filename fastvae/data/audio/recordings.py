"""Recordings: spoken digits, and any folder of sound files, as log-mel spectrograms."""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data.audio.config import AudioConfig, SpectrogramConfig
from fastvae.data.audio.preprocess import LogMelPreprocess
from fastvae.data.audio.waveform import EXTENSIONS, read_recording
from fastvae.data.condition import ConditionField
from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data
from fastvae.data.files.folders import list_folder, visible_files
from fastvae.data.files.places import find_file
from fastvae.data.source import Source
from fastvae.data.views import chunks

STATE = "audio.json"
_ARCHIVE = "recordings.tar.gz"
_REMEDY = (
    "take recordings/ from github.com/Jakobovski/free-spoken-digit-dataset,"
    " and set FASTVAE_DATA to the folder that contains fsdd/"
)
_MAX_FILE_BYTES = 2**28
_HEARD_S = 0.05  # shorter silence is not reported
_TAKES = 5  # per speaker and digit: recordings 0 .. 4 are the test set
_NAME = re.compile(r"(?P<label>[^_]+)_(?P<speaker>[^_]+)_(?P<take>\d+)")  # 7_jackson_32


@dataclass(frozen=True)
class Clip:
    """One recording, cut or padded to its length."""

    name: str  # 7_jackson_32, or its path below the folder
    waveform: Tensor  # float32 [num_samples]


class ClipSource(Source):
    """Waveforms float32 [N, num_samples], with labels and speakers; the preprocessing computes spectrograms.

    Args:
        waveforms: [N, num_samples].
        attributes: int64 [N] by name, such as ``label`` and ``speaker``.
        event_shape: shape of a spectrogram, (1, mels, frames).
    """

    dtype = torch.float32
    levels = None

    def __init__(self, waveforms: Tensor, attributes: Mapping[str, Tensor], event_shape: tuple[int, ...]) -> None:
        self._waveforms, self._attributes, self.event_shape = waveforms, dict(attributes), event_shape

    def __len__(self) -> int:
        return len(self._waveforms)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._waveforms.index_select(0, indices)

    @property
    def labels(self) -> Tensor | None:
        """int64 [N], or None if the names of the files do not contain labels."""
        return self._attributes.get("label")

    def attribute(self, name: str) -> Tensor | None:
        """int64 [N]: ``label`` or ``speaker``; None if the names of the files do not contain it."""
        return self._attributes.get(name)


def load_spoken_digits(config: DataConfig, seed: int, state: Mapping[str, bytes]) -> Data:
    """The Free Spoken Digit Dataset (Jackson et al. 2018, doi 10.5281/zenodo.1342401): six speakers, digits 0 to 9.

    Recordings 0 to 4 of each speaker and digit are the test set (300), the other 2700 are for training.

    Raises:
        ValueError: the recordings are missing or damaged.
    """
    path = find_file("spoken-digits", ("fsdd",), (_ARCHIVE, "recordings"), config.dir, _REMEDY)
    clips = _read_folder(path, config.audio)[0] if path.is_dir() else _read_archive(path, config.audio)
    takes = [int(match["take"]) if (match := _NAME.fullmatch(clip.name)) else _TAKES for clip in clips]
    return _build(config, clips, torch.tensor(takes) < _TAKES, state)


def load_own_recordings(config: DataConfig, seed: int, state: Mapping[str, bytes]) -> Data:
    """Load a folder of sound files, including sub-folders; every ``test_every``-th by path is a test example.

    The name of the sub-folder is the label. If all names are like ``7_jackson_32.wav``, they give label and speaker.

    Raises:
        ValueError: a file is damaged, empty or too large; it is named.
    """
    assert config.path is not None  # checked by build_data
    clips, notes = _read_folder(config.path.expanduser(), config.audio, max_gib=config.max_gib)
    data = _build(config, clips, torch.arange(len(clips)) % config.test_every == 0, state)
    return replace(data, notes=notes)


def read_recordings(path: Path, config: DataConfig, state: Mapping[str, bytes]) -> ClipSource:
    """All recordings of a folder, in the order of their paths, for a finished run; unknown labels are omitted."""
    clips, notes = _read_folder(path, config.audio, max_gib=config.max_gib)
    kept = _Kept.from_state(state[STATE])
    words = _words_of([clip.name for clip in clips])
    known = {name: values for name, values in kept.values.items() if set(words.get(name, [""])) <= set(values)}
    attributes = {name: _indices(words[name], values, name) for name, values in known.items()}
    source = _source(torch.stack([clip.waveform for clip in clips]), attributes, config.audio)
    source.notes = notes
    return source


def restored_preprocess(state: Mapping[str, bytes]) -> LogMelPreprocess:
    """Restore the preprocessing of a run from its stored standardisation."""
    return _Kept.from_state(state[STATE]).preprocess()


def holds_recordings(path: Path) -> bool:
    """Whether a folder or a sub-folder contains a sound file."""
    return path.is_dir() and any(file.suffix.lower() in EXTENSIONS for file in visible_files(path))


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """State of recordings in a run: the standardisation, and the names of labels and speakers."""

    mean_level: float
    deviation: float
    audio: AudioConfig
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @staticmethod
    def from_state(content: bytes) -> _Kept:
        try:
            fields = json.loads(content)
            values = {str(name): tuple(map(str, known)) for name, known in fields["values"].items()}
            audio = AudioConfig(
                **fields["audio"] | {"spectrogram": SpectrogramConfig(**fields["audio"]["spectrogram"])}
            )
            levels = {name: float(fields[name]) for name in ("mean_level", "deviation")}
            return _Kept(**levels, audio=audio, values=values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{STATE} of the run is damaged ({_one_line(error)}); train it again") from None

    def to_state(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    def preprocess(self) -> LogMelPreprocess:
        return LogMelPreprocess(mean_level=self.mean_level, deviation=self.deviation, audio=self.audio)


def _build(config: DataConfig, clips: list[Clip], is_test: Tensor, state: Mapping[str, bytes]) -> Data:
    if not bool(is_test.any()) or bool(is_test.all()):
        raise ValueError(f"{config.name}: recordings are needed for training and for testing, got {len(clips)} in all")
    waveforms, words = torch.stack([clip.waveform for clip in clips]), _words_of([clip.name for clip in clips])
    kept = _Kept.from_state(state[STATE]) if STATE in state else _keep(waveforms[~is_test], words, config.audio)
    attributes = {name: _indices(words.get(name, []), values, name) for name, values in kept.values.items()}
    train, test = (
        _source(waveforms[part], {name: indices[part] for name, indices in attributes.items()}, config.audio)
        for part in (~is_test, is_test)
    )
    speakers = kept.values.get("speaker")
    return Data(
        name=config.name,
        train=train,
        test=test,
        preprocess=kept.preprocess(),
        kind="audio",
        label_names=kept.values.get("label"),
        fields=() if speakers is None else (ConditionField("speaker", speakers),),
        state={STATE: kept.to_state()},
    )


def _source(waveforms: Tensor, attributes: Mapping[str, Tensor], audio: AudioConfig) -> ClipSource:
    spectrogram = audio.spectrogram
    return ClipSource(waveforms, attributes, (1, spectrogram.num_mels, spectrogram.num_frames))


def _keep(waveforms: Tensor, words: Mapping[str, list[str]], audio: AudioConfig) -> _Kept:
    """Return mean and standard deviation over all values of the training set's spectrograms, and the known labels and
    speakers.
    """
    plain = LogMelPreprocess(audio=audio)
    parts = [plain.log_mel(waveforms[indices]).double() for indices in chunks(len(waveforms))]
    numbers = torch.cat(parts)
    deviation = float(numbers.std())
    if not (math.isfinite(deviation) and deviation > 0):
        raise ValueError("the recordings must differ, but all are equal or silent")
    values = {name: tuple(sorted(set(named))) for name, named in words.items()}
    return _Kept(mean_level=float(numbers.mean()), deviation=deviation, audio=audio, values=values)


def _words_of(names: list[str]) -> dict[str, list[str]]:
    """Return the attributes in the names of the recordings: label and speaker, label only, or none."""
    matches = [_NAME.fullmatch(Path(name).name) for name in names]
    if all(matches):
        return {part: [match[part] for match in matches if match] for part in ("label", "speaker")}
    if all("/" in name for name in names):
        return {"label": [name.split("/")[0] for name in names]}
    return {}


def _indices(words: list[str], values: tuple[str, ...], what: str) -> Tensor:
    places = {value: index for index, value in enumerate(values)}
    if unknown := sorted(set(words) - set(values)):
        raise ValueError(f"{what} {unknown[0]!r} is not among those that the run was trained on, {', '.join(values)}")
    return torch.tensor([places[word] for word in words])


def _read_folder(folder: Path, audio: AudioConfig, *, max_gib: float = math.inf) -> tuple[list[Clip], tuple[str, ...]]:
    """Every sound file of a folder and its sub-folders, sorted by path, and a line on what was read and skipped."""
    listing = list_folder(folder, EXTENSIONS)
    spectrogram = audio.spectrogram
    if 4 * spectrogram.num_samples * len(listing.paths) > max_gib * 2**30:
        raise ValueError(f"{folder}: {len(listing.paths)} recordings take more than {max_gib} GiB (--data.max-gib)")
    clips, numbers = [], Counter[str]()
    for path in listing.paths:
        recording = read_recording(path, spectrogram.sample_rate, spectrogram.num_samples, silence=audio.silence)
        clips.append(Clip(path.relative_to(folder).with_suffix("").as_posix(), recording.samples))
        numbers["cut"] += recording.is_cut
        numbers["skipped"] += recording.skipped_s > _HEARD_S
        numbers["late"] += 0.5 < recording.silence < 1
        numbers["silent"] += recording.silence == 1
    seconds = spectrogram.num_samples / spectrogram.sample_rate
    words = {
        "cut": f"longer than {seconds:.2f} s, of which the beginning is read",
        "skipped": "that begin with silence, which is skipped",
        "late": "silent for more than half of that (--data.audio.silence skip)",
        "silent": "silent",
    }
    details = [f"{numbers[what]:,} {text}" for what, text in words.items() if numbers[what]]
    return clips, (listing.line("recordings", details),)


def _read_archive(path: Path, audio: AudioConfig) -> list[Clip]:
    """Every WAV file of a tar archive, sorted by name; nothing is unpacked to the disk."""
    try:
        with tarfile.open(path) as archive:
            return sorted(_members(archive, path, audio), key=lambda clip: clip.name)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{path}: the archive is truncated or damaged ({_one_line(error)})") from None


def _members(archive: tarfile.TarFile, path: Path, audio: AudioConfig) -> Iterator[Clip]:
    spectrogram = audio.spectrogram
    for member in archive:
        if not (member.isfile() and member.name.endswith(".wav")):
            continue
        if member.size > _MAX_FILE_BYTES:
            raise ValueError(f"{path}: {member.name} has {member.size} bytes, the limit is {_MAX_FILE_BYTES}")
        file = archive.extractfile(member)
        assert file is not None  # a regular file
        content, name = io.BytesIO(file.read()), f"{path}, {member.name}"
        recording = read_recording(
            content, spectrogram.sample_rate, spectrogram.num_samples, name=name, silence=audio.silence
        )
        yield Clip(Path(member.name).stem, recording.samples)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
