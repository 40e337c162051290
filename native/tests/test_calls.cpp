#include <algorithm>
#include <limits>
#include <map>
#include <new>

#include "support.hpp"

namespace empu {

namespace {

struct LiveSequence {
    Tokens tokens;
    int capacity;
    std::shared_ptr<const LoraAdapter> adapter;
};

// An engine, and the state that it should have.
class CallTest {
  public:
    CallTest(Random& random, std::shared_ptr<Model> model, std::string_view ops)
        : random_(random),
          model_(std::move(model)),
          other_model_(random_model(random)),
          cache_(one_in(random, 2) ? CacheFormat::Bfloat16 : CacheFormat::Int8),
          engine_(make_engine(model_, random_int(random, 1, 3), ops, cache_, size_t(random_int(random, 1, 4)) << 20)),
          oracle_(make_engine(model_, 1, oracle_of(choose_ops(ops)), cache_)),
          adapter_(random_adapter(random, model_)),
          other_adapter_(random_adapter(random, other_model_)) {}

    void random_call() {
        switch (random_int(random_, 0, 9)) {
            case 0:
                return allocate();
            case 1:
                return fork();
            case 2:
                return truncate();
            case 3:
                return release();
            case 4:
                return change_weights();
            case 5:
                return add_adapter();
            case 6:
                return check_sequence();
            default:
                return forward();
        }
    }

    // Check that every sequence gives the logits of its tokens run alone.
    void check_all_sequences() {
        while (!sequences_.empty()) check_sequence();
    }

  private:
    // A number that is valid, just outside, or extreme.
    int random_number(int high) {
        if (!one_in(random_, 4)) return random_int(random_, 0, std::max(high, 0));
        const int invalid[] = {-1, high + 1, 0, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()};
        return invalid[random_int(random_, 0, 4)];
    }

    int64_t random_id() {
        if (sequences_.empty() || one_in(random_, 8))
            return one_in(random_, 2) ? random_number(1000) : std::numeric_limits<int64_t>::min();
        auto it = sequences_.begin();
        std::advance(it, random_int(random_, 0, int(sequences_.size()) - 1));
        return it->first;
    }

    // Return whether the call succeeded; our own errors are expected.
    template <typename Call>
    bool succeeds(const Call& call) {
        try {
            call();
            return true;
        } catch (const Error&) {
        } catch (const std::bad_alloc&) {
        }
        return false;
    }

    void allocate() {
        const int capacity = random_number(300);
        const auto adapter = one_in(random_, 10) ? other_adapter_ : one_in(random_, 2) ? adapter_ : nullptr;
        int64_t id = 0;
        if (!succeeds([&] { id = engine_->allocate(capacity, adapter); })) return;
        expect(capacity >= 1 && adapter != other_adapter_ && !sequences_.contains(id),
               "an invalid sequence was allocated");
        sequences_[id] = {{}, capacity, adapter};
    }

    void fork() {
        const int64_t source = random_id();
        const int length = random_number(sequences_.contains(source) ? int(sequences_[source].tokens.size()) : 9),
                  capacity = random_number(300);
        int64_t id = 0;
        if (!succeeds([&] { id = engine_->cache().fork(source, length, capacity); })) return;
        expect(sequences_.contains(source) && length >= 0 && length <= int(sequences_[source].tokens.size()) &&
                   capacity >= length,
               "an invalid fork was made");
        const LiveSequence& from = sequences_[source];
        sequences_[id] = {{from.tokens.begin(), from.tokens.begin() + length}, capacity, from.adapter};
    }

    void truncate() {
        const int64_t id = random_id();
        const int length = random_number(sequences_.contains(id) ? int(sequences_[id].tokens.size()) : 9);
        if (!succeeds([&] { engine_->cache().truncate(id, length); })) return;
        expect(sequences_.contains(id) && length >= 0 && length <= int(sequences_[id].tokens.size()),
               "an invalid truncation was made");
        sequences_[id].tokens.resize(size_t(length));
    }

    void release() {
        const int64_t id = random_id();
        if (!succeeds([&] { engine_->cache().release(id); })) return;
        sequences_.erase(id);
    }

