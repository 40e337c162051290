// Random models, random calls, random draws, random tuning; meant for builds with sanitizers: `make sanitize`.
//
//     empu_native_tests [MODELS [CALLS [TUNINGS [SEED]]]]
#include <cstdio>
#include <cstdlib>

#include "random.hpp"

int main(int count, char** arguments) {
    const auto number = [&](int place, int otherwise) {
        return count > place ? std::atoi(arguments[place]) : otherwise;
    };
    const int models = number(1, 40), calls = number(2, 20000), tunings = number(3, 20);
    const unsigned seed = unsigned(number(4, 1));
    constexpr int kCallsOfAModel = 500;
    const auto tried = [&](const char* what, int times, auto&& attempt) {
        for (int i = 0; i < times; ++i) {
            empu::Random random(seed + unsigned(i));
            try {
                attempt(random);
            } catch (const std::exception& error) {
                std::printf("%s of seed %u: %s\n", what, seed + unsigned(i), error.what());
                std::exit(1);
            }
        }
    };
    const empu::Ops* tables[8];
    const int known = empu::available_ops(tables, 8);
    std::printf("instruction sets:");
    for (int i = 0; i < known; ++i) std::printf(" %s", tables[i]->name);
    std::printf("\n");
    tried("model", models, empu::try_model);
    std::printf("%d random models gave the same bits everywhere\n", models);
    tried("calls", calls / kCallsOfAModel, [](empu::Random& random) { empu::try_calls(random, kCallsOfAModel); });
    std::printf("%d random calls left everything else as it was\n", calls);
    tried("draws", calls, empu::try_drawing);
    std::printf("%d random draws kept to their filters\n", calls);
    tried("tuning", tunings, empu::try_tuning);
    std::printf("%d random shapes were tuned\n", tunings);
}
