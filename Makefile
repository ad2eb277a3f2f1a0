# `make` sets everything up, `make demo` shows it, `make test` proves it, `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := setup
MAKEFLAGS += --no-builtin-rules

venv := $(abspath $(VENV))
# Of what ROS 2 the environment was made for. Another one, or none, finds no stamps of its own, and it is made anew.
stamps := $(venv)/stamps$(addprefix /,$(ROS_DISTRO))
pip := $(venv)/bin/python -m pip --disable-pip-version-check --no-input
install := $(pip) install --quiet --constraint requirements/constraints.txt

# A sourced ROS 2 is used as it is; without one, ROS 2 comes from PyPI wheels.
ifdef ROS_DISTRO
  venv_options := --system-site-packages
  ros_requirements := requirements/ros-system.txt
  ros_prefix :=
  colcon := colcon
else
  venv_options :=
  ros_requirements := requirements/ros.txt requirements/ros-build.txt
  ros_prefix := AMENT_PREFIX_PATH=$(venv) CMAKE_PREFIX_PATH=$(venv)
  colcon := $(venv)/bin/colcon
endif
runtime_requirements := requirements/runtime.txt $(ros_requirements)
test_requirements := $(foreach extra,cluster codecs cuda mavlink radio report rerun taxonomy train video test,requirements/$(extra).txt)

.PHONY: setup demo test lint clean help
setup: $(stamps)/built  ## set up .venv and build the package into it (the default)

demo: $(stamps)/built $(stamps)/demo  ## a street video over a thin link; MODEL=imagenet for photos named as a whole, SHORT=1 for a short form, LINK=acoustic for a radio of 1.2 kbit/s (or lora, serial9600, 64kbit,50ms,5% …), ARGS="…"
	@$(venv)/bin/semhier demo $(if $(MODEL),--model $(MODEL)) $(if $(LINK),--link $(LINK)) $(if $(SHORT),--short) $(ARGS)

test: $(stamps)/built $(stamps)/demo $(stamps)/test  ## install all extras, run every test and lint; ARGS="…" for pytest alone
	@$(venv)/bin/python tools/run_tests.py $(ARGS)

lint: $(stamps)/test  ## ruff, mypy and the arrows between rooms only
	@$(venv)/bin/ruff check .
	@$(venv)/bin/mypy
	@$(venv)/bin/lint-imports --no-logo

clean:  ## remove .venv, build output and caches; trained models and runs stay
	rm -rf $(VENV) out build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

$(stamps)/venv:
	@PYTHON="$(PYTHON)" tools/check_machine.sh
	@echo "-- making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(venv_options) $(venv)
	@mkdir -p $(stamps)
	@touch $@

$(stamps)/runtime: $(stamps)/venv requirements/constraints.txt $(runtime_requirements)
	@echo "-- installing the runtime (about 800 MB on disk)"
	@$(install) $(foreach file,$(runtime_requirements),--requirement $(file))
	@command -v cmake >/dev/null || $(install) --requirement requirements/cmake.txt
	@$(venv)/bin/python tools/patch_message_wheels.py
	@touch $@

# Python, launch and configuration files are installed as links, so that editing them needs no new build; adding or
# removing one does, hence this list of their names.
$(stamps)/files: $(stamps)/venv FORCE
	@find $(wildcard msg semhier_ros launch config models) -type f -not -name '*.pyc' | LC_ALL=C sort > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
.PHONY: FORCE
FORCE:

$(stamps)/built: $(stamps)/runtime $(stamps)/files package.xml CMakeLists.txt $(wildcard msg/*.msg cmake/*.in native/*)
	@echo "-- building messages and package into $(VENV)"
	@PATH="$(venv)/bin:$$PATH" $(ros_prefix) $(colcon) --log-base $(venv)/colcon/log build --paths . \
	  --build-base $(venv)/colcon/build --install-base $(venv) --merge-install --symlink-install \
	  --event-handlers console_start_end- summary- \
	  --cmake-args -DPython3_EXECUTABLE=$(venv)/bin/python -DBUILD_TESTING=OFF \
	  2> >(grep -v "doesn't contain any 'local_setup" >&2)
	@cd / && $(venv)/bin/python -c "import semhier_ros.msg"
	@touch $@

# A data file is all that is taken from the first: nothing of what it depends on. The second lays out the report.
$(stamps)/demo: $(stamps)/runtime requirements/demo.txt requirements/radio.txt requirements/report.txt
	@$(install) --no-deps --requirement requirements/demo.txt
	@$(install) --requirement requirements/report.txt --requirement requirements/radio.txt
	@touch $@

$(stamps)/test: $(stamps)/runtime $(test_requirements)
	@tools/install_browser.sh
	@echo "-- installing what training and tests need (about 5 GB on disk, most of it torch with CUDA)"
	@$(install) $(foreach file,$(runtime_requirements) $(test_requirements),--requirement $(file))
	@$(venv)/bin/python tools/patch_message_wheels.py
	@touch $@
