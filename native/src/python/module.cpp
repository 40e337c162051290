// The Python module: arrays in and out, C++ errors as exceptions, the interpreter lock released during work.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>

#include "error.hpp"
#include "model/engine.hpp"
#include "model/roofline.hpp"
#include "model/sampling.hpp"
#include "python/encoder_bindings.hpp"
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

WeightFormat parse_weight_format(const std::string& name) {
    if (name == "q4") return WeightFormat::Q4;
    if (name == "q4-symmetric") return WeightFormat::Q4Symmetric;
    if (name == "q8") return WeightFormat::Q8;
    if (name == "float32") return WeightFormat::Float32;
    throw Error("Unknown weight format " + name + "; expected q4, q4-symmetric, q8 or float32.");
}

CacheFormat parse_cache_format(const std::string& name) {
    if (name == "bf16") return CacheFormat::Bfloat16;
    if (name == "q8") return CacheFormat::Int8;
    throw Error("Unknown cache format " + name + "; expected bf16 or q8.");
}

// `logits_needed` has 0 for no logits, 1 for those of the last token, 2 for all.
std::vector<Chunk> make_chunks(const std::vector<int64_t>& sequences, const std::vector<Tokens>& tokens,
                               const std::vector<int>& logits_needed) {
    if (sequences.size() != tokens.size() || sequences.size() != logits_needed.size()) {
        throw Error("A batch needs one token array and one number of logits for each sequence.");
    }
    std::vector<Chunk> chunks;
    for (size_t i = 0; i < sequences.size(); ++i) {
        if (logits_needed[i] < 0 || logits_needed[i] > 2)
            throw Error("The logits needed are 0 (none), 1 (last) or 2 (all).");
        chunks.push_back({sequences[i], {tokens[i].data(), tokens[i].size()}, LogitsNeeded(logits_needed[i])});
    }
    return chunks;
}

void forward(Engine& engine, const std::vector<int64_t>& sequences, const std::vector<Tokens>& tokens,
             const std::vector<int>& logits_needed, const Logits& logits) {
    const std::vector<Chunk> chunks = make_chunks(sequences, tokens, logits_needed);
    size_t rows = 0;
    for (const Chunk& chunk : chunks) rows += chunk.logit_rows();
    if (logits.shape(0) != rows || (rows > 0 && logits.shape(1) != engine.logit_stride())) {
        throw Error("The logits array has the wrong shape.");
    }
    nb::gil_scoped_release release;
    engine.check(chunks);
    engine.forward(chunks, logits.data());
}

}  // namespace

