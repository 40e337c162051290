#include <algorithm>
#include <limits>

#include "random.hpp"
#include "model/sampling.hpp"

namespace empu {

void try_drawing(Random& random) {
    std::vector<float> logits = random_floats(random, size_t(between(random, 1, 2000)), 1);
    const float spread = float(between(random, 1, 8));
    for (float& x : logits) {
        x *= spread;
        if (chance(random, 10)) x = logits.front();  // ties
        if (chance(random, 20)) x = -std::numeric_limits<float>::infinity();
    }
    logits[size_t(between(random, 0, int(logits.size()) - 1))] = 1;
    const Filters filters = {float(between(random, 1, 30)) / 10, chance(random, 2) ? 0 : between(random, 1, 2500),
                             chance(random, 2) ? 1.0f : float(between(random, 1, 100)) / 100,
                             chance(random, 2) ? 0.0f : float(between(random, 0, 100)) / 100};
    const double uniform = double(between(random, 0, 999999)) / 1e6;
    const Ops* tables[8];
    const int known = available_ops(tables, 8);
    const int token = draw(*tables[0], logits, filters, uniform);
    expect(0 <= token && token < int(logits.size()), "no such token");
    for (int i = 1; i < known; ++i) {
        expect(draw(*tables[i], logits, filters, uniform) == token,
               std::string(tables[i]->name) + " draws another token");
    }
    const auto higher = std::count_if(logits.begin(), logits.end(), [&](float x) { return x > logits[size_t(token)]; });
    expect(filters.top_k == 0 || higher < filters.top_k, "top-k did not leave it");
    const int alone = draw(*tables[0], logits, {filters.temperature, filters.top_k, 1e-6f, filters.min_p}, uniform);
    expect(logits[size_t(alone)] == *std::max_element(logits.begin(), logits.end()), "the likeliest was not alone");
}

}  // namespace empu
