#include "tune/lora_transformer.hpp"

#include <algorithm>
#include <cmath>

namespace empu {

namespace {

constexpr int kChunk = 96;    // tokens (whole 16) that go through a layer's products at once: what they need stays cached
constexpr int kQueries = 16;  // tokens whose queries meet the keys at once

int stored_layer(bool keep, int layer) { return keep ? layer : 0; }

}  // namespace

int TuneShape::inputs(int target) const { return target == kO ? q_dim() : target == kDown ? ffn_dim : dim; }

int TuneShape::outputs(int target) const {
    switch (target) {
        case kQ:
            return q_dim();
        case kK:
        case kV:
            return kv_dim();
        case kGate:
        case kUp:
            return ffn_dim;
        default:
            return dim;
    }
}

// What one thread works with.
struct Tuner::Scratch {
    std::vector<float> normal, hidden, back, wide, glow;  // (kChunk, dim), (.., ffn), (.., ffn), (.., dim), (.., R)
    std::vector<int8_t> numbers;
    std::vector<float> scales, sums, tiled;
    std::vector<int32_t> totals;
    // Attention: keys and values as they are and turned, queries, results and scores of kQueries tokens.
    std::vector<float> keys, keys_turned, values, values_turned, queries, attended, back_queries, scores, back_scores;
    std::vector<float> back_keys, back_values, prefix_keys, prefix_values;

