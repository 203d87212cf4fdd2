"""Sentences as a kind of data."""

from __future__ import annotations

from fastvae.data.kind import Form, Handlers, Kind


def _handlers() -> Handlers:
    from fastvae.data.text import corpus, sentences
    from fastvae.data.text.render import TextRenderer

    return Handlers(
        datasets={"sst2": sentences.load_sst2},
        forms=(
            Form(
                "a .txt file or a .tsv with a column named sentence",
                corpus.holds_sentences,
                sentences.load_sentences,
                sentences.read_text,
                suits=lambda path: path.is_file() and path.suffix in (".txt", ".tsv"),
            ),
        ),
        preprocess=sentences.TextPreprocess,
        restore=lambda state, described: sentences.restored_preprocess(state),
        read_object=sentences.read_texts,
        renderer=lambda data: TextRenderer(),
    )


KIND = Kind(name="text", datasets=("sst2",), options=("text",), load_handlers=_handlers)
