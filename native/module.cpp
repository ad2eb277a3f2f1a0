// The compiled part of semhier_ros: what is computed is said in Python, beside each call (semhier_ros/native.py).
//
// One translation unit: to read pybind11's headers takes longer than to compile all of this.
#include "delta.cpp"
#include "ground.cpp"
#include "integer_layers.cpp"
#include "living.cpp"
#include "motion.cpp"
#include "names.cpp"
#include "outlook.cpp"
#include "picture_walk.cpp"
#include "range_coder.cpp"
#include "reading.cpp"
#include "scene_blocks.cpp"
#include "shown.cpp"
#include "telling.cpp"
#include "tracks.cpp"

PYBIND11_MODULE(_native, module) {
  module.doc() = "Compiled kernels of semhier_ros; semhier_ros.native says what they are.";
  semhier::bind_delta(module);
  semhier::bind_ground(module);
  semhier::bind_integer_layers(module);
  semhier::bind_living(module);
  semhier::bind_motion(module);
  semhier::bind_names(module);
  semhier::bind_outlook(module);
  semhier::bind_picture_walk(module);
  semhier::bind_range_coder(module);
  semhier::bind_reading(module);
  semhier::bind_scene_blocks(module);
  semhier::bind_shown(module);
  semhier::bind_telling(module);
  semhier::bind_tracks(module);
}
