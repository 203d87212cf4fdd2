"""Recordings as a kind of data."""

from __future__ import annotations

from fastvae.data.kind import Form, Handlers, Kind


def _handlers() -> Handlers:
    from fastvae.data.audio import recordings
    from fastvae.data.audio.preprocess import LogMelPreprocess
    from fastvae.data.audio.render import AudioRenderer

    return Handlers(
        datasets={"spoken-digits": recordings.load_spoken_digits},
        forms=(
            Form(
                "a folder of recordings",
                recordings.holds_recordings,
                recordings.load_own_recordings,
                recordings.read_recordings,
            ),
        ),
        preprocess=LogMelPreprocess,
        restore=lambda state, described: recordings.restored_preprocess(state),
        renderer=lambda data: AudioRenderer(),
    )


KIND = Kind(name="audio", datasets=("spoken-digits",), options=("audio",), load_handlers=_handlers)
