// Encoder for Python.
#include "python/encoder_bindings.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include "encoder/encoder.hpp"
#include "error.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace empu {

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Vectors = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void embed(Encoder& encoder, const Integers& ids, const Integers& lengths, const Vectors& out) {
    if (out.shape(0) != lengths.size() || out.shape(1) != size_t(encoder.config().dim)) {
        throw Error("The array for the vectors has the wrong shape.");
    }
    nb::gil_scoped_release release;
    encoder.embed({ids.data(), ids.size()}, {lengths.data(), lengths.size()}, out.data());
}

}  // namespace

void bind_encoder(nb::module_& module) {
    nb::class_<Encoder>(module, "Encoder")
        .def(
            "__init__",
            [](Encoder* self, int layers, int dim, int heads, int ffn_dim, int vocab_size, int positions,
               float norm_eps, int threads, const std::string& instruction_set) {
                new (self) Encoder({layers, dim, heads, ffn_dim, vocab_size, positions, norm_eps}, threads,
                                   instruction_set);
            },
            nb::kw_only(), "layers"_a, "dim"_a, "heads"_a, "ffn_dim"_a, "vocab_size"_a, "positions"_a, "norm_eps"_a,
            "threads"_a, "instruction_set"_a)
        .def(
            "set_word_embeddings",  // the array stays alive as long as the encoder
            [](Encoder& self, const std::string& type, const Bytes& data) {
                self.set_word_embeddings(type, data.data(), data.size());
            },
            "type"_a, "data"_a, nb::keep_alive<1, 3>())
        .def(
            "set_position_embeddings",
            [](Encoder& self, const Floats& values) { self.set_position_embeddings(values.data(), values.size()); },
            "values"_a)
        .def(
            "set_matrix",
            [](Encoder& self, int layer, const std::string& name, const std::string& type, const Bytes& data) {
                nb::gil_scoped_release release;
                self.set_matrix(layer, name, type, data.data(), data.size());
            },
            "layer"_a, "name"_a, "type"_a, "data"_a)
        .def(
            "set_vector",
            [](Encoder& self, int layer, const std::string& name, const Floats& values) {
                self.set_vector(layer, name, values.data(), values.size());
            },
            "layer"_a, "name"_a, "values"_a)
        .def("embed", &embed, "ids"_a, "lengths"_a, "out"_a)
        .def("weight_bytes", &Encoder::weight_bytes)
        .def_prop_ro("threads", &Encoder::threads)
        .def_prop_ro("instruction_set", [](const Encoder& self) { return std::string(self.ops().name); });
}

}  // namespace empu
