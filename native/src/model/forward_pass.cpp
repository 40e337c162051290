// The transformer, verb by verb, as every thread runs it.
#include "model/forward_pass.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>

namespace empu {

namespace {

// Where other programs keep the processors busy, threads that meet several times a layer wait for each other most of
// the time, and one thread is faster. The results are the same bits.
constexpr int kFewTokens = 16;       // more of them are so much work between two meetings that the waits matter less
constexpr int kStalledPercent = 25;  // of a pass
constexpr int kCrowded = 4;        // points: two for a stalled pass, one back for another; a single hiccup is no crowd
constexpr int kLongestAlone = 64;  // passes, before all threads are tried again

// Of a token that attends alone, for one head; the last block takes the token's own key and value in.
constexpr int kBlockCost = 4, kLastBlockCost = 7;

bool takes_numbers(const Matrix& matrix) { return matrix.kind != Kind::Float32; }

// One thread's walk through a pass. Threads meet at `pool.wait()`; between two meetings each writes only its own part.
class Walk {
  public:
    Walk(const Model& model, const Ops& ops, Pool& pool, const Cache& cache, const float* cosines, const float* sines,
         Engine::Pass& pass, Engine::Workspace& work, int thread)
        : model_(model),
          shape_(model.shape),
          ops_(ops),
          pool_(pool),
          cache_(cache),
          cosines_(cosines),
          sines_(sines),
          pass_(pass),
          work_(work),
          mine_(work.scratch[size_t(thread)]),
          thread_(thread),
          tokens_(pass.size()) {}

    void run() {
        embed();
        for (int i = 0; i < shape_.layers; ++i) {
            project(i);
            attend(i);
            add_attended(i);
            feed_forward(i);
        }
        predict();
    }

  private:
    Share my(int count) const { return share(count, thread_, pool_.running()); }
    float* x(int token) const { return work_.x.as<float>() + size_t(token) * size_t(work_.x_stride); }

    void embed() {
        const Share part = my(tokens_);
        for (int t = part.begin; t < part.end; ++t) unpack_row(model_.embedding, pass_.tokens[size_t(t)].id, x(t));
        pool_.wait();
    }

    // Fills rows 0 to count - 1 with `fill(rows, row)`: few of them by every thread for itself, many by all together.
    template <typename Fill>
    Rows prepare(int cols, int count, const Fill& fill, bool fine = false) {
        if (count <= kAlone) {
            const Rows rows = mine_.rows.rows(cols, fine);
            for (int row = 0; row < count; ++row) fill(rows, row);
            return rows;
        }
        const Rows rows = work_.rows.rows(cols, fine);
        const Share part = my(count);
        for (int row = part.begin; row < part.end; ++row) fill(rows, row);
        pool_.wait();
        return rows;
    }

    void quantise_row(const Rows& rows, int row) {
        ops_.quantise(rows.floats + size_t(row) * size_t(rows.stride), rows, row, 0, rows.groups());
    }

    void normalise(const Rows& rows, int row, int token, const std::vector<float>& weight, bool numbers) {
        float* out = rows.floats + size_t(row) * size_t(rows.stride);
        ops_.rms_norm(x(token), weight.data(), shape_.dim, shape_.norm_eps, out);
        if (numbers) quantise_row(rows, row);
    }

    void multiply(const Matrix& matrix, const Rows& rows, int count, float* out, size_t ld, Store store) {
        const Share part = my(matrix.tiles);
        ops_.multiply({&matrix, part.begin, part.end}, rows, count, out, ld, store);
    }

    // Room for what the adapter of a segment makes of its tokens.
    Rows low_rows(int slot, const Segment& segment, const Matrix& b) {
        Rows rows = (tokens_ <= kAlone ? mine_.lowered : work_.lowered)[size_t(slot)].rows(b.cols);
        const size_t first = size_t(segment.first) * kMaxRank;
        rows.floats += first;
        rows.numbers += first;
        rows.scales += first / kGroup;
        rows.sums += first / kGroup;
        rows.totals += first / kGroup;
        rows.tiled = nullptr;
        return rows;
    }

