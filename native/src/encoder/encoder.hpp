// BERT text encoder: token ids in, one unit vector per text out.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/ops.hpp"
#include "model/matrix.hpp"
#include "model/thread_pool.hpp"

namespace empu {

struct EncoderConfig {
    int layers, dim, heads, ffn_dim, vocab_size, positions;
    float norm_eps;

    int head_dim() const { return dim / heads; }
    void check() const;  // throws Error
};

struct EncoderLayer {
    Matrix query, key, value, output, up, down;
    // The bias of the keys is left out: it adds the same number to all scores of a query, which the softmax removes.
    std::vector<float> query_bias, value_bias, output_bias, up_bias, down_bias;
    std::vector<float> attention_norm, attention_norm_bias, output_norm, output_norm_bias;
};

struct EncoderWorkspace;

// A model and what it needs to run. One thread at a time may use it.
//
// The vector of a text depends on its token ids only: it has the same bits alone or in any batch, with any number of
// threads and any instruction set, except AMX, which sums attention in another order.
class Encoder {
  public:
    // Throws Error for an impossible shape, and for one that the kernels do not support: widths must be multiples of
    // 32 and heads of an even width.
    Encoder(const EncoderConfig& config, int threads, std::string_view instruction_set);
    ~Encoder();

    const EncoderConfig& config() const { return config_; }
    const Ops& ops() const { return ops_; }
    int threads() const { return pool_.threads(); }
    size_t weight_bytes() const;

    // Use the word embeddings at `data` (vocab_size rows of F32, F16, Q8_0 or Q4_0), which must stay there: rows are
    // unpacked when they are needed. Throws Error.
    void set_word_embeddings(std::string_view type, const uint8_t* data, size_t bytes);
    // Sum of the position and the token type embeddings: (positions, dim).
    void set_position_embeddings(const float* values, size_t count);
    // Pack a matrix of a layer: query, key, value, output, up or down. Q4_0, Q4_1, Q4_K and Q8_0 are kept exactly, F32
    // is rounded to 8 bits in groups of 32. Throws Error.
    void set_matrix(int layer, std::string_view name, std::string_view type, const uint8_t* data, size_t bytes);
    // Set a vector by the name of its member in EncoderLayer; `embedding_norm` and `embedding_norm_bias` belong to no
    // layer (-1). Throws Error.
    void set_vector(int layer, std::string_view name, const float* values, size_t count);

    // Write the unit vectors of texts to `out` (texts, dim). `ids` has the ids of all texts end to end, `lengths` the
    // number of each text's ids. Throws Error for missing weights, and for empty texts, too long ones and unknown ids.
    void embed(std::span<const int32_t> ids, std::span<const int32_t> lengths, float* out);

  private:
    friend class EncoderPass;
    void check_complete();
    void check_texts(std::span<const int32_t> ids, std::span<const int32_t> lengths) const;
    std::vector<float>& vector(int layer, std::string_view name);
    EncoderWorkspace& workspace(int index);

    EncoderConfig config_;
    const Ops& ops_;
    ThreadPool pool_;
    std::mutex mutex_;
    const uint8_t* words_ = nullptr;
    size_t word_row_bytes_ = 0;
    void (*unpack_words_)(const uint8_t* row, int values, float* out) = nullptr;
    std::vector<float> positions_, embedding_norm_, embedding_norm_bias_;
    std::vector<EncoderLayer> layers_;
    bool is_complete_ = false;
    std::vector<std::unique_ptr<EncoderWorkspace>> workspaces_;
};

}  // namespace empu
