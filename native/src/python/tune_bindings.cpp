// The tuner for Python.
#include "python/tune_bindings.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "tune/lora_transformer.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace empu {

namespace {

using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ResultTable = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void expect(bool fits) {
    if (!fits) throw Error("An array for tuning has the wrong shape.");
}

void forward(Tuner& tuner, const Table& x, const Table& cosines, const Table& sines, int prefix,
             const std::vector<int>& lengths, const Floats& parameters, bool keep, const ResultTable& out) {
    int64_t tokens = prefix;
    for (int length : lengths) tokens += length;
    const size_t rows = x.shape(0), dim = size_t(tuner.shape().dim), turned = size_t(tuner.shape().head_dim);
    expect(tokens == int64_t(rows) && x.shape(1) == dim && out.shape(0) == rows && out.shape(1) == dim);
    expect(cosines.shape(0) == rows && cosines.shape(1) == turned);
    expect(sines.shape(0) == rows && sines.shape(1) == turned);
    expect(parameters.size() == tuner.parameters());
    nb::gil_scoped_release unlocked;
    tuner.forward(x.data(), {prefix, lengths, cosines.data(), sines.data()}, parameters.data(), keep, out.data());
}

void back(Tuner& tuner, const Table& g, const Result& gradients) {
    expect(g.shape(1) == size_t(tuner.shape().dim) && g.shape(0) == size_t(tuner.tokens()));
    expect(gradients.size() == tuner.parameters());
    nb::gil_scoped_release unlocked;
    tuner.back(g.data(), gradients.data());
}

}  // namespace

void bind_tune(nb::module_& module) {
    nb::class_<Tuner>(module, "Tuner")
        .def(
            "__init__",
            [](Tuner* self, int layers, int dim, int heads, int kv_heads, int head_dim, int ffn_dim, float norm_eps,
               int rank, float scale, const std::array<bool, kParts>& adapted, bool rounded, int threads,
               const std::string& ops) {
                new (self) Tuner(
                    TuneShape{layers, dim, heads, kv_heads, head_dim, ffn_dim, rank, norm_eps, scale, adapted,
                              rounded ? Kind::Q8 : Kind::Float32},
                    threads, ops);
            },
            nb::kw_only(), "layers"_a, "dim"_a, "heads"_a, "kv_heads"_a, "head_dim"_a, "ffn_dim"_a, "norm_eps"_a,
            "rank"_a, "scale"_a, "adapted"_a, "rounded"_a, "threads"_a, "ops"_a)
        .def(
            "set_weight",
            [](Tuner& self, int layer, int target, const Floats& values) {
                nb::gil_scoped_release unlocked;
                self.set_weight(layer, target, values.data(), values.size());
            },
            "layer"_a, "target"_a, "values"_a)
        .def(
            "set_norms",
            [](Tuner& self, int layer, const Floats& attention, const Floats& ffn) {
                expect(attention.size() == ffn.size());
                self.set_norms(layer, attention.data(), ffn.data(), attention.size());
            },
            "layer"_a, "attention"_a, "ffn"_a)
        .def_prop_ro("parameters", &Tuner::parameters)
        .def("forward", &forward, "x"_a, "cosines"_a, "sines"_a, "prefix"_a, "lengths"_a, "parameters"_a, "keep"_a,
             "out"_a)
        .def("back", &back, "g"_a, "gradients"_a);
}

}  // namespace empu