    // The first half of the adapters' products with `rows`, for matrices that share them: slot i for the i-th of
    // `parts`.
    void lower(int layer, std::initializer_list<Part> parts, const Rows& rows) {
        if (pass_.segments.empty()) return;
        const Share part = tokens_ <= kAlone ? Share{0, tokens_} : my(tokens_);
        int slot = 0;
        for (const Part which : parts) {
            for (const Segment& segment : pass_.segments) lower(layer, which, slot, segment, rows, part);
            ++slot;
        }
        if (tokens_ > kAlone) pool_.wait();
    }

    void lower(int layer, Part which, int slot, const Segment& segment, const Rows& rows, const Share& part) {
        const LowRank& low = segment.adapter->at(layer, which);
        const int begin = std::max(segment.first, part.begin);
        const int count = std::min(segment.first + segment.count, part.end) - begin;
        if (!low.present() || count <= 0) return;
        const Rows out = beginning_at(low_rows(slot, segment, low.b), begin - segment.first);
        std::fill_n(out.floats, size_t(count) * size_t(out.stride), 0.0f);
        ops_.multiply({&low.a, 0, low.a.tiles}, beginning_at(rows, begin), count, out.floats, size_t(out.stride),
                      Store::Set);
        if (!takes_numbers(low.b)) return;
        for (int t = 0; t < count; ++t) quantise_row(out, t);
    }

    // The second half, added to tiles [begin, end) of what the model's own matrix gave.
    void add_low(int layer, Part which, int slot, int begin, int end, float* out, size_t ld) {
        for (const Segment& segment : pass_.segments) {
            const LowRank& low = segment.adapter->at(layer, which);
            if (!low.present()) continue;
            ops_.multiply({&low.b, begin, end}, low_rows(slot, segment, low.b), segment.count,
                          out + size_t(segment.first) * ld, ld, Store::Add);
        }
    }

    // A product of all tokens with a matrix and what adapters add to it.
    void adapted(int layer, Part which, int slot, const Matrix& matrix, const Rows& rows, float* out, size_t ld,
                 Store store) {
        multiply(matrix, rows, tokens_, out, ld, store);
        const Share part = my(matrix.tiles);
        add_low(layer, which, slot, part.begin, part.end, out, ld);
    }

    void project(int index) {
        const Layer& layer = model_.layers[size_t(index)];
        const bool numbers = takes_numbers(layer.q) || takes_numbers(layer.k) || takes_numbers(layer.v);
        const Rows rows = prepare(shape_.dim, tokens_,
                                  [&](const Rows& to, int t) { normalise(to, t, t, layer.attention_norm, numbers); });
        const size_t q_stride = size_t(work_.q_stride), kv_stride = size_t(work_.kv_stride);
        lower(index, {kQ, kK, kV}, rows);
        adapted(index, kQ, 0, layer.q, rows, work_.q.as<float>(), q_stride, Store::Set);
        adapted(index, kK, 1, layer.k, rows, work_.k.as<float>(), kv_stride, Store::Set);
        adapted(index, kV, 2, layer.v, rows, work_.v.as<float>(), kv_stride, Store::Set);
        pool_.wait();
    }

    const float* cosines(int position) const { return cosines_ + size_t(position) * size_t(shape_.head_dim / 2); }
    const float* sines(int position) const { return sines_ + size_t(position) * size_t(shape_.head_dim / 2); }