NB_MODULE(_native, module) {
    const auto error = nb::exception<Error>(module, "Error");
    nb::exception<CacheFullError>(module, "CacheFullError", error);
    nb::exception<NotFiniteError>(module, "NotFiniteError", error);
    nb::set_leak_warnings(false);  // objects may live until the process ends

    nb::class_<Memory>(module, "MappedFile")
        .def(
            "__init__",
            [](Memory* self, int descriptor) {
                nb::gil_scoped_release release;
                new (self) Memory(Memory::map_file(descriptor));
            },
            "descriptor"_a)
        .def_prop_ro("size_bytes", &Memory::size);

    nb::class_<Model>(module, "Model")
        .def(
            "__init__",
            [](Model* self, int n_layers, int dim, int n_heads, int n_kv_heads, int head_dim, int ffn_dim,
               int vocab_size, float norm_eps, int sliding_window, bool tie_embeddings) {
                new (self) Model(ModelConfig{n_layers, dim, n_heads, n_kv_heads, head_dim, ffn_dim, vocab_size,
                                             norm_eps, sliding_window, tie_embeddings});
            },
            nb::kw_only(), "n_layers"_a, "dim"_a, "n_heads"_a, "n_kv_heads"_a, "head_dim"_a, "ffn_dim"_a,
            "vocab_size"_a, "norm_eps"_a, "sliding_window"_a, "tie_embeddings"_a)
        .def(
            "allocate",
            [](Model& self, const std::string& name, const std::string& format, int rows, int cols) {
                self.allocate(name, parse_weight_format(format), rows, cols);
            },
            "name"_a, "format"_a, "rows"_a, "cols"_a)
        .def(
            "map",
            [](Model& self, const std::string& name, const std::string& format, int rows, int cols, const Memory& file,
               size_t offset) { self.map(name, parse_weight_format(format), rows, cols, file, offset); },
            "name"_a, "format"_a, "rows"_a, "cols"_a, "file"_a, "offset"_a)
        .def(
            "packed_bytes",
            [](const Model& self, const std::string& name) {
                const Memory& memory = self.matrix(name).memory;
                return Packed(memory.bytes(), {memory.size()}, nb::find(self));
            },
            "name"_a)
        .def(
            "pack",
            [](Model& self, const std::string& name, int first, int count, const std::string& type, const Bytes& data) {
                nb::gil_scoped_release release;
                self.pack(name, first, count, type, data.data(), data.size());
            },
            "name"_a, "first_row"_a, "num_rows"_a, "type"_a, "data"_a)
        .def(
            "set_norm",
            [](Model& self, const std::string& name, const Floats& values) {
                self.set_norm(name, values.data(), int(values.size()));
            },
            "name"_a, "values"_a)
        .def("weight_bytes", &Model::weight_bytes)
        .def("mapped_bytes", &Model::mapped_bytes)
        .def("decode_bytes", &Model::decode_bytes);

    nb::class_<LoraAdapter>(module, "LoraAdapter")
        .def(
            "__init__",
            [](LoraAdapter* self, std::shared_ptr<Model> model) { new (self) LoraAdapter(std::move(model)); },
            "model"_a)
        .def(
            "add",
            [](LoraAdapter& self, const std::string& name, int rank, const Floats& a, const Floats& b) {
                nb::gil_scoped_release release;
                self.add(name, rank, a.data(), a.size(), b.data(), b.size());
            },
            "name"_a, "rank"_a, "a"_a, "b"_a)
        .def("size_bytes", &LoraAdapter::bytes);

    nb::class_<Engine>(module, "Engine")
        .def(
            "__init__",
            [](Engine* self, std::shared_ptr<Model> model, const Floats& rope_frequencies, int threads,
               const std::string& instruction_set, const std::string& kv_cache, size_t max_cache_bytes) {
                new (self) Engine(std::move(model),
                                  {rope_frequencies.data(), rope_frequencies.data() + rope_frequencies.size()}, threads,
                                  instruction_set, max_cache_bytes, parse_cache_format(kv_cache));
            },
            nb::kw_only(), "model"_a, "rope_frequencies"_a, "threads"_a, "instruction_set"_a, "kv_cache"_a,
            "max_cache_bytes"_a)
        .def(
            "allocate",
            [](Engine& self, int capacity, std::shared_ptr<LoraAdapter> adapter) {
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
        .def("forward", &forward, "sequences"_a, "tokens"_a, "logits_needed"_a, "logits"_a)
        .def_prop_ro("logit_stride", &Engine::logit_stride)
        .def_prop_ro("cache_block_bytes", [](Engine& self) { return self.cache().block_bytes(); })
        .def_prop_ro("threads", &Engine::threads)
        .def_prop_ro("instruction_set", [](const Engine& self) { return std::string(self.ops().name); });

    bind_encoder(module);
    bind_tune(module);

    module.attr("layout_version") = kLayoutVersion;
    module.attr("max_threads") = ThreadPool::kMaxThreads;
    module.def(
        "matrix_bytes",
        [](const std::string& format, int rows, int cols) {
            return matrix_bytes(parse_weight_format(format), rows, cols);
        },
        "format"_a, "rows"_a, "cols"_a);
    module.def("available_instruction_sets", [] {
        const Ops* tables[8];
        const int count = available_ops(tables, 8);
        std::vector<std::string> names;
        for (int i = 0; i < count; ++i) names.emplace_back(tables[i]->name);
        return names;
    });
    module.def(
        "reference_instruction_set",
        [](const std::string& instruction_set) { return std::string(oracle_of(choose_ops(instruction_set))); },
        "instruction_set"_a);
    module.def(
        "sample",
        [](const Floats& logits, float temperature, int top_k, float top_p, float min_p, double uniform,
           const std::string& instruction_set) {
            const SamplingParams params = {temperature, top_k, top_p, min_p};
            return sample(choose_ops(instruction_set), {logits.data(), logits.size()}, params, uniform);
        },
        "logits"_a, "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "uniform"_a, "instruction_set"_a = "");
    module.def(
        "int8_throughput",
        [](const std::string& instruction_set, int threads, int rounds) {
            nb::gil_scoped_release release;
            return int8_throughput(choose_ops(instruction_set), threads, rounds);
        },
        "instruction_set"_a, "threads"_a, "rounds"_a);
    module.def("memory_bandwidth", &memory_bandwidth, "num_bytes"_a, "threads"_a, "rounds"_a,
               nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace empu
