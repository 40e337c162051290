// The only file that knows Python: arrays in, arrays out, errors as exceptions, the interpreter lock released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>

#include "model/engine.hpp"
#include "model/roofline.hpp"
#include "model/sampling.hpp"
#include "python/tune_bindings.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace empu {

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Tokens = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Packed = nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>>;
using Logits = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

Kind kind_called(const std::string& name) {
    if (name == "q4") return Kind::Q4;
    if (name == "q4-symmetric") return Kind::Q4Symmetric;
    if (name == "q8") return Kind::Q8;
    if (name == "float32") return Kind::Float32;
    throw Error("There is no kind of matrix called " + name + ".");
}

CacheKind cache_called(const std::string& name) {
    if (name == "bf16") return CacheKind::Bfloat;
    if (name == "q8") return CacheKind::Small;
    throw Error("There is no kind of cache called " + name + ".");
}

// `wants` has 0 for no logits, 1 for the last token's, 2 for all.
std::vector<Chunk> chunks(const std::vector<int64_t>& sequences, const std::vector<Tokens>& tokens,
                          const std::vector<int>& wants) {
    if (sequences.size() != tokens.size() || sequences.size() != wants.size()) {
        throw Error("A batch needs as many token arrays and wants as sequences.");
    }
    std::vector<Chunk> batch;
    for (size_t i = 0; i < sequences.size(); ++i) {
        if (wants[i] < 0 || wants[i] > 2) throw Error("A want is 0, 1 or 2.");
        batch.push_back({sequences[i], {tokens[i].data(), tokens[i].size()}, Want(wants[i])});
    }
    return batch;
}

void forward(Engine& engine, const std::vector<int64_t>& sequences, const std::vector<Tokens>& tokens,
             const std::vector<int>& wants, const Logits& logits) {
    const std::vector<Chunk> batch = chunks(sequences, tokens, wants);
    size_t rows = 0;
    for (const Chunk& chunk : batch) rows += chunk.logit_rows();
    if (logits.shape(0) != rows || (rows > 0 && logits.shape(1) != engine.logit_stride())) {
        throw Error("The array for the logits has the wrong shape.");
    }
    nb::gil_scoped_release unlocked;
    engine.check(batch);
    engine.forward(batch, logits.data());
}

}  // namespace

