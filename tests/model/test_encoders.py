"""The towers: padding never matters, packing changes nothing, BERT is BERT."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from videoclip.errors import ConfigError, DataError
from videoclip.model.transformer import Packing

video_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=5)
text_lengths = st.lists(st.integers(0, 11), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(video_lengths, text_lengths, st.booleans())
def test_packed_equals_padded(video_lens, text_lens, shared):
    config = replace(TINY, shared_encoder=shared)
    packed, padded = make_model(config), make_model(config, packed=False)
    video, text = make_video(video_lens, 9), make_text(text_lens, 11)
    torch.testing.assert_close(
        packed.encode_video(*video), padded.encode_video(*video), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        packed.encode_text(*text), padded.encode_text(*text), atol=1e-5, rtol=0
    )


def test_packed_gradients_equal_padded():
    gradients = []
    for packed in (True, False):
        model = make_model(packed=packed)
        video = model.encode_video(*make_video([1, 9, 4], 9))
        text = model.encode_text(*make_text([0, 11, 3], 11))
        (video * text).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        scale = gradients[1][name].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(gradient / scale, gradients[1][name] / scale, atol=1e-4, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 11), st.sampled_from(["mean", "cls", "plain_mean"]))
def test_padding_never_changes_an_embedding(num_features, num_words, pooling):
    model = make_model(replace(TINY, pooling=pooling))
    video, video_mask = make_video([num_features], 9)
    text, text_mask = make_text([num_words], 11)
    junk = torch.where(video_mask[..., None], video, torch.full_like(video, float("nan")))
    short_video = model.encode_video(video[:, :num_features], video_mask[:, :num_features])
    short_text = model.encode_text(text[:, :num_words], text_mask[:, :num_words])
    torch.testing.assert_close(model.encode_video(junk, video_mask), short_video)
    torch.testing.assert_close(model.encode_text(text, text_mask), short_text)


def test_tokens_are_masked_and_normalised():
    model = make_model(replace(TINY, normalize=True))
    tokens = model.video_tokens(*make_video([2, 9], 9))
    assert tokens.shape == (2, 9, 16)
    assert (tokens[0, 2:] == 0).all()
    torch.testing.assert_close(tokens[1].norm(dim=-1), torch.ones(9))


def test_hidden_cls_changes_tokens_but_not_their_number():
    model = make_model()
    video = make_video([5], 9)
    with_cls, without = model.video_tokens(*video), model.video_tokens(*video, attend_cls=False)
    assert with_cls.shape == without.shape
    assert not torch.allclose(with_cls, without)


def test_shared_encoder_has_one_set_of_weights():
    model = make_model(replace(TINY, shared_encoder=True))
    assert model.video_encoder.bert is model.text_encoder.bert


@pytest.mark.parametrize("packed", [True, False])
def test_text_tower_equals_transformers_bert(packed):
    transformers = pytest.importorskip("transformers")
    model = make_model(packed=packed)
    ours = model.text_encoder.bert
    theirs = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=40,
        ),
        add_pooling_layer=False,
    ).eval()
    state = dict(
        zip(
            ("word_embeddings", "position_embeddings", "token_type_embeddings"),
            (ours.word_embeddings, ours.position_embeddings, ours.type_embeddings),
            strict=True,
        )
    )
    with torch.no_grad():
        for name, table in state.items():
            getattr(theirs.embeddings, name).weight.copy_(table.weight)
        theirs.embeddings.LayerNorm.load_state_dict(ours.embedding_norm.state_dict())
        for layer, own in zip(theirs.encoder.layer, ours.layers, strict=True):
            attention = layer.attention
            weights, biases = own.qkv.weight.chunk(3), own.qkv.bias.chunk(3)
            parts = (attention.self.query, attention.self.key, attention.self.value)
            for part, weight, bias in zip(parts, weights, biases, strict=True):
                part.weight.copy_(weight)
                part.bias.copy_(bias)
            attention.output.dense.load_state_dict(own.attention_out.state_dict())
            attention.output.LayerNorm.load_state_dict(own.attention_norm.state_dict())
            layer.intermediate.dense.load_state_dict(own.feed_in.state_dict())
            layer.output.dense.load_state_dict(own.feed_out.state_dict())
            layer.output.LayerNorm.load_state_dict(own.feed_norm.state_dict())
        text, mask = make_text([0, 11, 4], 11)
        encoded = model.text_encoder(text, mask)
        ids = torch.zeros(3, 13, dtype=torch.long)
        for row, length in enumerate([0, 11, 4]):
            ids[row, : length + 2] = torch.tensor([1, *text[row, :length].tolist(), 2])
        expected = theirs(ids, attention_mask=encoded.mask.long()).last_hidden_state
    torch.testing.assert_close(
        encoded.hidden[encoded.mask], expected[encoded.mask], atol=1e-5, rtol=0
    )


def test_packing_is_a_round_trip():
    mask = torch.tensor([[True, False, True], [False, True, False]])
    packing = Packing(mask)
    x = torch.randn(2, 3, 4)
    assert packing.pack(x).shape == (3, 4)
    torch.testing.assert_close(packing.unpack(packing.pack(x)), x * mask[..., None])


def test_wrong_input_is_named():
    model = make_model()
    with pytest.raises(ConfigError, match="width 11, but the model takes 12"):
        model.encode_video(torch.zeros(1, 3, 11), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ConfigError, match="at most 9: split"):
        model.encode_video(torch.zeros(1, 10, 12), torch.ones(1, 10, dtype=torch.bool))
    with pytest.raises(ConfigError, match=r"video must be \(B, T, D\)"):
        model.encode_video(torch.zeros(3, 12), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(DataError, match="no features"):
        model.encode_video(torch.zeros(1, 3, 12), torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ConfigError, match="at most 11: cut"):
        model.encode_text(*make_text([12], 12))
    with pytest.raises(ConfigError, match=r"must both be \(B, L\)"):
        model.encode_text(torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 4, dtype=torch.bool))
    video, mask = make_video([2, 9], 9)
    with pytest.raises(ConfigError, match=r"video_mask is of torch\.int64: give True where real"):
        model.encode_video(video, mask.long())
    with pytest.raises(ConfigError, match="text_mask is of"):
        model.encode_text(*(x.long() for x in make_text([3], 11)))
    video[1, 3, 0] = torch.nan
    for embed in (model.encode_video, model.video_tokens):
        with pytest.raises(DataError, match="NaN or infinite values: extract them again"):
            embed(video, mask)