    Rows rows(int cols, float* floats) {
        return {cols,        cols,          floats, numbers.data(), scales.data(),
                sums.data(), totals.data(), false,  tiled.data()};
    }
};

Tuner::~Tuner() = default;

Tuner::Tuner(const TuneShape& shape, int threads, const std::string& ops)
    : shape_(shape), ops_(choose_ops(ops)), verbs_(*ops_.tuning), pool_(threads) {
    const int sizes[] = {shape.dim, shape.q_dim(), shape.kv_dim(), shape.ffn_dim};
    for (int size : sizes) {
        if (size < kGroup || size % kGroup != 0) {
            throw Error("A layer has " + std::to_string(size) + " rows or columns; a multiple of 32 was expected.");
        }
    }
    if (shape.layers < 1 || shape.rank < 1 || shape.heads % shape.kv_heads != 0 || shape.head_dim % kLanes != 0) {
        throw Error("Tuning needs layers, a rank, and heads of 16, 32, 48, ... numbers.");
    }
    blocks_.resize(size_t(shape.layers));
    lows_.resize(size_t(shape.layers));
    for (size_t layer = 0; layer < blocks_.size(); ++layer) {
        for (int target = 0; target < kParts; ++target) {
            const int in = shape.inputs(target), out = shape.outputs(target), rank = shape.padded_rank();
            blocks_[layer].ahead[size_t(target)] = make_matrix(shape.kind, out, in);
            blocks_[layer].back[size_t(target)] = make_matrix(shape.kind, in, out);
            if (!shape.adapted[size_t(target)]) continue;
            Low& low = lows_[layer][size_t(target)];
            for (auto* form : {&low.a, &low.a_turned}) form->assign(size_t(rank) * size_t(in), 0.0f);
            for (auto* form : {&low.b, &low.b_turned}) form->assign(size_t(rank) * size_t(out), 0.0f);
            low.at = parameters_;
            parameters_ += size_t(shape.rank) * size_t(in + out);
        }
    }
    const size_t widest = size_t(std::max({shape.dim, shape.q_dim(), shape.ffn_dim}));
    gradients_.resize(size_t(pool_.threads()));
    for (int thread = 0; thread < pool_.threads(); ++thread) {
        auto& scratch = *scratch_.emplace_back(std::make_unique<Scratch>());
        scratch.normal.resize(size_t(kChunk * shape.dim));
        scratch.wide.resize(size_t(kChunk * shape.dim));
        scratch.hidden.resize(size_t(kChunk * shape.ffn_dim));
        scratch.back.resize(size_t(kChunk * shape.ffn_dim));
        scratch.glow.resize(size_t(kChunk * shape.padded_rank()));
        scratch.numbers.resize(kChunk * widest);
        scratch.scales.resize(kChunk * widest / kGroup);
        scratch.sums.resize(kChunk * widest / kGroup);
        scratch.totals.resize(kChunk * widest / kGroup);
        scratch.tiled.resize(kChunk / kLanes * widest / kGroup * kTiledFloats);
    }
}

namespace {

// Values in 4 bits where that rounds nothing, as with weights that come from a file of as many; otherwise as `kind`.
Matrix frozen(Kind kind, int rows, int cols, const float* values) {
    const auto packed_as = [&](Kind one) {
        Matrix matrix = make_matrix(one, rows, cols);
        pack_rows(matrix, 0, rows, "F32", reinterpret_cast<const uint8_t*>(values), 4 * size_t(rows) * size_t(cols));
        return matrix;
    };
    if (kind != Kind::Q8) return packed_as(kind);
    Matrix four = packed_as(Kind::Q4);
    std::vector<float> row(size_t(cols), 0.0f);
    for (int i = 0; i < rows; ++i) {
        unpack_row(four, i, row.data());
        if (!std::equal(row.begin(), row.end(), values + size_t(i) * size_t(cols))) return packed_as(kind);
    }
    return four;
}

}  // namespace

void Tuner::set_weight(int layer, int target, const float* values, size_t count) {
    if (layer < 0 || layer >= shape_.layers || target < 0 || target >= kParts) throw Error("There is no such weight.");
    const int in = shape_.inputs(target), out = shape_.outputs(target);
    if (count != size_t(in) * size_t(out)) throw Error("The numbers of a weight do not fit its shape.");
    Block& block = blocks_[size_t(layer)];
    block.ahead[size_t(target)] = frozen(shape_.kind, out, in, values);
    std::vector<float> turned(count);
    for (int i = 0; i < out; ++i) {
        for (int j = 0; j < in; ++j) turned[size_t(j) * size_t(out) + size_t(i)] = values[size_t(i) * size_t(in) + size_t(j)];
    }
    pack_rows(block.back[size_t(target)], 0, in, "F32", reinterpret_cast<const uint8_t*>(turned.data()), 4 * count);
}

void Tuner::set_norms(int layer, const float* attention, const float* ffn, size_t count) {
    if (layer < 0 || layer >= shape_.layers || count != size_t(shape_.dim)) throw Error("There is no such norm.");
    blocks_[size_t(layer)].attention_norm.assign(attention, attention + count);
    blocks_[size_t(layer)].ffn_norm.assign(ffn, ffn + count);
}

void Tuner::plan(const TuneBatch& batch) {
    items_.clear();
    prefix_ = batch.prefix;
    tokens_ = longest_ = batch.prefix;
    int64_t cost = 0;
    const auto add = [&](int start, int length, int ahead) {
        for (int head = 0; head < shape_.kv_heads; ++head) {
            cost += int64_t{length} * (ahead + length) + 8 * (ahead + length);
            items_.push_back({start, length, ahead, head, cost});
        }
    };
    if (prefix_ < 0) throw Error("A prefix has no fewer than 0 tokens.");
    if (prefix_ > 0) add(0, prefix_, 0);
    for (int length : batch.lengths) {
        if (length < 1 || length > (1 << 24)) throw Error("A document has at least one token.");
        add(tokens_, length, prefix_);
        tokens_ += length;
        longest_ = std::max(longest_, prefix_ + length);
    }
    if (tokens_ < 1) throw Error("A batch has at least one token.");
    const size_t size = size_t(tokens_) * size_t(shape_.head_dim);
    cosines_.assign(batch.cosines, batch.cosines + size);
    sines_.assign(batch.sines, batch.sines + size);
}

void Tuner::reserve(int tokens, int layers) {
    const size_t hd = size_t(shape_.head_dim), keys = size_t(round_up(longest_, kLanes));
    const size_t queries = size_t(kQueries * (shape_.heads / shape_.kv_heads));
    for (auto& scratch : scratch_) {
        for (auto* some : {&scratch->keys, &scratch->keys_turned, &scratch->values, &scratch->values_turned,
                           &scratch->back_keys, &scratch->back_values}) {
            if (some->size() < keys * hd) some->resize(keys * hd);
        }
        for (auto* some : {&scratch->queries, &scratch->attended, &scratch->back_queries}) some->resize(queries * hd);
        for (auto* some : {&scratch->scores, &scratch->back_scores}) {
            if (some->size() < queries * keys) some->resize(queries * keys);
        }
        const size_t ahead = size_t(prefix_) * size_t(shape_.kv_dim());
        if (scratch->prefix_keys.size() < ahead) {
            scratch->prefix_keys.resize(ahead);
            scratch->prefix_values.resize(ahead);
        }
    }
    if (tokens <= reserved_tokens_ && layers <= reserved_layers_) return;
    const int more_tokens = std::max(tokens, reserved_tokens_), more_layers = std::max(layers, reserved_layers_);
    reserved_tokens_ = reserved_layers_ = 0;  // until all of it is there
    const auto room = [&](std::vector<Memory>& of, int width, int extra = 0) {
        of.clear();
        for (int i = 0; i < more_layers + extra; ++i) {
            of.emplace_back(size_t(more_tokens) * size_t(width) * sizeof(float));
        }
    };
    kept_ = {};
    room(kept_.x, shape_.dim, 1);
    room(kept_.middle, shape_.dim);
    room(kept_.q, shape_.q_dim());
    room(kept_.k, shape_.kv_dim());
    room(kept_.v, shape_.kv_dim());
    room(kept_.attended, shape_.q_dim());
    room(kept_.log_sums, shape_.heads);
    room(kept_.gate, shape_.ffn_dim);
    room(kept_.up, shape_.ffn_dim);
    kept_.low.clear();
    kept_.low.resize(size_t(more_layers));
    for (auto& low : kept_.low) {
        for (int target = 0; target < kParts; ++target) {
            if (!shape_.adapted[size_t(target)]) continue;
            low[size_t(target)] = Memory(size_t(more_tokens) * size_t(shape_.padded_rank()) * sizeof(float));
        }
    }
    const auto one = [&](Memory& of, int width) { of = Memory(size_t(more_tokens) * size_t(width) * sizeof(float)); };
    one(dx_, shape_.dim);
    one(dq_, shape_.q_dim());
    one(dk_, shape_.kv_dim());
    one(dv_, shape_.kv_dim());
    one(dattended_, shape_.q_dim());
    reserved_tokens_ = more_tokens;
    reserved_layers_ = more_layers;
}

void Tuner::read_parameters(int layer, const float* parameters) {
    const size_t rank = size_t(shape_.rank), padded = size_t(shape_.padded_rank());
    for (int target = 0; target < kParts; ++target) {
        if (!shape_.adapted[size_t(target)]) continue;
        Low& low = lows_[size_t(layer)][size_t(target)];
        const size_t in = size_t(shape_.inputs(target)), out = size_t(shape_.outputs(target));
        const float* a = parameters + low.at;
        const float* b = a + rank * in;
        std::copy_n(a, rank * in, low.a.data());
        for (size_t r = 0; r < rank; ++r) {
            for (size_t i = 0; i < in; ++i) low.a_turned[i * padded + r] = a[r * in + i];
        }
        for (size_t o = 0; o < out; ++o) {
            for (size_t r = 0; r < rank; ++r) {
                const float value = shape_.scale * b[o * rank + r];
                low.b[o * padded + r] = value;
                low.b_turned[r * out + o] = value;
            }
        }
    }
}

void Tuner::write_gradients(int layer, float* gradients) {
    const size_t rank = size_t(shape_.rank), padded = size_t(shape_.padded_rank());
    for (int target = 0; target < kParts; ++target) {
        if (!shape_.adapted[size_t(target)]) continue;
        const size_t in = size_t(shape_.inputs(target)), out = size_t(shape_.outputs(target));
        float* a = gradients + lows_[size_t(layer)][size_t(target)].at;
        float* b = a + rank * in;
        std::fill_n(a, rank * (in + out), 0.0f);
        for (const auto& thread : gradients_) {
            const auto& both = thread[size_t(layer)][size_t(target)];
            for (size_t i = 0; i < rank * in; ++i) a[i] += both[0][i];
            for (size_t o = 0; o < out; ++o) {
                for (size_t r = 0; r < rank; ++r) b[o * rank + r] += shape_.scale * both[1][o * padded + r];
            }
        }
    }
}

// One thread's walk through the layers, forward or back.
class TuneWalk {
  public:
    TuneWalk(Tuner& tuner, int thread, bool keep)
        : of_(tuner),
          shape_(tuner.shape_),
          ops_(tuner.ops_),
          verbs_(tuner.verbs_),
          mine_(*tuner.scratch_[size_t(thread)]),
          thread_(thread),
          threads_(tuner.pool_.running()),
          keep_(keep) {}

