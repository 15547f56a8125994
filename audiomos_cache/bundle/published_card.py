"""`README.md` of a bundle of a published head; `card.py` has that of heads that were trained here."""

from typing import TYPE_CHECKING

from audiomos_cache.bundle.card import check_section, encoder_section, table
from audiomos_cache.bundle.front_matter import front_matter, on_hub
from audiomos_cache.bundle.manifest import PublishedManifest
from audiomos_cache.published.catalogue import PublishedBundle

if TYPE_CHECKING:
    from audiomos_cache.scoring.check_report import Check

_USE = """\
## How to use it

    audiomos-cache score song.wav --bundle model/

```python
from audiomos_cache import Scorer

Scorer("model").score(["song.wav"])
```

`model/` is this folder, or the id of the hub repository that holds it."""


def published_card(entry: PublishedBundle, manifest: PublishedManifest, check: "Check | str") -> str:
    """Write the card, in Markdown; the same bundle gives the same text; `check` is that of `card.model_card`."""
    rows = [
        (each.name, f"{each.lowest:g} to {each.highest:g}", "yes" if each.clipped else "no")
        for each in manifest.targets
    ]
    base_models = [*([entry.repository] if entry.repository else []), *on_hub([manifest.encoders.audio])]
    sections = [
        front_matter(manifest.licence.id, base_models),
        f"# {entry.name}: {entry.summary}\n\nThe head of {entry.paper}, as it was published at {entry.address}, for "
        f"`audiomos-cache`. It hears {entry.heard}.",
        "\n\n".join(["## What the scores mean", *entry.meaning]),
        _USE,
        "## Targets\n\n" + table(("target", "scale", "kept within it"), rows),
        f"## Evaluation\n\nIn domain: {entry.in_domain}.\n\nOut of domain: {entry.out_of_domain}.",
        check_section(check),
        encoder_section([("audio", manifest.encoders.audio)], manifest.fingerprint.xxh3_128),
        f"## Licence\n\n{manifest.licence.notice}",
    ]
    return "\n\n".join(sections) + "\n"
