#include <algorithm>
#include <limits>
#include <map>
#include <new>

#include "random.hpp"

namespace empu {

namespace {

struct Live {
    Tokens tokens;
    int capacity;
    std::shared_ptr<const Adapter> adapter;
};

// An engine, and what a reader of the interface expects it to hold.
class Calls {
  public:
    Calls(Random& random, std::shared_ptr<Model> model, std::string_view ops)
        : random_(random),
          model_(std::move(model)),
          other_(random_model(random)),
          cache_(chance(random, 2) ? CacheKind::Bfloat : CacheKind::Small),
          engine_(engine_of(model_, between(random, 1, 3), ops, cache_, size_t(between(random, 1, 4)) << 20)),
          oracle_(engine_of(model_, 1, oracle_of(choose_ops(ops)), cache_)),
          adapter_(random_adapter(random, model_)),
          foreign_(random_adapter(random, other_)) {}

    void one() {
        switch (between(random_, 0, 9)) {
            case 0: return allocate();
            case 1: return fork();
            case 2: return truncate();
            case 3: return release();
            case 4: return weights();
            case 5: return low_rank();
            case 6: return check_one();
            default: return batch();
        }
    }

    // Every sequence still gives what its tokens give alone.
    void check_all() {
        while (!live_.empty()) check_one();
    }

  private:
    // A number that is right, just beyond, or absurd.
    int wild(int high) {
        if (!chance(random_, 4)) return between(random_, 0, std::max(high, 0));
        const int odd[] = {-1, high + 1, 0, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()};
        return odd[between(random_, 0, 4)];
    }

    int64_t some_id() {
        if (live_.empty() || chance(random_, 8)) return chance(random_, 2) ? wild(1000) : std::numeric_limits<int64_t>::min();
        auto at = live_.begin();
        std::advance(at, between(random_, 0, int(live_.size()) - 1));
        return at->first;
    }

    // Whether the call did what it should; our errors are how it says no.
    template <typename Call>
    bool accepted(const Call& call) {
        try {
            call();
            return true;
        } catch (const Error&) {
        } catch (const std::bad_alloc&) {
        }
        return false;
    }

    void allocate() {
        const int capacity = wild(300);
        const auto adapter = chance(random_, 10) ? foreign_ : chance(random_, 2) ? adapter_ : nullptr;
        int64_t id = 0;
        if (!accepted([&] { id = engine_->allocate(capacity, adapter); })) return;
        expect(capacity >= 1 && adapter != foreign_ && !live_.contains(id), "an impossible sequence was made");
        live_[id] = {{}, capacity, adapter};
    }

    void fork() {
        const int64_t source = some_id();
        const int length = wild(live_.contains(source) ? int(live_[source].tokens.size()) : 9), capacity = wild(300);
        int64_t id = 0;
        if (!accepted([&] { id = engine_->cache().fork(source, length, capacity); })) return;
        expect(live_.contains(source) && length >= 0 && length <= int(live_[source].tokens.size()) && capacity >= length,
               "an impossible fork was made");
        const Live& from = live_[source];
        live_[id] = {{from.tokens.begin(), from.tokens.begin() + length}, capacity, from.adapter};
    }

    void truncate() {
        const int64_t id = some_id();
        const int length = wild(live_.contains(id) ? int(live_[id].tokens.size()) : 9);
        if (!accepted([&] { engine_->cache().truncate(id, length); })) return;
        expect(live_.contains(id) && length >= 0 && length <= int(live_[id].tokens.size()), "an impossible cut was made");
        live_[id].tokens.resize(size_t(length));
    }

    void release() {
        const int64_t id = some_id();
        if (!accepted([&] { engine_->cache().release(id); })) return;
        live_.erase(id);
    }

