#include <algorithm>

#include "random.hpp"

namespace empu {

namespace {

void expect_refused(Engine& engine, const Chunk& chunk, const std::string& what) {
    try {
        engine.check({&chunk, 1});
    } catch (const Error&) {
        return;
    }
    throw Failure(what + " was not refused");
}

}  // namespace

void try_model(Random& random) {
    const auto model = random_model(random);
    const Ops* tables[8];
    const int count = available_ops(tables, 8);
    const CacheKind cache = between(random, 0, 1) ? CacheKind::Bfloat : CacheKind::Small;
    const Ops& ops = *tables[between(random, 0, count - 1)];
    const auto scalar = engine_of(model, 1, oracle_of(ops), cache);
    const auto other = engine_of(model, between(random, 1, 3), ops.name, cache);
    using Held = std::shared_ptr<const Adapter>;
    const Held adapters[] = {nullptr, random_adapter(random, model), random_adapter(random, model)};
    struct Live {
        int64_t id;
        Tokens tokens;
        Held adapter;
    };
    std::vector<Live> live;
    for (int step = 0; step < 8; ++step) {
        while (live.size() < size_t(between(random, 1, 5))) {
            const Held& adapter = adapters[between(random, 0, 2)];
            live.push_back({other->allocate(400, adapter), {}, adapter});
        }
        std::vector<Tokens> added(live.size());
        std::vector<Chunk> batch;
        for (size_t i = 0; i < live.size(); ++i) {
            const int room = 400 - int(live[i].tokens.size());
            const int length = between(random, 0, 2) ? 1 : between(random, 1, 150);
            added[i] = random_tokens(random, *model, std::min(room, length));
            if (!added[i].empty()) batch.push_back({live[i].id, added[i], Want::Last});
        }
        std::vector<float> logits(batch.size() * other->logit_stride());
        other->check(batch);
        other->forward(batch, logits.data());
        size_t row = 0;
        for (size_t i = 0; i < live.size(); ++i) {
            if (added[i].empty()) continue;
            live[i].tokens.insert(live[i].tokens.end(), added[i].begin(), added[i].end());
            const float* got = logits.data() + row++ * other->logit_stride();
            expect_same(alone(*scalar, live[i].tokens, live[i].adapter).data(), got, other->logit_stride(),
                        std::string("logits of ") + other->ops().name + " differ from the scalar ones");
        }
        const size_t chosen = size_t(between(random, 0, int(live.size()) - 1));
        const int cut = between(random, 0, int(live[chosen].tokens.size()));
        if (between(random, 0, 2) == 0) {
            const int64_t id = other->cache().fork(live[chosen].id, cut, 400);
            const Tokens kept(live[chosen].tokens.begin(), live[chosen].tokens.begin() + cut);
            live.push_back({id, kept, live[chosen].adapter});
        } else if (between(random, 0, 1) == 0) {
            other->cache().truncate(live[chosen].id, cut);
            live[chosen].tokens.resize(size_t(cut));
        } else if (between(random, 0, 1) == 0) {
            other->cache().release(live[chosen].id);
            live.erase(live.begin() + std::ptrdiff_t(chosen));
        }
    }
    const int64_t small = other->cache().allocate(2);
    const Tokens long_one(3, 0), outside = {model->shape.vocabulary}, negative = {-1}, one = {0};
    expect_refused(*other, {small, long_one, Want::Last}, "an overflow");
    expect_refused(*other, {small, outside, Want::Last}, "an id above the vocabulary");
    expect_refused(*other, {small, negative, Want::Last}, "a negative id");
    expect_refused(*other, {small, {}, Want::Last}, "an empty chunk");
    expect_refused(*other, {small + 1, one, Want::Last}, "an unknown sequence");
}

}  // namespace empu
