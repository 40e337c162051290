// LoraTransformer for Python.
#include "python/tune_bindings.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "error.hpp"
#include "tune/lora_transformer.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace empu {

namespace {

using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ResultTable = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void check_shape(bool fits) {
    if (!fits) throw Error("An array for tuning has the wrong shape.");
}

void forward(LoraTransformer& transformer, const Table& x, const Table& cosines, const Table& sines, int prefix,
             const std::vector<int>& lengths, const Floats& parameters, bool save_for_backward,
             const ResultTable& out) {
    int64_t tokens = prefix;
    for (int length : lengths) tokens += length;
    const size_t rows = x.shape(0), dim = size_t(transformer.config().dim),
                 head_dim = size_t(transformer.config().head_dim);
    check_shape(tokens == int64_t(rows) && x.shape(1) == dim && out.shape(0) == rows && out.shape(1) == dim);
    check_shape(cosines.shape(0) == rows && cosines.shape(1) == head_dim);
    check_shape(sines.shape(0) == rows && sines.shape(1) == head_dim);
    check_shape(parameters.size() == transformer.num_parameters());
    nb::gil_scoped_release release;
    transformer.forward(x.data(), {prefix, lengths, cosines.data(), sines.data()}, parameters.data(), save_for_backward,
                        out.data());
}

void backward(LoraTransformer& transformer, const Table& grad_out, const Result& gradients) {
    check_shape(grad_out.shape(1) == size_t(transformer.config().dim) &&
                grad_out.shape(0) == size_t(transformer.tokens()));
    check_shape(gradients.size() == transformer.num_parameters());
    nb::gil_scoped_release release;
    transformer.backward(grad_out.data(), gradients.data());
}

}  // namespace

void bind_tune(nb::module_& module) {
    nb::class_<LoraTransformer>(module, "LoraTransformer")
        .def(
            "__init__",
            [](LoraTransformer* self, int n_layers, int dim, int n_heads, int n_kv_heads, int head_dim, int ffn_dim,
               float norm_eps, int rank, float lora_scale, const std::array<bool, kNumProjections>& has_adapter,
               bool quantised, int threads, const std::string& instruction_set) {
                new (self) LoraTransformer(
                    TuneConfig{n_layers, dim, n_heads, n_kv_heads, head_dim, ffn_dim, rank, norm_eps, lora_scale,
                               has_adapter, quantised ? WeightFormat::Q8 : WeightFormat::Float32},
                    threads, instruction_set);
            },
            nb::kw_only(), "n_layers"_a, "dim"_a, "n_heads"_a, "n_kv_heads"_a, "head_dim"_a, "ffn_dim"_a, "norm_eps"_a,
            "rank"_a, "lora_scale"_a, "has_adapter"_a, "quantised"_a, "threads"_a, "instruction_set"_a)
        .def(
            "set_weight",
            [](LoraTransformer& self, int layer, int projection, const Floats& values) {
                nb::gil_scoped_release release;
                self.set_weight(layer, projection, values.data(), values.size());
            },
            "layer"_a, "projection"_a, "values"_a)
        .def(
            "set_norms",
            [](LoraTransformer& self, int layer, const Floats& attention, const Floats& ffn) {
                check_shape(attention.size() == ffn.size());
                self.set_norms(layer, attention.data(), ffn.data(), attention.size());
            },
            "layer"_a, "attention"_a, "ffn"_a)
        .def_prop_ro("num_parameters", &LoraTransformer::num_parameters)
        .def("forward", &forward, "x"_a, "cosines"_a, "sines"_a, "prefix"_a, "lengths"_a, "parameters"_a,
             "save_for_backward"_a, "out"_a)
        .def("backward", &backward, "grad_out"_a, "gradients"_a);
}

}  // namespace empu