NB_MODULE(_native, module) {
    const auto error = nb::exception<Error>(module, "Error");
    nb::exception<NoRoom>(module, "NoRoomError", error);
    nb::exception<NotFinite>(module, "NotFiniteError", error);
    nb::set_leak_warnings(false);  // objects that live until the process ends are no fault

    nb::class_<Memory>(module, "FileMemory")
        .def(
            "__init__",
            [](Memory* self, int descriptor) {
                nb::gil_scoped_release unlocked;
                new (self) Memory(Memory::of_file(descriptor));
            },
            "descriptor"_a)
        .def_prop_ro("bytes", &Memory::size);

    nb::class_<Model>(module, "Model")
        .def(
            "__init__",
            [](Model* self, int layers, int dim, int heads, int kv_heads, int head_dim, int ffn_dim, int vocabulary,
               float norm_eps, int window, bool tied) {
                new (self)
                    Model(Shape{layers, dim, heads, kv_heads, head_dim, ffn_dim, vocabulary, norm_eps, window, tied});
            },
            nb::kw_only(), "layers"_a, "dim"_a, "heads"_a, "kv_heads"_a, "head_dim"_a, "ffn_dim"_a, "vocabulary"_a,
            "norm_eps"_a, "window"_a, "tied"_a)
        .def(
            "make",
            [](Model& self, const std::string& name, const std::string& kind, int rows, int cols) {
                self.make(name, kind_called(kind), rows, cols);
            },
            "name"_a, "kind"_a, "rows"_a, "cols"_a)
        .def(
            "map",
            [](Model& self, const std::string& name, const std::string& kind, int rows, int cols, const Memory& file,
               size_t offset) { self.map(name, kind_called(kind), rows, cols, file, offset); },
            "name"_a, "kind"_a, "rows"_a, "cols"_a, "file"_a, "offset"_a)
        .def(
            "packed",
            [](const Model& self, const std::string& name) {
                const Memory& memory = self.matrix(name).memory;
                return Packed(memory.bytes(), {memory.size()}, nb::find(self));
            },
            "name"_a)
        .def(
            "pack",
            [](Model& self, const std::string& name, int first, int count, const std::string& type, const Bytes& data) {
                nb::gil_scoped_release unlocked;
                self.pack(name, first, count, type, data.data(), data.size());
            },
            "name"_a, "first"_a, "count"_a, "type"_a, "data"_a)
        .def(
            "set_norm",
            [](Model& self, const std::string& name, const Floats& values) {
                self.set_norm(name, values.data(), int(values.size()));
            },
            "name"_a, "values"_a)
        .def("weight_bytes", &Model::weight_bytes)
        .def("mapped_bytes", &Model::mapped_bytes)
        .def("read_bytes", &Model::read_bytes);

    nb::class_<Adapter>(module, "Adapter")
        .def(
            "__init__", [](Adapter* self, std::shared_ptr<Model> model) { new (self) Adapter(std::move(model)); },
            "model"_a)
        .def(
            "add",
            [](Adapter& self, const std::string& name, int rank, const Floats& a, const Floats& b) {
                nb::gil_scoped_release unlocked;
                self.add(name, rank, a.data(), a.size(), b.data(), b.size());
            },
            "name"_a, "rank"_a, "a"_a, "b"_a)
        .def("bytes", &Adapter::bytes);

    nb::class_<Engine>(module, "Engine")
        .def(
            "__init__",
            [](Engine* self, std::shared_ptr<Model> model, const Floats& frequencies, int threads,
               const std::string& ops, const std::string& cache, size_t cache_limit) {
                new (self) Engine(std::move(model), {frequencies.data(), frequencies.data() + frequencies.size()},
                                  threads, ops, cache_limit, cache_called(cache));
            },
            nb::kw_only(), "model"_a, "frequencies"_a, "threads"_a, "ops"_a, "cache"_a, "cache_limit"_a)
        .def(
            "allocate",
            [](Engine& self, int capacity, std::shared_ptr<Adapter> adapter) {
                return self.allocate(capacity, std::move(adapter));
            },
            "capacity"_a, "adapter"_a.none() = nb::none())
        .def(
            "release", [](Engine& self, int64_t id) { self.cache().release(id); }, "sequence"_a)
        .def(
            "fork",
            [](Engine& self, int64_t id, int length, int capacity) { return self.cache().fork(id, length, capacity); },
            "sequence"_a, "length"_a, "capacity"_a)
        .def(
            "length", [](Engine& self, int64_t id) { return self.cache().at(id).length; }, "sequence"_a)
        .def(
            "truncate", [](Engine& self, int64_t id, int length) { self.cache().truncate(id, length); }, "sequence"_a,
            "length"_a)
        .def("forward", &forward, "sequences"_a, "tokens"_a, "wants"_a, "logits"_a)
        .def_prop_ro("logit_stride", &Engine::logit_stride)
        .def_prop_ro("cache_block_bytes", [](Engine& self) { return self.cache().block_bytes(); })
        .def_prop_ro("threads", &Engine::threads)
        .def_prop_ro("ops", [](const Engine& self) { return std::string(self.ops().name); });

    bind_tune(module);

    module.attr("layout_version") = kLayoutVersion;
    module.attr("most_threads") = Pool::kMost;
    module.def(
        "matrix_bytes",
        [](const std::string& kind, int rows, int cols) { return matrix_bytes(kind_called(kind), rows, cols); },
        "kind"_a, "rows"_a, "cols"_a);
    module.def("available_ops", [] {
        const Ops* tables[8];
        const int count = available_ops(tables, 8);
        std::vector<std::string> names;
        for (int i = 0; i < count; ++i) names.emplace_back(tables[i]->name);
        return names;
    });
    module.def(
        "oracle_of", [](const std::string& ops) { return std::string(oracle_of(choose_ops(ops))); }, "ops"_a);
    module.def(
        "draw",
        [](const Floats& logits, float temperature, int top_k, float top_p, float min_p, double uniform,
           const std::string& ops) {
            const Filters filters = {temperature, top_k, top_p, min_p};
            return draw(choose_ops(ops), {logits.data(), logits.size()}, filters, uniform);
        },
        "logits"_a, "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "uniform"_a, "ops"_a = "");
    module.def(
        "product_rate",
        [](const std::string& ops, int threads, int rounds) {
            nb::gil_scoped_release unlocked;
            return product_rate(choose_ops(ops), threads, rounds);
        },
        "ops"_a, "threads"_a, "rounds"_a);
    module.def("read_bandwidth", &read_bandwidth, "bytes"_a, "threads"_a, "rounds"_a,
               nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace empu