    void forward(const float* x, const float* parameters, float* out) {
        const Share layers = share(shape_.layers, thread_, threads_);
        for (int layer = layers.begin; layer < layers.end; ++layer) of_.read_parameters(layer, parameters);
        of_.pool_.wait();
        copy_mine(x, stream(0), shape_.dim);
        for (int layer = 0; layer < shape_.layers; ++layer) {
            at_ = layer;
            chunks([&](int first, int count) { project(first, count); });
            of_.pool_.wait();
            items([&](const Tuner::Item& item) { attend(item); });
            of_.pool_.wait();
            chunks([&](int first, int count) { feed_forward(first, count); });
        }
        copy_mine(stream(shape_.layers), out, shape_.dim);
    }

    void back(const float* g, float* gradients) {
        auto& own = of_.gradients_[size_t(thread_)];
        own.resize(size_t(shape_.layers));
        for (auto& layer : own) {
            for (int target = 0; target < kParts; ++target) {
                if (!shape_.adapted[size_t(target)]) continue;
                const size_t rank = size_t(shape_.padded_rank());
                layer[size_t(target)][0].assign(rank * size_t(shape_.inputs(target)), 0.0f);
                layer[size_t(target)][1].assign(rank * size_t(shape_.outputs(target)), 0.0f);
            }
        }
        copy_mine(g, of_.dx_.as<float>(), shape_.dim);
        for (int layer = shape_.layers - 1; layer >= 0; --layer) {
            at_ = layer;
            chunks([&](int first, int count) { feed_forward_back(first, count); });
            of_.pool_.wait();
            std::fill_n(mine_.prefix_keys.data(), size_t(of_.prefix_ * shape_.kv_dim()), 0.0f);
            std::fill_n(mine_.prefix_values.data(), size_t(of_.prefix_ * shape_.kv_dim()), 0.0f);
            items([&](const Tuner::Item& item) { attend_back(item); });
            of_.pool_.wait();
            chunks([&](int first, int count) { project_back(first, count); });
        }
        of_.pool_.wait();
        const Share layers = share(shape_.layers, thread_, threads_);
        for (int layer = layers.begin; layer < layers.end; ++layer) of_.write_gradients(layer, gradients);
    }

