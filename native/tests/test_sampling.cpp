#include <algorithm>
#include <limits>

#include "model/sampling.hpp"
#include "support.hpp"

namespace empu {

void test_sampling(Random& random) {
    std::vector<float> logits = random_floats(random, size_t(random_int(random, 1, 2000)), 1);
    const float spread = float(random_int(random, 1, 8));
    for (float& x : logits) {
        x *= spread;
        if (one_in(random, 10)) x = logits.front();  // ties
        if (one_in(random, 20)) x = -std::numeric_limits<float>::infinity();
    }
    logits[size_t(random_int(random, 0, int(logits.size()) - 1))] = 1;
    const SamplingParams params = {float(random_int(random, 1, 30)) / 10,
                                   one_in(random, 2) ? 0 : random_int(random, 1, 2500),
                                   one_in(random, 2) ? 1.0f : float(random_int(random, 1, 100)) / 100,
                                   one_in(random, 2) ? 0.0f : float(random_int(random, 0, 100)) / 100};
    const double uniform = double(random_int(random, 0, 999999)) / 1e6;
    const Ops* tables[8];
    const int num_tables = available_ops(tables, 8);
    const int token = sample(*tables[0], logits, params, uniform);
    expect(0 <= token && token < int(logits.size()), "the token is outside the vocabulary");
    for (int i = 1; i < num_tables; ++i) {
        expect(sample(*tables[i], logits, params, uniform) == token,
               std::string(tables[i]->name) + " samples another token");
    }
    const auto higher = std::count_if(logits.begin(), logits.end(), [&](float x) { return x > logits[size_t(token)]; });
    expect(params.top_k == 0 || higher < params.top_k, "the token does not pass top-k");
    const int most_likely =
        sample(*tables[0], logits, {params.temperature, params.top_k, 1e-6f, params.min_p}, uniform);
    expect(logits[size_t(most_likely)] == *std::max_element(logits.begin(), logits.end()),
           "a tiny top-p does not give the most likely token");
}

}  // namespace empu
