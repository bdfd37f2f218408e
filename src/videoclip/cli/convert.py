"""`videoclip convert`: released weights, features, captions and project files into our folders."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from videoclip.cli import options
from videoclip.config import ConvertKind, ConvertOptions, ReleasedSettings


@dataclass(frozen=True)
class Convert:
    """Convert released weights, features or captions into a folder that the other commands read.

    Takes checkpoints of VideoCLIP, VLM, TempCLR, Norton and SignCLIP (.pt); MIL-NCE S3D weights
    (.pth, with s3d_dict.npy beside them); BERT folders (config.json with model.safetensors or
    pytorch_model.bin), from which pre-training can start; folders of feature arrays (VIDEO_ID.npy
    or VIDEO_ID.mp4.npy), which become a feature store; pickled captions (.pkl); and project files
    of MMPT (.yaml), which become settings for --config. Nothing in a checkpoint or pickle is ever
    run.
    """

    source: Annotated[Path, Positional, arg(metavar="SOURCE")]
    """The checkpoint, captions or project file, or the folder of a BERT or of feature arrays."""
    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder to make; an existing feature store gets what is new."""
    kind: Annotated[ConvertKind, arg(name="as")] = "auto"
    """What the source is; auto: recognised by the names of files and tensors."""
    vocabulary: options.Vocabulary = None
    settings: Annotated[ReleasedSettings, arg(name="")] = field(default_factory=ReleasedSettings)
    details: Annotated[ConvertOptions, arg(name="")] = field(default_factory=ConvertOptions)
    json: options.Json = False

    def run(self) -> int:
        """Convert, and print what was made."""
        from videoclip.conversion import convert

        made = convert(
            self.source, self.folder, self.kind, self.vocabulary, self.settings, self.details
        )
        print(json.dumps(made.as_dict()) if self.json else made)
        return 0