    // Matrices with wrong names, formats, shapes and sizes, in a model that is not run.
    void change_weights() {
        const char* names[] = {"embedding.weight", "layers.0.attention.q.weight", "layers.7.attention.q.weight", ""};
        const char* types[] = {"Q4_0", "Q4_1", "Q4_K", "Q8_0", "F32", "Q9_9"};
        const std::string name = names[random_int(random_, 0, 3)];
        const ModelConfig& config = other_model_->config;
        const int rows = name == "embedding.weight" ? config.vocab_size : config.q_dim();
        const bool is_valid = one_in(random_, 2);
        const int rows_argument = is_valid ? rows : random_number(rows),
                  cols_argument = is_valid ? config.dim : random_number(config.dim);
        const WeightFormat formats[] = {WeightFormat::Float32, WeightFormat::Q4, WeightFormat::Q4Symmetric,
                                        WeightFormat::Q8};
        succeeds(
            [&] { other_model_->allocate(name, formats[random_int(random_, 0, 3)], rows_argument, cols_argument); });
        const std::string type = types[random_int(random_, 0, 5)];
        std::vector<uint8_t> bytes(size_t(random_int(random_, 0, 2000)));
        if (type == "F32" && one_in(random_, 2)) bytes.resize(size_t(rows) * size_t(config.dim) * 4);
        succeeds([&] {
            other_model_->pack(name, random_number(rows), random_number(rows), type, bytes.data(), bytes.size());
        });
        const std::vector<float> norm(size_t(random_int(random_, 0, config.dim + 1)), 1.0f);
        succeeds([&] { other_model_->set_norm("norm.weight", norm.data(), int(norm.size())); });
        succeeds([&] { other_model_->check_complete(); });
    }

    void add_adapter() {
        LoraAdapter adapter(model_);
        const int rank = random_number(kMaxRank);
        const std::vector<float> a(size_t(random_int(random_, 0, 4000))), b(size_t(random_int(random_, 0, 4000)));
        const char* names[] = {"layers.0.attention.q.weight", "layers.0.feed_forward.down.weight", "norm.weight"};
        succeeds([&] { adapter.add(names[random_int(random_, 0, 2)], rank, a.data(), a.size(), b.data(), b.size()); });
    }

    void forward() {
        std::vector<Tokens> tokens(size_t(random_int(random_, 0, 5)));
        std::vector<Chunk> chunks;
        for (Tokens& chunk_tokens : tokens) {
            chunk_tokens = random_tokens(random_, *model_, one_in(random_, 2) ? 1 : random_int(random_, 0, 90));
            if (!chunk_tokens.empty() && one_in(random_, 12))
                chunk_tokens.back() = random_number(model_->config.vocab_size);
            const LogitsNeeded choices[] = {LogitsNeeded::None, LogitsNeeded::Last, LogitsNeeded::All};
            chunks.push_back({random_id(), chunk_tokens, choices[random_int(random_, 0, 2)]});
        }
        size_t rows = 0;
        for (const Chunk& chunk : chunks) rows += chunk.logit_rows();
        std::vector<float> logits(rows * engine_->logit_stride());
        if (!succeeds([&] { engine_->check(chunks); })) return;
        for (const Chunk& chunk : chunks) {
            expect(sequences_.contains(chunk.sequence), "a missing sequence was accepted");
            LiveSequence& sequence = sequences_[chunk.sequence];
            sequence.tokens.insert(sequence.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
            expect(int(sequence.tokens.size()) <= sequence.capacity, "a sequence was filled beyond its capacity");
        }
        engine_->forward(chunks, logits.data());
    }

    // Check that the last logits of a random sequence equal those of its tokens run alone. Releases it.
    void check_sequence() {
        if (sequences_.empty()) return;
        auto it = sequences_.begin();
        std::advance(it, random_int(random_, 0, int(sequences_.size()) - 1));
        const auto& [id, sequence] = *it;
        if (!sequence.tokens.empty()) {
            engine_->cache().truncate(id, int(sequence.tokens.size()) - 1);
            const Tokens last = {sequence.tokens.back()};
            const Chunk chunk{id, last, LogitsNeeded::Last};
            std::vector<float> logits(engine_->logit_stride());
            engine_->check({&chunk, 1});
            engine_->forward({&chunk, 1}, logits.data());
            expect_equal_bits(run_alone(*oracle_, sequence.tokens, sequence.adapter).data(), logits.data(),
                              logits.size(), "a sequence changed without a call");
        }
        engine_->cache().release(id);
        sequences_.erase(it);
    }

    Random& random_;
    std::shared_ptr<Model> model_, other_model_;
    CacheFormat cache_;
    std::unique_ptr<Engine> engine_, oracle_;
    std::shared_ptr<const LoraAdapter> adapter_, other_adapter_;
    std::map<int64_t, LiveSequence> sequences_;
};

}  // namespace

void test_calls(Random& random, int count) {
    const Ops* tables[8];
    const int num_tables = available_ops(tables, 8);
    const auto model = random_model(random);
    CallTest calls(random, model, tables[random_int(random, 0, num_tables - 1)]->name);
    for (int i = 0; i < count; ++i) calls.random_call();
    calls.check_all_sequences();
}

}  // namespace empu
