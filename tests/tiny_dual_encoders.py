"""Dual encoders of every family, tiny and random, with real tokenizers and image processors.

`save(family, folder)` writes one as `transformers` writes it. Vocabularies are made on the fly.
"""

import io
import json
import string

import sentencepiece
import torch
import transformers
from tokenizers import processors

LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = LAYERS | {"intermediate_size": 24, "image_size": 32, "patch_size": 16}
TEXT = LAYERS | {"intermediate_size": 24, "max_position_embeddings": 12}
SENTENCES = (
    "a dog runs on the grass",
    "the cook cuts an onion",
    "two people talk in a car",
    "a red ball, and a blue one",
)
LETTERS = string.ascii_letters + string.digits + ".,!'"


def clip_tokenizer():
    pieces = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{x}</w>" for x in LETTERS)]
    merges = [("o", "n</w>"), ("d", "o"), ("do", "g</w>")]
    pieces += ["".join(pair) for pair in merges]
    return transformers.CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, model_max_length=12
    )


def bert_tokenizer():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *LETTERS, *(f"##{x}" for x in LETTERS), "dog", "onion", "the"]
    return transformers.BertTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=12
    )


def roberta_tokenizer():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*special, "\u2581", *LETTERS, "\u2581dog", "\u2581the", "<mask>"]
    return transformers.XLMRobertaTokenizer(
        vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], model_max_length=12
    )


def gemma_tokenizer(kind=None, **settings):
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    merges = [("d", "o"), ("do", "g")]
    pieces = [*special, "\u2581", *LETTERS, *("".join(pair) for pair in merges)]
    return (kind or transformers.GemmaTokenizer)(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, **settings
    )


def sentencepiece_tokenizer(folder):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 5),
        model_writer=model,
        vocab_size=30,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    return transformers.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=12)


def _end(tokenizer):
    """Return the special ids of a tokenizer as a text config names them."""
    names = ("pad_token_id", "eos_token_id", "bos_token_id")
    return {name: getattr(tokenizer, name) for name in names}


def clip(folder, config=transformers.CLIPConfig, model=transformers.CLIPModel, **vision):
    tokenizer = clip_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer)} | _end(tokenizer)
    made = config(text_config=text, vision_config=VISION | vision, projection_dim=12)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return model(made), processor, tokenizer


def metaclip_2(folder):
    tokenizer = roberta_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "projection_dim": 12} | _end(tokenizer)
    config = transformers.MetaClip2Config(
        text_config=text, vision_config=VISION | {"projection_dim": 12}, projection_dim=12
    )
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return transformers.MetaClip2Model(config), processor, tokenizer


def siglip(folder, tokenizer=None):
    tokenizer = tokenizer or sentencepiece_tokenizer(folder)
    config = transformers.SiglipConfig(
        text_config=TEXT | {"vocab_size": len(tokenizer), "projection_size": 16},
        vision_config=VISION,
    )
    processor = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return transformers.SiglipModel(config), processor, tokenizer


def siglip2_fixed(folder):
    """SigLIP 2 at one resolution: the network of SigLIP, the tokenizer of Gemma."""
    tokenizer = gemma_tokenizer(
        add_bos_token=False, add_eos_token=True, padding_side="right", model_max_length=12
    )
    return siglip(folder, tokenizer)


def align(folder):
    tokenizer = bert_tokenizer()
    vision = {"image_size": 32, "hidden_dim": 16, "in_channels": [32, 16], "out_channels": [16, 16]}
    vision |= {"kernel_sizes": [3, 3], "strides": [1, 2], "num_block_repeats": [1, 1]}
    vision |= {"expand_ratios": [1, 2], "width_coefficient": 1.0, "depth_coefficient": 1.0}
    config = transformers.AlignConfig(
        text_config=TEXT | {"vocab_size": len(tokenizer), "pad_token_id": 0},
        vision_config=vision,
        projection_dim=16,
        temperature_init_value=0.05,
    )
    processor = transformers.EfficientNetImageProcessorPil(
        size={"height": 40, "width": 40},
        crop_size={"height": 32, "width": 32},
        do_center_crop=True,
        resample=2,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=True,
    )
    return transformers.AlignModel(config), processor, tokenizer