  private:
    // Row `token` of what is kept of a layer, `width` floats wide.
    float* row(std::vector<Memory>& of, int token, int width) const {
        return of[size_t(stored_layer(keep_, at_))].as<float>() + size_t(token) * size_t(width);
    }
    float* stream(int layer) const { return of_.kept_.x[size_t(keep_ ? layer : layer % 2)].as<float>(); }
    float* stream(int layer, int token) const { return stream(layer) + size_t(token) * size_t(shape_.dim); }
    float* low_of(int target, int token) const {
        return of_.kept_.low[size_t(stored_layer(keep_, at_))][size_t(target)].as<float>() +
               size_t(token) * size_t(shape_.padded_rank());
    }
    Tuner::Block& block() const { return of_.blocks_[size_t(at_)]; }

    template <typename Do>
    void chunks(const Do& act) const {
        const Share part = share(of_.tokens_, thread_, threads_);
        for (int first = part.begin; first < part.end; first += kChunk) act(first, std::min(kChunk, part.end - first));
    }

    template <typename Do>
    void items(const Do& act) const {
        const int64_t total = of_.items_.back().cost;
        const int64_t from = total * thread_ / threads_, to = total * (thread_ + 1) / threads_;
        for (const Tuner::Item& item : of_.items_) {
            if (item.cost > from && item.cost <= to) act(item);
        }
    }

    void copy_mine(const float* from, float* to, int width) const {
        chunks([&](int first, int count) {
            std::copy_n(from + size_t(first) * size_t(width), size_t(count) * size_t(width),
                        to + size_t(first) * size_t(width));
        });
    }

    Rows quantise(float* floats, int cols, int count) const {
        const Rows rows = mine_.rows(cols, floats);
        if (shape_.kind == Kind::Float32) return rows;
        for (int t = 0; t < count; ++t) ops_.quantise(floats + size_t(t) * size_t(cols), rows, t, 0, rows.groups());
        return rows;
    }