    void remember(int layer, int t, int head) {
        const Token& token = pass_.tokens[size_t(t)];
        const size_t at = size_t(t) * size_t(work_.kv_stride) + size_t(head) * size_t(shape_.head_dim);
        const Sequence& sequence = *pass_.runs[size_t(token.run)].sequence;
        const float* value = work_.v.as<float>() + at;
        float turned[kMostHeadDim];
        ops_.rotate(work_.k.as<float>() + at, cosines(token.position), sines(token.position), shape_.head_dim / 2, 1.0f,
                    turned);
        if (cache_.kind() == CacheKind::Small) {
            const Cache::SmallSlot slot = cache_.small_slot(sequence, token.position, layer, head);
            int8_t key_numbers[kMostHeadDim], value_numbers[kMostHeadDim];
            ops_.to_small(turned, shape_.head_dim, key_numbers, slot.key_scale);
            ops_.to_small(value, shape_.head_dim, value_numbers, slot.value_scale);
            put(key_numbers, value_numbers, slot.key, slot.value);
        } else {
            const Cache::Slot slot = cache_.slot(sequence, token.position, layer, head);
            uint16_t key_numbers[kMostHeadDim], value_numbers[kMostHeadDim];
            ops_.to_bfloat(turned, shape_.head_dim, key_numbers);
            ops_.to_bfloat(value, shape_.head_dim, value_numbers);
            put(key_numbers, value_numbers, slot.key, slot.value);
        }
    }

    // Puts key and value of one position, (head_dim,) each, into a block.
    template <typename Number>
    void put(const Number* key, const Number* value, Number* key_slot, Number* value_slot) const {
        for (int d = 0; d < shape_.head_dim; d += 2) {
            std::memcpy(key_slot + size_t(d / 2) * Cache::kKeyStep, key + d, 2 * sizeof(Number));
        }
        for (int d = 0; d < shape_.head_dim; ++d) value_slot[2 * d] = value[d];
    }

    void attend_to(const Sequence& sequence, int block, int layer, int head, const uint16_t* queries, int count,
                   const Partial& out, Store store) {
        const int *low = mine_.low.data(), *high = mine_.high.data();
        if (cache_.kind() == CacheKind::Small) {
            ops_.attend_small(queries, shape_.head_dim, count, cache_.small_block(sequence, block, layer, head),
                              shape_.head_dim, low, high, out, store);
        } else {
            ops_.attend(queries, shape_.head_dim, count, cache_.block(sequence, block, layer, head), shape_.head_dim,
                        low, high, out, store);
        }
    }

    void rotate_queries(int t, int kv_head, uint16_t* out) {
        const Token& token = pass_.tokens[size_t(t)];
        const float factor = float(1.4426950408889634 / std::sqrt(double(shape_.head_dim)));  // scores to base 2
        for (int i = 0; i < shape_.group(); ++i, out += shape_.head_dim) {
            const int head = kv_head * shape_.group() + i;
            const float* q = work_.q.as<float>() + size_t(t) * size_t(work_.q_stride) + size_t(head * shape_.head_dim);
            float turned[kMostHeadDim];
            ops_.rotate(q, cosines(token.position), sines(token.position), shape_.head_dim / 2, factor, turned);
            ops_.to_bfloat(turned, shape_.head_dim, out);
        }
    }

    int first_seen(int position) const { return shape_.window > 0 ? std::max(0, position - shape_.window + 1) : 0; }

    void attend(int layer) {
        if (pass_.long_runs) {
            const Share part = my(tokens_ * shape_.kv_heads);
            for (int i = part.begin; i < part.end; ++i) remember(layer, i / shape_.kv_heads, i % shape_.kv_heads);
            pool_.wait();
        }
        const int64_t total = pass_.pieces.back().cost;
        const int64_t from = total * thread_ / pool_.running(), to = total * (thread_ + 1) / pool_.running();
        int run = -1;
        for (const Piece& piece : pass_.pieces) {
            if (piece.cost <= from) continue;
            if (piece.cost > to) break;
            if (pass_.runs[size_t(piece.run)].count > 1) {
                attend_tile(layer, piece);
                run = -1;
                continue;
            }
            if (piece.run != run) {
                run = piece.run;
                for (int head = 0; head < shape_.kv_heads; ++head) {
                    rotate_queries(pass_.runs[size_t(run)].first, head, queries_of(head));
                }
            }
            attend_block(layer, piece);
        }
        pool_.wait();
    }