def altclip(folder):
    tokenizer = roberta_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "project_dim": 12} | _end(tokenizer)
    text |= {"max_position_embeddings": 14}
    config = transformers.AltCLIPConfig(
        text_config=text, vision_config=VISION | {"projection_dim": 12}, projection_dim=12
    )
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return transformers.AltCLIPModel(config), processor, tokenizer


def chinese_clip(folder):
    tokenizer = bert_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "pad_token_id": 0}
    config = transformers.ChineseCLIPConfig(
        text_config=text, vision_config=VISION, projection_dim=12
    )
    processor = transformers.ChineseCLIPImageProcessorPil(
        size={"height": 32, "width": 32}, do_center_crop=False
    )
    return transformers.ChineseCLIPModel(config), processor, tokenizer


def blip(folder):
    tokenizer = bert_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "encoder_hidden_size": 16, "pad_token_id": 0}
    config = transformers.BlipConfig(
        text_config=text | {"is_decoder": False, "bos_token_id": 2, "sep_token_id": 3},
        vision_config=VISION,
        projection_dim=12,
    )
    processor = transformers.BlipImageProcessorPil(size={"height": 32, "width": 32})
    return transformers.BlipModel(config), processor, tokenizer


def aimv2(folder):
    return clip(folder, transformers.Aimv2Config, transformers.Aimv2Model)


def siglip2(folder):
    """SigLIP 2 at any aspect ratio (NaFlex)."""
    tokenizer = gemma_tokenizer(
        transformers.Siglip2Tokenizer, padding_side="right", model_max_length=12
    )
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    config = transformers.Siglip2Config(
        text_config=TEXT | {"vocab_size": len(tokenizer), "projection_size": 16},
        vision_config=LAYERS | {"intermediate_size": 24, "num_patches": 16, "patch_size": 8},
    )
    processor = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=20)
    return transformers.Siglip2Model(config), processor, tokenizer


def xclip(folder):
    vision = {"num_frames": 4, "mit_hidden_size": 12, "mit_intermediate_size": 16}
    vision |= {"mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
    model, _, tokenizer = clip(folder, transformers.XCLIPConfig, _xclip_model, **vision)
    processor = transformers.VideoMAEImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return model, processor, tokenizer


def _xclip_model(config):
    config.prompt_num_attention_heads = 2
    return transformers.XCLIPModel(config)


def tiny_videomae(folder):
    config = transformers.VideoMAEConfig(**VISION, num_frames=16, tubelet_size=2)
    processor = transformers.VideoMAEImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return _written(transformers.VideoMAEModel(config), folder), processor.save_pretrained(folder)


def tiny_vjepa2(folder):
    config = transformers.VJEPA2Config(
        **LAYERS, crop_size=32, patch_size=16, frames_per_clip=8, pred_hidden_size=12
    )
    config.pred_num_attention_heads, config.pred_num_hidden_layers = 2, 1
    settings = {"size": {"shortest_edge": 36}, "crop_size": 32, "do_center_crop": True}
    settings |= {"image_mean": [0.5, 0.4, 0.5], "image_std": [0.2, 0.3, 0.2]}
    settings |= {"video_processor_type": "VJEPA2VideoProcessor", "resample": 2}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(settings))
    return _written(transformers.VJEPA2Model(config), folder), settings


def _written(model, folder):
    model.eval().save_pretrained(folder)
    return model


FAMILIES = {
    "clip": clip,
    "metaclip_2": metaclip_2,
    "siglip": siglip,
    "siglip2_fixed": siglip2_fixed,
    "align": align,
    "altclip": altclip,
    "chinese_clip": chinese_clip,
    "blip": blip,
    "aimv2": aimv2,
    "siglip2": siglip2,
}
"""By name: a function that returns network, image processor and tokenizer."""
VIDEO_FAMILIES = {"xclip": xclip}
"""The same of those whose frame side takes clips."""


def save(family, folder, seed=0):
    """Write a tiny model of a family; return network, image processor and tokenizer."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model, processor, tokenizer = (FAMILIES | VIDEO_FAMILIES)[family](folder)
    model = model.eval()
    for name, parameter in model.named_parameters():
        if "logit" not in name and "temperature" not in name:
            torch.nn.init.normal_(parameter, std=0.3)  # their own starts make all images alike
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, processor, tokenizer