    float* normalise(const float* x, const std::vector<float>& weight, int count) const {
        for (int t = 0; t < count; ++t) {
            const size_t at = size_t(t) * size_t(shape_.dim);
            ops_.rms_norm(x + at, weight.data(), shape_.dim, shape_.norm_eps, mine_.normal.data() + at);
        }
        return mine_.normal.data();
    }

    // out = or += W x + scale B A x
    void multiply(int target, const Rows& rows, int first, int count, float* out, Store store) const {
        const Matrix& matrix = block().ahead[size_t(target)];
        const int outputs = shape_.outputs(target), rank = shape_.padded_rank();
        ops_.multiply({&matrix, 0, matrix.tiles}, rows, count, out, size_t(outputs), store);
        if (!shape_.adapted[size_t(target)]) return;
        const Tuner::Low& low = of_.lows_[size_t(at_)][size_t(target)];
        float* between = low_of(target, first);
        verbs_.product({count, rank, rows.cols, rows.floats, size_t(rows.stride), 1, low.a_turned.data(), size_t(rank),
                        between, size_t(rank), false});
        verbs_.product({count, outputs, rank, between, size_t(rank), 1, low.b_turned.data(), size_t(outputs), out,
                        size_t(outputs), true});
    }

    // dx = or += W^T g + A^T scale B^T g, without dx only the adapter's own gradients.
    void multiply_back(int target, const Rows& g, const float* x, int first, int count, float* dx, Store store) const {
        const Matrix& matrix = block().back[size_t(target)];
        const int inputs = shape_.inputs(target), outputs = shape_.outputs(target), rank = shape_.padded_rank();
        if (dx) ops_.multiply({&matrix, 0, matrix.tiles}, g, count, dx, size_t(inputs), store);
        if (!shape_.adapted[size_t(target)]) return;
        const Tuner::Low& low = of_.lows_[size_t(at_)][size_t(target)];
        auto& own = of_.gradients_[size_t(thread_)][size_t(at_)][size_t(target)];
        float* between = mine_.glow.data();
        verbs_.product({count, rank, outputs, g.floats, size_t(outputs), 1, low.b.data(), size_t(rank), between,
                        size_t(rank), false});
        if (dx) {
            verbs_.product({count, inputs, rank, between, size_t(rank), 1, low.a.data(), size_t(inputs), dx,
                            size_t(inputs), true});
        }
        verbs_.product({rank, inputs, count, between, 1, size_t(rank), x, size_t(inputs), own[0].data(), size_t(inputs),
                        true});
        verbs_.product({outputs, rank, count, g.floats, 1, size_t(outputs), low_of(target, first), size_t(rank),
                        own[1].data(), size_t(rank), true});
    }

    void turn(float* x, int first, int count, int heads, bool back) const {
        for (int t = first; t < first + count; ++t) {
            const size_t at = size_t(t) * size_t(shape_.head_dim);
            for (int head = 0; head < heads; ++head, x += shape_.head_dim) {
                verbs_.rotate(x, of_.cosines_.data() + at, of_.sines_.data() + at, shape_.head_dim, back);
            }
        }
    }

    void project(int first, int count) const {
        float* q = row(of_.kept_.q, first, shape_.q_dim());
        float* k = row(of_.kept_.k, first, shape_.kv_dim());
        const Rows rows = quantise(normalise(stream(at_, first), block().attention_norm, count), shape_.dim, count);
        multiply(kQ, rows, first, count, q, Store::Set);
        multiply(kK, rows, first, count, k, Store::Set);
        multiply(kV, rows, first, count, row(of_.kept_.v, first, shape_.kv_dim()), Store::Set);
        turn(q, first, count, shape_.heads, false);
        turn(k, first, count, shape_.kv_heads, false);
    }