    Partial partial(int slot) {
        const size_t at = size_t(slot) * size_t(shape_.group());
        return {work_.partial_largest.data() + at, work_.partial_weight.data() + at,
                work_.partial_values.as<float>() + at * size_t(work_.width)};
    }

    // One block for the only token of a run; its last block takes the token's own key and value first.
    void attend_block(int layer, const Piece& piece) {
        const Run& run = pass_.runs[size_t(piece.run)];
        const int begin = piece.index * kBlockKeys;
        const int low = std::max(first_seen(run.position) - begin, 0);
        const int high = std::min(run.position + 1 - begin, kBlockKeys);
        if (!pass_.long_runs && run.position < begin + kBlockKeys) remember(layer, run.first, piece.head);
        for (int i = 0; i < shape_.group(); ++i) {
            mine_.low[size_t(i)] = low;
            mine_.high[size_t(i)] = high;
        }
        attend_to(*run.sequence, piece.index, layer, piece.head, queries_of(piece.head), shape_.group(),
                  partial(slot_of(run, piece.head, piece.index)), Store::Set);
    }

    uint16_t* queries_of(int kv_head) {
        return mine_.queries.as<uint16_t>() + kv_head * shape_.group() * shape_.head_dim;
    }

    int slot_of(const Run& run, int head, int block) const {
        const int first = first_seen(run.position) / kBlockKeys, blocks = run.position / kBlockKeys + 1 - first;
        return run.slots + head * blocks + block - first;
    }

    // All blocks, in order, for some tokens of a longer run.
    void attend_tile(int layer, const Piece& piece) {
        const Run& run = pass_.runs[size_t(piece.run)];
        const int begin = run.first + piece.index * kTileTokens;
        const int count = std::min(kTileTokens, run.first + run.count - begin);
        const int group = shape_.group(), queries = count * group;
        const int position = run.position + begin - run.first;
        for (int t = 0; t < count; ++t) {
            rotate_queries(begin + t, piece.head, mine_.queries.as<uint16_t>() + t * group * shape_.head_dim);
        }
        const Partial sum = {mine_.largest.data(), mine_.weight.data(), mine_.values.as<float>()};
        nothing_seen(sum, queries, work_.width);
        for (int block = first_seen(position) / kBlockKeys; block * kBlockKeys < position + count; ++block) {
            for (int i = 0; i < queries; ++i) {
                const int own = position + i / group;
                mine_.low[size_t(i)] = std::max(first_seen(own) - block * kBlockKeys, 0);
                mine_.high[size_t(i)] = std::min(own + 1 - block * kBlockKeys, kBlockKeys);
            }
            attend_to(*run.sequence, block, layer, piece.head, mine_.queries.as<uint16_t>(), queries, sum, Store::Add);
        }
        for (int i = 0; i < queries; ++i) {
            const int head = piece.head * group + i % group;
            ops_.finish(one_of(sum, i), shape_.head_dim,
                        work_.attended.as<float>() + size_t(begin + i / group) * size_t(work_.q_stride) +
                            size_t(head * shape_.head_dim));
        }
    }

    Partial one_of(const Partial& many, int i) const {
        return {many.largest + i, many.weight + i, many.values + size_t(i) * size_t(work_.width)};
    }

    // Another thread wrote half of them: they are asked for before their turn.
    void fetch_partials(const Run& run, int head, int first, int last) {
        for (int block = first; block <= last; ++block) {
            const float* values =
                one_of(partial(slot_of(run, head / shape_.group(), block)), head % shape_.group()).values;
            for (int d = 0; d < work_.width; d += kLanes) __builtin_prefetch(values + d);
        }
    }

