// What one pass over at most `kPassTokens` tokens works on. Allocated once; only the partial results grow with
// contexts.
#pragma once

#include "model/engine.hpp"

namespace empu {

inline constexpr int kPassTokens = 256;
inline constexpr int kAlone = 2;  // up to so many tokens, every thread prepares all activations for itself: no barrier
inline constexpr int kTileTokens = 16;  // tokens of one sequence that attend together

// Neighbouring tokens of one sequence.
struct Run {
    const Sequence* sequence;
    int first;  // in the pass
    int count;
    int position;  // of the first token
    int slots;     // where its partial results begin, for a run of one token
};

// Neighbouring tokens with one adapter.
struct Segment {
    const Adapter* adapter;
    int first;
    int count;
};

struct Token {
    int32_t id;
    int position;
    int run;
};

// A piece of attention. For a run of one token: one block of one key/value head, `index` counting blocks. For a longer
// run: all blocks for `kTileTokens` tokens of one key/value head, `index` counting such tiles.
struct Piece {
    int run;
    int head;
    int index;
    int64_t cost;  // of this piece and all before it
};

struct Engine::Pass {
    std::vector<Token> tokens;
    std::vector<Run> runs;
    std::vector<Segment> segments;  // of tokens that have an adapter
    std::vector<Piece> pieces;
    std::vector<int> wanted;  // tokens whose logits are asked for
    float* logits = nullptr;
    bool long_runs = false;
    int slots = 0;

    int size() const { return int(tokens.size()); }
    // The next token has this adapter, or none.
    void adapt(const Adapter* adapter) {
        if (!adapter) return;
        if (!segments.empty() && segments.back().adapter == adapter &&
            segments.back().first + segments.back().count == size()) {
            ++segments.back().count;
        } else {
            segments.push_back({adapter, size(), 1});
        }
    }
};

// Room for activations of some tokens, floats and quantised, lent out as Rows of any width up to `widest`.
class RowMemory {
  public:
    RowMemory(int tokens, int widest);
    Rows rows(int cols, bool fine = false);

  private:
    Memory floats_, numbers_, scales_, sums_, totals_, tiled_;
};

// What one thread scribbles on.
struct Scratch {
    explicit Scratch(const Shape& shape);
    RowMemory rows;
    std::array<RowMemory, 3> lowered;  // what adapters make of the activations, for matrices that share them
    Memory queries, values;
    std::vector<float> largest, weight;
    std::vector<int> low, high;
};

struct Engine::Workspace {
    Workspace(const Shape& shape, int threads);

    int x_stride, q_stride, kv_stride, ffn_stride, width;  // width: of a head, padded
    Memory x, q, k, v, attended, hidden, up;
    RowMemory rows, hidden_rows;
    std::array<RowMemory, 3> lowered;
    std::vector<Scratch> scratch;
    Memory partial_values;
    std::vector<float> partial_largest, partial_weight;
};

}  // namespace empu
