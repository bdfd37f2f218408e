"""InfoNCE in one direction, for fine-tuning: a softmax over the videos for each text."""

from functools import partial

from videoclip.model.losses import infonce

loss = partial(infonce.loss, direction="text_to_video")