    // The partial results of one token's blocks, added in the order of the blocks.
    void merge_blocks(const Run& run, float* out) {
        const int first = first_seen(run.position) / kBlockKeys, last = run.position / kBlockKeys;
        for (int head = 0; head < shape_.heads; ++head) {
            const int kv_head = head / shape_.group(), i = head % shape_.group();
            const Partial sum = {mine_.largest.data(), mine_.weight.data(), mine_.values.as<float>()};
            *sum.weight = 0;
            if (head + 1 < shape_.heads) fetch_partials(run, head + 1, first, last);
            for (int block = first; block <= last; ++block) {
                ops_.merge(sum, one_of(partial(slot_of(run, kv_head, block)), i), shape_.head_dim);
            }
            ops_.finish(sum, shape_.head_dim, out + head * shape_.head_dim);
        }
    }

    void add_attended(int index) {
        const Layer& layer = model_.layers[size_t(index)];
        const Rows rows = prepare(shape_.q_dim(), tokens_, [&](const Rows& to, int t) {
            const Run& run = pass_.runs[size_t(pass_.tokens[size_t(t)].run)];
            float* out = to.floats + size_t(t) * size_t(to.stride);
            if (run.count > 1) {
                std::copy_n(work_.attended.as<float>() + size_t(t) * size_t(work_.q_stride), shape_.q_dim(), out);
            } else {
                merge_blocks(run, out);
            }
            if (takes_numbers(layer.o)) quantise_row(to, t);
        });
        lower(index, {kO}, rows);
        adapted(index, kO, 0, layer.o, rows, work_.x.as<float>(), size_t(work_.x_stride), Store::Add);
        pool_.wait();
    }

    void feed_forward(int index) {
        const Layer& layer = model_.layers[size_t(index)];
        const bool numbers = takes_numbers(layer.gate) || takes_numbers(layer.up);
        const Rows rows =
            prepare(shape_.dim, tokens_, [&](const Rows& to, int t) { normalise(to, t, t, layer.ffn_norm, numbers); });
        lower(index, {kGate, kUp}, rows);
        Rows hidden = work_.hidden_rows.rows(shape_.ffn_dim);
        hidden.floats = work_.hidden.as<float>();
        if (takes_numbers(layer.down)) {
            const Share part = my(shape_.ffn_dim / kGroup);
            for (int group = part.begin; group < part.end; ++group) {
                gated(index, rows, 2 * group, 2 * group + 2);
                for (int t = 0; t < tokens_; ++t) {
                    ops_.quantise(hidden.floats + size_t(t) * size_t(hidden.stride) + size_t(group * kGroup), hidden, t,
                                  group, group + 1);
                }
            }
        } else {
            const Share part = my(layer.gate.tiles);
            gated(index, rows, part.begin, part.end);
        }
        pool_.wait();
        lower(index, {kDown}, hidden);
        adapted(index, kDown, 0, layer.down, hidden, work_.x.as<float>(), size_t(work_.x_stride), Store::Add);
        pool_.wait();
    }

    void gated(int index, const Rows& rows, int begin, int end) {
        const Layer& layer = model_.layers[size_t(index)];
        float* out = work_.hidden.as<float>();
        const size_t ld = size_t(work_.ffn_stride);
        if (layer.gate.kind == layer.up.kind && pass_.segments.empty()) {
            return ops_.multiply_gated({&layer.gate, begin, end}, layer.up, rows, tokens_, out, ld);
        }
        float* up = work_.up.as<float>();
        ops_.multiply({&layer.gate, begin, end}, rows, tokens_, out, ld, Store::Set);
        ops_.multiply({&layer.up, begin, end}, rows, tokens_, up, ld, Store::Set);
        add_low(index, kGate, 0, begin, end, out, ld);
        add_low(index, kUp, 1, begin, end, up, ld);
        for (int t = 0; t < tokens_; ++t) {
            const size_t at = size_t(t) * ld + size_t(begin * kLanes);
            ops_.gate(out + at, up + at, (end - begin) * kLanes);
        }
    }

