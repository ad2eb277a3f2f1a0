// A state of a scene as kernels have it: `SceneState.table` of semhier_ros/scene/memory.py.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace semhier {

using Whole = std::vector<std::int64_t>;
using Rows = std::vector<std::size_t>;

constexpr std::int64_t CELL = 256, UNNAMED = -1;
constexpr std::int64_t PLACE_STEP = 32, SPEED_STEP = 64, LOG_STEP = 128, SHIFT_STEP = 16;
constexpr std::int64_t LEAST_LOG = -3 * 1024, LOGS_PER_SIDE = 32;

// Columns of the table. From PATH on one for each level below the first, then all latents.
enum Column : std::size_t { X, Y, WIDTH, HEIGHT, ACROSS, DOWN, SCORE, NAMED, TOLD, HIDDEN, PATH };

inline std::int64_t floor_over(std::int64_t value, std::int64_t over) {
  return value / over - (value % over != 0 && (value < 0) != (over < 0));
}

inline std::int64_t within(std::int64_t value, std::int64_t least, std::int64_t most) {
  return std::min(std::max(value, least), most);
}

// Which of the lengths that sides may have is one of this logarithm: as `memory.side_lengths`.
inline std::int64_t side_place(std::int64_t log, std::size_t lengths) {
  return within(floor_over((log - LEAST_LOG) * LOGS_PER_SIDE, 1024), 0, static_cast<std::int64_t>(lengths) - 1);
}


// Table rows of `SceneStream`, by the symbols of an object's sides, of which there are `symbols`: the class of its area,
// its name's row below a parent; and the band that a cell lies in.
constexpr std::int64_t ROW_BANDS = 8, ASPECTS = 7, AREAS = 6;

inline std::int64_t area_row(std::int64_t across, std::int64_t down, std::int64_t symbols) {
  return within((across + down) * AREAS / (2 * symbols - 1), 0, AREAS - 1);
}

inline std::int64_t name_row(std::int64_t parent, std::int64_t across, std::int64_t down, std::int64_t symbols) {
  const std::int64_t aspect = within(across - down + ASPECTS / 2, 0, ASPECTS - 1);
  return (parent * ASPECTS + aspect) * AREAS + area_row(across, down, symbols);
}

inline std::int64_t band_row(std::int64_t cell, std::int64_t columns, std::int64_t rows) {
  return cell / columns * ROW_BANDS / rows;
}

}  // namespace semhier
