"""InfoNCE in one direction, for fine-tuning: a softmax over the texts for each video."""

from functools import partial

from videoclip.model.losses import infonce

loss = partial(infonce.loss, direction="video_to_text")