    void predict() {
        const int count = int(pass_.wanted.size());
        if (count == 0) return;
        const Matrix& output = model_.output_matrix();
        const auto fill = [&](const Rows& to, int row) {
            normalise(to, row, pass_.wanted[size_t(row)], model_.norm, takes_numbers(output));
        };
        // Rounding straight before the logits is three tenths of what all rounding does to them; so it is done finely.
        const Rows rows = prepare(shape_.dim, count, fill, true);
        multiply(output, rows, count, pass_.logits, size_t(output.tiles) * kLanes, Store::Set);
    }

    const Model& model_;
    const Shape& shape_;
    const Ops& ops_;
    Pool& pool_;
    const Cache& cache_;
    const float* cosines_;
    const float* sines_;
    Engine::Pass& pass_;
    Engine::Workspace& work_;
    Scratch& mine_;
    int thread_;
    int tokens_;
};

}  // namespace

void Engine::run_pass(Pass& pass) {
    const Shape& shape = model_->shape;
    for (const Run& run : pass.runs) pass.long_runs |= run.count > 1;
    int64_t cost = 0;
    for (size_t r = 0; r < pass.runs.size(); ++r) {
        Run& run = pass.runs[r];
        const int seen_from = shape.window > 0 ? std::max(0, run.position - shape.window + 1) : 0;
        const int first = seen_from / kBlockKeys, last = run.position / kBlockKeys;
        if (run.count == 1) {  // in the order of memory
            for (int block = first; block <= last; ++block) {
                for (int head = 0; head < shape.kv_heads; ++head) {
                    cost += block < last ? kBlockCost : kLastBlockCost;
                    pass.pieces.push_back({int(r), head, block, cost});
                }
            }
        } else {
            for (int head = 0; head < shape.kv_heads; ++head) {
                for (int tile = 0; tile * kTileTokens < run.count; ++tile) {
                    const int tokens = std::min(kTileTokens, run.count - tile * kTileTokens);
                    const int end = run.position + tile * kTileTokens + tokens;
                    const int begin = shape.window > 0 ? std::max(0, end - tokens - shape.window + 1) : 0;
                    cost += int64_t{tokens} * ((end - 1) / kBlockKeys - begin / kBlockKeys + 1);
                    pass.pieces.push_back({int(r), head, tile, cost});
                }
            }
        }
        run.slots = pass.slots;
        if (run.count == 1) pass.slots += shape.kv_heads * (last - first + 1);
    }
    const size_t partials = size_t(pass.slots) * size_t(shape.group());
    if (work_->partial_weight.size() < partials) {
        work_->partial_values = Memory(partials * size_t(work_->width) * sizeof(float));
        work_->partial_largest.resize(partials);
        work_->partial_weight.resize(partials);
    }
    const int threads = choose_threads(pass.size());
    const auto begun = std::chrono::steady_clock::now();
    pool_.run(threads, [&](int thread) {
        Walk(*model_, ops_, pool_, cache_, cosines_.data(), sines_.data(), pass, *work_, thread).run();
    });
    if (threads > 1 && pass.size() <= kFewTokens) note_stalls(std::chrono::steady_clock::now() - begun);
}

int Engine::choose_threads(int tokens) {
    if (tokens > kFewTokens || alone_ == 0) return pool_.threads();
    --alone_;
    return 1;
}

void Engine::note_stalls(std::chrono::nanoseconds taken) {
    const bool stalled = pool_.stalled() > taken * kStalledPercent / 100;
    crowding_ = stalled ? std::min(crowding_ + 2, kCrowded) : std::max(crowding_ - 1, 0);
    if (stalled && crowding_ == kCrowded) {
        alone_next_ = std::min(std::max(2 * alone_next_, 4), kLongestAlone);
        alone_ = alone_next_;
    } else if (crowding_ == 0) {
        alone_next_ = 0;
    }
}

}  // namespace empu
