"""Metadata of exported GGUF files."""

from __future__ import annotations

from empu.specialist.gguf_metadata import exported_metadata

BASE_METADATA = {
    "general.name": "Small",
    "general.organization": "Makers",
    "general.repo_url": "https://example.org/small",
    "general.license": "apache-2.0",
    "general.size_label": "135M",
    "general.base_model.count": 1,
    "general.base_model.0.name": "Smaller",
    "general.quantized_by": "Somebody",
    "quantize.imatrix.file": "calibration.dat",
    "tokenizer.ggml.model": "gpt2",
}


def test_a_specialist_has_its_own_name_and_names_its_base_model() -> None:
    assert exported_metadata(BASE_METADATA, "router") == {
        "general.name": "router",
        "general.license": "apache-2.0",
        "general.size_label": "135M",
        "general.base_model.count": 1,
        "general.base_model.0.name": "Small",
        "general.base_model.0.organization": "Makers",
        "general.base_model.0.repo_url": "https://example.org/small",
        "tokenizer.ggml.model": "gpt2",
    }


def test_the_same_model_in_another_type_keeps_its_metadata() -> None:
    kept = exported_metadata(BASE_METADATA, None)
    assert kept == {
        k: v for k, v in BASE_METADATA.items() if k not in ("general.quantized_by", "quantize.imatrix.file")
    }


def test_a_base_model_without_metadata_is_not_named() -> None:
    assert exported_metadata({"general.architecture": "llama"}, "router") == {
        "general.architecture": "llama",
        "general.name": "router",
    }
