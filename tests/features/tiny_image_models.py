"""Image models of every kind, tiny and random, in folders as `transformers` writes them."""

import json

import transformers

CLIP_PROCESSOR = {
    "size": {"shortest_edge": 32},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "resample": 3,
}
SQUARE_PROCESSOR = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3} | {
    "image_std": [0.5] * 3,
    "resample": 2,
}
LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = LAYERS | {"intermediate_size": 24, "image_size": 32, "patch_size": 16}
TEXT = LAYERS | {"intermediate_size": 24, "vocab_size": 40, "max_position_embeddings": 8}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cut", "the", "onion", "stir"]


def clip():
    config = transformers.CLIPConfig(
        text_config=TEXT | {"eos_token_id": 3}, vision_config=VISION, projection_dim=12
    )
    return transformers.CLIPModel(config), CLIP_PROCESSOR, 12


def siglip():
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)
    return transformers.SiglipModel(config), SQUARE_PROCESSOR, 16


def vit():
    return transformers.ViTModel(transformers.ViTConfig(**VISION)), SQUARE_PROCESSOR, 16


def dinov2():
    config = transformers.Dinov2Config(**(LAYERS | {"image_size": 32, "patch_size": 16}))
    return transformers.Dinov2Model(config), CLIP_PROCESSOR, 16


def resnet():
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]
    )
    processor = {"size": {"shortest_edge": 28}, "crop_pct": 0.875, "resample": 3}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    return transformers.ResNetModel(config), processor, 20


def save(model, processor, folder):
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder
