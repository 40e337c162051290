#include <algorithm>

#include "support.hpp"

namespace empu {

namespace {

void expect_rejected(Engine& engine, const Chunk& chunk, const std::string& what) {
    try {
        engine.check({&chunk, 1});
    } catch (const Error&) {
        return;
    }
    throw Failure(what + " was not rejected");
}

}  // namespace

void test_forward(Random& random) {
    const auto model = random_model(random);
    const Ops* tables[8];
    const int count = available_ops(tables, 8);
    const CacheFormat cache = random_int(random, 0, 1) ? CacheFormat::Bfloat16 : CacheFormat::Int8;
    const Ops& ops = *tables[random_int(random, 0, count - 1)];
    const auto oracle = make_engine(model, 1, oracle_of(ops), cache);
    const auto engine = make_engine(model, random_int(random, 1, 3), ops.name, cache);
    using AdapterPtr = std::shared_ptr<const LoraAdapter>;
    const AdapterPtr adapters[] = {nullptr, random_adapter(random, model), random_adapter(random, model)};
    struct LiveSequence {
        int64_t id;
        Tokens tokens;
        AdapterPtr adapter;
    };
    std::vector<LiveSequence> live;
    for (int round = 0; round < 8; ++round) {
        while (live.size() < size_t(random_int(random, 1, 5))) {
            const AdapterPtr& adapter = adapters[random_int(random, 0, 2)];
            live.push_back({engine->allocate(400, adapter), {}, adapter});
        }
        std::vector<Tokens> added(live.size());
        std::vector<Chunk> batch;
        for (size_t i = 0; i < live.size(); ++i) {
            const int space = 400 - int(live[i].tokens.size());
            const int length = random_int(random, 0, 2) ? 1 : random_int(random, 1, 150);
            added[i] = random_tokens(random, *model, std::min(space, length));
            if (!added[i].empty()) batch.push_back({live[i].id, added[i], LogitsNeeded::Last});
        }
        std::vector<float> logits(batch.size() * engine->logit_stride());
        engine->check(batch);
        engine->forward(batch, logits.data());
        size_t row = 0;
        for (size_t i = 0; i < live.size(); ++i) {
            if (added[i].empty()) continue;
            live[i].tokens.insert(live[i].tokens.end(), added[i].begin(), added[i].end());
            const float* logits_row = logits.data() + row++ * engine->logit_stride();
            expect_equal_bits(run_alone(*oracle, live[i].tokens, live[i].adapter).data(), logits_row,
                              engine->logit_stride(),
                              std::string("logits of ") + engine->ops().name + " differ from the scalar ones");
        }
        const size_t index = size_t(random_int(random, 0, int(live.size()) - 1));
        const int cut = random_int(random, 0, int(live[index].tokens.size()));
        if (random_int(random, 0, 2) == 0) {
            const int64_t id = engine->cache().fork(live[index].id, cut, 400);
            const Tokens prefix(live[index].tokens.begin(), live[index].tokens.begin() + cut);
            live.push_back({id, prefix, live[index].adapter});
        } else if (random_int(random, 0, 1) == 0) {
            engine->cache().truncate(live[index].id, cut);
            live[index].tokens.resize(size_t(cut));
        } else if (random_int(random, 0, 1) == 0) {
            engine->cache().release(live[index].id);
            live.erase(live.begin() + std::ptrdiff_t(index));
        }
    }
    const int64_t tiny = engine->cache().allocate(2);
    const Tokens too_long(3, 0), outside = {model->config.vocab_size}, negative = {-1}, valid = {0};
    expect_rejected(*engine, {tiny, too_long, LogitsNeeded::Last}, "more tokens than the capacity");
    expect_rejected(*engine, {tiny, outside, LogitsNeeded::Last}, "an id above the vocabulary");
    expect_rejected(*engine, {tiny, negative, LogitsNeeded::Last}, "a negative id");
    expect_rejected(*engine, {tiny, {}, LogitsNeeded::Last}, "an empty chunk");
    expect_rejected(*engine, {tiny + 1, valid, LogitsNeeded::Last}, "an unknown sequence");
}

}  // namespace empu