    void feed_forward(int first, int count) const {
        const size_t size = size_t(count) * size_t(shape_.dim);
        float* middle = row(of_.kept_.middle, first, shape_.dim);
        float* out = stream(at_ + 1, first);
        float* gate = row(of_.kept_.gate, first, shape_.ffn_dim);
        float* up = row(of_.kept_.up, first, shape_.ffn_dim);
        std::copy_n(stream(at_, first), size, middle);
        multiply(kO, quantise(row(of_.kept_.attended, first, shape_.q_dim()), shape_.q_dim(), count), first, count,
                 middle, Store::Add);
        const Rows rows = quantise(normalise(middle, block().ffn_norm, count), shape_.dim, count);
        multiply(kGate, rows, first, count, gate, Store::Set);
        multiply(kUp, rows, first, count, up, Store::Set);
        verbs_.gate(gate, up, count * shape_.ffn_dim, mine_.hidden.data());
        std::copy_n(middle, size, out);
        multiply(kDown, quantise(mine_.hidden.data(), shape_.ffn_dim, count), first, count, out, Store::Add);
    }

    void feed_forward_back(int first, int count) const {
        float* dx = of_.dx_.as<float>() + size_t(first) * size_t(shape_.dim);
        float* gate = row(of_.kept_.gate, first, shape_.ffn_dim);
        float* up = row(of_.kept_.up, first, shape_.ffn_dim);
        const float* middle = row(of_.kept_.middle, first, shape_.dim);
        verbs_.gate(gate, up, count * shape_.ffn_dim, mine_.hidden.data());
        multiply_back(kDown, quantise(dx, shape_.dim, count), mine_.hidden.data(), first, count, mine_.back.data(),
                      Store::Set);
        verbs_.gate_back(gate, up, count * shape_.ffn_dim, mine_.back.data());
        const float* normal = normalise(middle, block().ffn_norm, count);
        multiply_back(kGate, quantise(gate, shape_.ffn_dim, count), normal, first, count, mine_.wide.data(), Store::Set);
        multiply_back(kUp, quantise(up, shape_.ffn_dim, count), normal, first, count, mine_.wide.data(), Store::Add);
        norm_back(middle, block().ffn_norm, count, dx);
        multiply_back(kO, quantise(dx, shape_.dim, count), row(of_.kept_.attended, first, shape_.q_dim()), first, count,
                      of_.dattended_.as<float>() + size_t(first) * size_t(shape_.q_dim()), Store::Set);
    }

    void project_back(int first, int count) const {
        const size_t kv = size_t(shape_.kv_dim());
        float* dq = of_.dq_.as<float>() + size_t(first) * size_t(shape_.q_dim());
        float* dk = of_.dk_.as<float>() + size_t(first) * kv;
        float* dv = of_.dv_.as<float>() + size_t(first) * kv;
        for (int t = first; t < std::min(first + count, of_.prefix_); ++t) {
            for (const auto& other : of_.scratch_) {
                for (size_t i = 0; i < kv; ++i) {
                    dk[size_t(t - first) * kv + i] += other->prefix_keys[size_t(t) * kv + i];
                    dv[size_t(t - first) * kv + i] += other->prefix_values[size_t(t) * kv + i];
                }
            }
        }
        turn(dq, first, count, shape_.heads, true);
        turn(dk, first, count, shape_.kv_heads, true);
        const float* x = stream(at_, first);
        const float* normal = normalise(x, block().attention_norm, count);
        float* dx = at_ > 0 ? mine_.wide.data() : nullptr;  // nothing before the first layer is tuned
        multiply_back(kQ, quantise(dq, shape_.q_dim(), count), normal, first, count, dx, Store::Set);
        multiply_back(kK, quantise(dk, shape_.kv_dim(), count), normal, first, count, dx, Store::Add);
        multiply_back(kV, quantise(dv, shape_.kv_dim(), count), normal, first, count, dx, Store::Add);
        if (dx) norm_back(x, block().attention_norm, count, of_.dx_.as<float>() + size_t(first) * size_t(shape_.dim));
    }

    void norm_back(const float* x, const std::vector<float>& weight, int count, float* dx) const {
        for (int t = 0; t < count; ++t) {
            const size_t at = size_t(t) * size_t(shape_.dim);
            verbs_.rms_norm_back(x + at, weight.data(), shape_.dim, shape_.norm_eps, mine_.wide.data() + at, dx + at);
        }
    }

    int group() const { return shape_.heads / shape_.kv_heads; }

    // Calls act(key, row of the batch) for the keys that a document sees: those of the prefix, then its own.
    template <typename Do>
    static void each_key(const Tuner::Item& item, const Do& act) {
        for (int key = 0; key < item.ahead; ++key) act(key, key);
        for (int key = 0; key < item.length; ++key) act(item.ahead + key, item.start + key);
    }

