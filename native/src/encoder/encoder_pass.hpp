// One forward pass of the text encoder over a chunk of texts.
#pragma once

#include "encoder/workspace.hpp"

namespace empu {

// Texts whose tokens lie end to end, and the place of their vectors.
struct EncoderChunk {
    const int32_t* ids;
    std::span<const int32_t> lengths;
    int tokens;
    float* out;
};

// The threads that work on one chunk. A single thread needs no pool.
struct EncoderTeam {
    int thread, threads;
    ThreadPool* pool;
};

// The heads that attention computes at a time: the fewest whose columns fill whole groups.
struct AttentionUnit {
    int heads, columns;
};
AttentionUnit attention_unit(const EncoderConfig& config);

class EncoderPass {
  public:
    EncoderPass(Encoder& encoder, EncoderWorkspace& workspace, const EncoderChunk& chunk, const EncoderTeam& team);
    void run();

  private:
    Range thread_range(int count) const { return empu::thread_range(count, team_.thread, team_.threads); }
    void barrier() const {
        if (team_.threads > 1) team_.pool->barrier();
    }
    float* x(int token) const;
    void embed_tokens();
    void attention(const EncoderLayer& layer);
    void project_unit(const EncoderLayer& layer, int unit);
    void attend_text(int first, int length, int column);
    void store_block(int first, int count, int column);
    void feed_forward(const EncoderLayer& layer);
    void add_product(const Matrix& matrix, const Activations& input);
    void norm(const std::vector<float>& bias, const std::vector<float>& weight, const std::vector<float>& shift);
    void pool_texts() const;

    const Encoder& encoder_;
    const EncoderConfig& config_;
    const Ops& ops_;
    EncoderWorkspace& workspace_;
    EncoderScratch& scratch_;
    const EncoderChunk& chunk_;
    const EncoderTeam team_;
    const AttentionUnit unit_;
    const Activations input_, attention_, hidden_;
};

}  // namespace empu