    // Matrices of wrong names, kinds, shapes and sizes, into a model that nobody runs.
    void weights() {
        const char* names[] = {"embedding.weight", "layers.0.attention.q.weight", "layers.7.attention.q.weight", ""};
        const char* types[] = {"Q4_0", "Q4_1", "Q4_K", "Q8_0", "F32", "Q9_9"};
        const std::string name = names[between(random_, 0, 3)];
        const Shape& shape = other_->shape;
        const int rows = name == "embedding.weight" ? shape.vocabulary : shape.q_dim();
        const bool right = chance(random_, 2);
        const int given_rows = right ? rows : wild(rows), given_cols = right ? shape.dim : wild(shape.dim);
        const Kind kinds[] = {Kind::Float32, Kind::Q4, Kind::Q4Symmetric, Kind::Q8};
        accepted([&] { other_->make(name, kinds[between(random_, 0, 3)], given_rows, given_cols); });
        const std::string type = types[between(random_, 0, 5)];
        std::vector<uint8_t> bytes(size_t(between(random_, 0, 2000)));
        if (type == "F32" && chance(random_, 2)) bytes.resize(size_t(rows) * size_t(shape.dim) * 4);
        accepted([&] { other_->pack(name, wild(rows), wild(rows), type, bytes.data(), bytes.size()); });
        const std::vector<float> norm(size_t(between(random_, 0, shape.dim + 1)), 1.0f);
        accepted([&] { other_->set_norm("norm.weight", norm.data(), int(norm.size())); });
        accepted([&] { other_->check_complete(); });
    }

    void low_rank() {
        Adapter adapter(model_);
        const int rank = wild(kMaxRank);
        const std::vector<float> a(size_t(between(random_, 0, 4000))), b(size_t(between(random_, 0, 4000)));
        const char* names[] = {"layers.0.attention.q.weight", "layers.0.feed_forward.down.weight", "norm.weight"};
        accepted([&] { adapter.add(names[between(random_, 0, 2)], rank, a.data(), a.size(), b.data(), b.size()); });
    }

    void batch() {
        std::vector<Tokens> tokens(size_t(between(random_, 0, 5)));
        std::vector<Chunk> chunks;
        for (Tokens& some : tokens) {
            some = random_tokens(random_, *model_, chance(random_, 2) ? 1 : between(random_, 0, 90));
            if (!some.empty() && chance(random_, 12)) some.back() = wild(model_->shape.vocabulary);
            const Want wants[] = {Want::None, Want::Last, Want::All};
            chunks.push_back({some_id(), some, wants[between(random_, 0, 2)]});
        }
        size_t rows = 0;
        for (const Chunk& chunk : chunks) rows += chunk.logit_rows();
        std::vector<float> logits(rows * engine_->logit_stride());
        if (!accepted([&] { engine_->check(chunks); })) return;
        for (const Chunk& chunk : chunks) {
            expect(live_.contains(chunk.sequence), "a sequence that is not there was read into");
            Live& live = live_[chunk.sequence];
            live.tokens.insert(live.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
            expect(int(live.tokens.size()) <= live.capacity, "a sequence was filled beyond its room");
        }
        engine_->forward(chunks, logits.data());
    }

    // The logits behind a sequence's last token are those of its tokens alone. Ends the sequence.
    void check_one() {
        if (live_.empty()) return;
        auto at = live_.begin();
        std::advance(at, between(random_, 0, int(live_.size()) - 1));
        const auto& [id, live] = *at;
        if (!live.tokens.empty()) {
            engine_->cache().truncate(id, int(live.tokens.size()) - 1);
            const Tokens last = {live.tokens.back()};
            const Chunk chunk{id, last, Want::Last};
            std::vector<float> logits(engine_->logit_stride());
            engine_->check({&chunk, 1});
            engine_->forward({&chunk, 1}, logits.data());
            expect_same(alone(*oracle_, live.tokens, live.adapter).data(), logits.data(), logits.size(),
                        "a sequence changed by itself");
        }
        engine_->cache().release(id);
        live_.erase(at);
    }

    Random& random_;
    std::shared_ptr<Model> model_, other_;
    CacheKind cache_;
    std::unique_ptr<Engine> engine_, oracle_;
    std::shared_ptr<const Adapter> adapter_, foreign_;
    std::map<int64_t, Live> live_;
};

}  // namespace

void try_calls(Random& random, int count) {
    const Ops* tables[8];
    const int known = available_ops(tables, 8);
    const auto model = random_model(random);
    Calls calls(random, model, tables[between(random, 0, known - 1)]->name);
    for (int i = 0; i < count; ++i) calls.one();
    calls.check_all();
}

}  // namespace empu