    // One head's keys or values (keys, head_dim), and turned (head_dim, width); the padding is zero.
    void gather(const Tuner::Item& item, std::vector<Memory>& from, std::vector<float>& plain,
                std::vector<float>* turned) const {
        const int hd = shape_.head_dim, keys = item.ahead + item.length, width = round_up(keys, kLanes);
        each_key(item, [&](int key, int token) {
            const float* source = row(from, token, shape_.kv_dim()) + item.head * hd;
            std::copy_n(source, hd, plain.data() + size_t(key) * size_t(hd));
            if (!turned) return;
            for (int d = 0; d < hd; ++d) (*turned)[size_t(d) * size_t(width) + size_t(key)] = source[d];
        });
        std::fill(plain.data() + size_t(keys) * size_t(hd), plain.data() + size_t(width) * size_t(hd), 0.0f);
        if (!turned) return;
        for (int d = 0; d < hd; ++d) {
            std::fill(turned->data() + size_t(d) * size_t(width) + keys, turned->data() + size_t(d + 1) * size_t(width),
                      0.0f);
        }
    }

    // Copies between rows of the batch and a block of (tokens x heads of the group, head_dim).
    template <typename Do>
    void each_query(const Tuner::Item& item, int begin, int count, const Do& act) const {
        for (int t = 0; t < count; ++t) {
            for (int i = 0; i < group(); ++i) {
                const size_t head = size_t(item.head * group() + i), hd = size_t(shape_.head_dim);
                act(t * group() + i, item.start + begin + t, head,
                    size_t(item.start + begin + t) * size_t(shape_.q_dim()) + head * hd,
                    size_t(t * group() + i) * hd);
            }
        }
    }

    void scale_into(const float* from, float* to, float factor) const {
        for (int d = 0; d < shape_.head_dim; ++d) to[d] = from[d] * factor;
    }

    float factor() const { return float(1.0 / std::sqrt(double(shape_.head_dim))); }

    void attend(const Tuner::Item& item) const {
        const size_t hd = size_t(shape_.head_dim), width = size_t(round_up(item.ahead + item.length, kLanes));
        gather(item, of_.kept_.k, mine_.keys, &mine_.keys_turned);
        gather(item, of_.kept_.v, mine_.values, nullptr);
        const float* all_q = of_.kept_.q[size_t(stored_layer(keep_, at_))].as<float>();
        float* all_out = of_.kept_.attended[size_t(stored_layer(keep_, at_))].as<float>();
        for (int begin = 0; begin < item.length; begin += kQueries) {
            const int count = std::min(kQueries, item.length - begin), rows = count * group();
            const int seen = round_up(item.ahead + begin + count, kLanes);
            each_query(item, begin, count, [&](int, int, size_t, size_t from, size_t to) {
                scale_into(all_q + from, mine_.queries.data() + to, factor());
            });
            verbs_.product({rows, seen, int(hd), mine_.queries.data(), hd, 1, mine_.keys_turned.data(), width,
                            mine_.scores.data(), width, false});
            each_query(item, begin, count, [&](int at, int token, size_t head, size_t, size_t) {
                *(row(of_.kept_.log_sums, token, shape_.heads) + head) = verbs_.softmax(
                    mine_.scores.data() + size_t(at) * width, item.ahead + begin + at / group() + 1, seen);
            });
            verbs_.product({rows, int(hd), seen, mine_.scores.data(), width, 1, mine_.values.data(), hd,
                            mine_.attended.data(), hd, false});
            each_query(item, begin, count, [&](int, int, size_t, size_t to, size_t from) {
                std::copy_n(mine_.attended.data() + from, hd, all_out + to);
            });
        }
    }

