// The CPU's backend table (floor 1).
#pragma once

#include <string>
#include <vector>

#include "backend/backend.h"

namespace lstm_native::cpu {

const LnBackend* backend();

// The instruction sets that this build has and this machine can run, the best last.
std::vector<std::string> available_isas();
// The one in use: LSTM_NATIVE_ISA, else the best. Throws std::invalid_argument when the variable names one
// that is unknown or that the machine lacks.
std::string isa();
// Chooses another for later calls; std::invalid_argument as above. Packs made before are made anew.
void set_isa(const std::string& name);

}  // namespace lstm_native::cpu
