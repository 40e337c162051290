"""What an exported file says of itself."""

from __future__ import annotations

from empu.specialist.export import about_file

BASE = {
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


def test_a_specialist_has_a_name_of_its_own_and_names_its_base() -> None:
    assert about_file(BASE, "router") == {
        "general.name": "router",
        "general.license": "apache-2.0",
        "general.size_label": "135M",
        "general.base_model.count": 1,
        "general.base_model.0.name": "Small",
        "general.base_model.0.organization": "Makers",
        "general.base_model.0.repo_url": "https://example.org/small",
        "tokenizer.ggml.model": "gpt2",
    }


def test_the_same_model_rounded_anew_stays_what_it_is() -> None:
    kept = about_file(BASE, None)
    assert kept == {k: v for k, v in BASE.items() if k not in ("general.quantized_by", "quantize.imatrix.file")}


def test_a_base_that_says_nothing_is_not_named() -> None:
    assert about_file({"general.architecture": "llama"}, "router") == {
        "general.architecture": "llama",
        "general.name": "router",
    }