    void attend_back(const Tuner::Item& item) const {
        const int keys = item.ahead + item.length;
        const size_t hd = size_t(shape_.head_dim), width = size_t(round_up(keys, kLanes));
        gather(item, of_.kept_.k, mine_.keys, &mine_.keys_turned);
        gather(item, of_.kept_.v, mine_.values, &mine_.values_turned);
        std::fill_n(mine_.back_keys.data(), width * hd, 0.0f);
        std::fill_n(mine_.back_values.data(), width * hd, 0.0f);
        const float* all_q = of_.kept_.q[size_t(at_)].as<float>();
        const float* all_out = of_.kept_.attended[size_t(at_)].as<float>();
        const float* all_g = of_.dattended_.as<float>();
        for (int begin = 0; begin < item.length; begin += kQueries) {
            const int count = std::min(kQueries, item.length - begin), rows = count * group();
            const int seen = round_up(item.ahead + begin + count, kLanes);
            each_query(item, begin, count, [&](int, int, size_t, size_t from, size_t to) {
                scale_into(all_q + from, mine_.queries.data() + to, factor());
                std::copy_n(all_g + from, hd, mine_.attended.data() + to);
            });
            verbs_.product({rows, seen, int(hd), mine_.queries.data(), hd, 1, mine_.keys_turned.data(), width,
                            mine_.scores.data(), width, false});
            verbs_.product({rows, seen, int(hd), mine_.attended.data(), hd, 1, mine_.values_turned.data(), width,
                            mine_.back_scores.data(), width, false});
            each_query(item, begin, count, [&](int at, int token, size_t head, size_t from, size_t to) {
                float* p = mine_.scores.data() + size_t(at) * width;
                verbs_.weights(p, item.ahead + begin + at / group() + 1, seen,
                               *(row(of_.kept_.log_sums, token, shape_.heads) + head));
                const float mean = verbs_.dot(all_out + from, mine_.attended.data() + to, int(hd));
                verbs_.softmax_back(p, mine_.back_scores.data() + size_t(at) * width, seen, mean, 1.0f);
            });
            verbs_.product({rows, int(hd), seen, mine_.back_scores.data(), width, 1, mine_.keys.data(), hd,
                            mine_.back_queries.data(), hd, false});
            each_query(item, begin, count, [&](int, int, size_t, size_t to, size_t from) {
                scale_into(mine_.back_queries.data() + from, of_.dq_.as<float>() + to, factor());
            });
            verbs_.product({seen, int(hd), rows, mine_.back_scores.data(), 1, width, mine_.queries.data(), hd,
                            mine_.back_keys.data(), hd, true});
            verbs_.product({seen, int(hd), rows, mine_.scores.data(), 1, width, mine_.attended.data(), hd,
                            mine_.back_values.data(), hd, true});
        }
        scatter(item, mine_.back_keys, of_.dk_.as<float>(), mine_.prefix_keys);
        scatter(item, mine_.back_values, of_.dv_.as<float>(), mine_.prefix_values);
    }

    // Own tokens' gradients go to their rows; those of the prefix are added up, for every document has some.
    void scatter(const Tuner::Item& item, const std::vector<float>& from, float* to, std::vector<float>& prefix) const {
        const size_t hd = size_t(shape_.head_dim), kv = size_t(shape_.kv_dim());
        const float* source = from.data();
        for (int key = 0; key < item.ahead; ++key, source += hd) {
            float* sum = prefix.data() + size_t(key) * kv + size_t(item.head) * hd;
            for (size_t d = 0; d < hd; ++d) sum[d] += source[d];
        }
        for (int key = 0; key < item.length; ++key, source += hd) {
            std::copy_n(source, hd, to + size_t(item.start + key) * kv + size_t(item.head) * hd);
        }
    }

    Tuner& of_;
    const TuneShape& shape_;
    const Ops& ops_;
    const TuneOps& verbs_;
    Tuner::Scratch& mine_;
    const int thread_, threads_;
    const bool keep_;
    int at_ = 0;  // the layer
};

void Tuner::forward(const float* x, const TuneBatch& batch, const float* parameters, bool keep, float* out) {
    kept_valid_ = false;
    plan(batch);
    reserve(tokens_, keep ? shape_.layers : 1);
    pool_.run(pool_.threads(), [&](int thread) { TuneWalk(*this, thread, keep).forward(x, parameters, out); });
    kept_valid_ = keep;
}

void Tuner::back(const float* g, float* gradients) {
    if (!kept_valid_) throw Error("There is no kept pass to go back through.");
    kept_valid_ = false;
    pool_.run(pool_.threads(), [&](int thread) { TuneWalk(*this, thread, true).back(g, gradients); });
}

}  // namespace empu
