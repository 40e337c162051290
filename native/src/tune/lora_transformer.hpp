// The transformer's blocks with their gradients, for tuning low-rank adapters beside frozen weights.
//
// Frozen weights and what they multiply are 8-bit numbers (or, to compare with, floats) in groups of 32, once by row for
// the way forward, there in 4 bits where these hold them exactly, and once transposed for the way back; everything else,
// the adapters included, is in 32-bit floats. Documents of a batch lie end to end behind a prefix that all of them see.
// Each thread owns a fixed part of the tokens, so the same batch on the same machine with as many threads gives the same
// bits.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "model/model.hpp"
#include "kernels/ops.hpp"
#include "model/thread_pool.hpp"
#include "kernels/tune_ops.hpp"

namespace empu {

struct TuneShape {
    int layers, dim, heads, kv_heads, head_dim, ffn_dim, rank;
    float norm_eps;
    float scale;                          // of the adapters' product
    std::array<bool, kParts> adapted;
    Kind kind = Kind::Q8;  // of the frozen weights: Q8, or Float32, which rounds nothing

    int inputs(int target) const;
    int outputs(int target) const;
    int padded_rank() const { return round_up(rank, kLanes); }
    int q_dim() const { return heads * head_dim; }
    int kv_dim() const { return kv_heads * head_dim; }
};

// A batch: `prefix` tokens, then documents of `lengths` tokens. Cosines and sines are (tokens, head_dim) as
// TuneOps::rotate takes them.
struct TuneBatch {
    int prefix = 0;
    std::vector<int> lengths;
    const float* cosines = nullptr;
    const float* sines = nullptr;
};

class Tuner {
  public:
    // Throws Error for a shape whose sizes are not whole groups.
    Tuner(const TuneShape& shape, int threads, const std::string& ops);

    // Weights (outputs, inputs) of one layer in float32.
    void set_weight(int layer, int target, const float* values, size_t count);
    void set_norms(int layer, const float* attention, const float* ffn, size_t count);

    // Numbers of all adapters: for each layer and adapted target A (rank, inputs), then B (outputs, rank).
    size_t parameters() const { return parameters_; }
    const TuneShape& shape() const { return shape_; }
    int tokens() const { return tokens_; }  // of the last forward

    // out (tokens, dim) from x (tokens, dim). With `keep`, what `back` needs is kept until the next call.
    void forward(const float* x, const TuneBatch& batch, const float* parameters, bool keep, float* out);
    // Gradients of all parameters for g (tokens, dim), the gradient of the last kept forward's out, used up by this.
    void back(const float* g, float* gradients);

    struct Scratch;

  private:
    friend class TuneWalk;

    struct Block {
        std::array<Matrix, kParts> ahead, back;
        std::vector<float> attention_norm, ffn_norm;
    };
    // One adapter in the four forms that products read; rank is padded with zeros.
    struct Low {
        std::vector<float> a, a_turned, b, b_turned;  // (R, in), (in, R), scale * (out, R), scale * (R, out)
        size_t at;                                    // of A in the parameters; B follows
    };
    struct Item {
        int start, length, ahead, head;
        int64_t cost;  // of this item and those before it
    };
    struct Kept {
        std::vector<Memory> x, middle, q, k, v, attended, log_sums, gate, up;  // one for each layer
        std::vector<std::array<Memory, kParts>> low;
    };

    void plan(const TuneBatch& batch);
    void reserve(int tokens, int layers);
    void read_parameters(int layer, const float* parameters);
    void write_gradients(int layer, float* gradients);

    TuneShape shape_;
    const Ops& ops_;
    const TuneOps& verbs_;
    Pool pool_;
    std::vector<Block> blocks_;
    std::vector<std::array<Low, kParts>> lows_;
    size_t parameters_ = 0;

    int tokens_ = 0;
    int longest_ = 0;
    int prefix_ = 0;
    bool kept_valid_ = false;
    std::vector<Item> items_;
    std::vector<float> cosines_, sines_;
    int reserved_tokens_ = 0, reserved_layers_ = 0;
    Kept kept_;
    Memory dx_, dq_, dk_, dv_, dattended_;
    std::vector<std::vector<std::array<std::array<std::vector<float>, 2>, kParts>>> gradients_;  // by thread, layer
    std::vector<std::unique_ptr<Scratch>> scratch_;

  public:
    ~Tuner();
};

}  // namespace empu
