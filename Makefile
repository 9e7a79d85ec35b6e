# Every target sets up what it needs; see README.md. ARGS are handed to the command: make demo ARGS=--once
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
STAMP := .build/ready
MAPPER := .build/images/traffic-light.tar
PACKAGES := pinnace.core pinnace.ext pinnace.cloud pinnace.mappers

.PHONY: demo test check dev bench fuzz soak freeze freeze-twice image image-test budget machine annotate clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    install what is missing, start everything and show the traffic light (ARGS=--once: no terminal needed)"
	@echo "make test    the whole suite"
	@echo "make check   formatting, lint, types, import rules"
	@echo "make bench   the benchmarks, figures into .build/bench/"
	@echo "make soak    the long fault runs      make fuzz    the decoders under random bytes, for long"
	@echo "make machine  the tests that need another kernel, in an emulated machine: cgroup v2, NFS, systemd"
	@echo "make freeze  the edge, frozen, in dist/ARCH (ARCH=arm64: for a Raspberry Pi; PROFILE=1: to be traced; make freeze-twice compares)"
	@echo "make image   a flashable image for Raspberry Pi 3, 4 and Zero 2 W in dist/image, of the edge in dist/arm64"
	@echo "make image-test  boots it in an emulated Pi 3 and sees it become a node (POWER_CUTS=20: and survive as many power cuts)"
	@echo "make budget  the frozen edge against the limits of packaging/budget.toml (docs/footprint.md)"
	@echo "make dev     only set up              make clean   remove what was built"

# The set-up runs again when what it installs from has changed, or when the checkout was moved.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif
$(STAMP): pyproject.toml setup.py build/setup.sh $(wildcard ext/*_py.py ext/*_c.pxd core/pods/oci/shim/*.[ch])
	@bash build/setup.sh
	@mkdir -p $(dir $@) && printf '%s\n' "$(CURDIR)" >$@

dev: $(STAMP)

demo: $(STAMP) $(MAPPER)
	@$(VENV)/bin/pinnace up $(ARGS)

# The mapper's container image, built anew when what goes into it has changed.
$(MAPPER): packaging/mapper_image.py packaging/mapper.spec packaging/entry_light.py $(wildcard mappers/*/*.py core/base/*.py core/base/*/*.py ext/*.py) | $(STAMP)
	@echo "building the mapper's image"
	@$(PY) packaging/mapper_image.py $@

test: $(STAMP) $(MAPPER)
	@$(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

check: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy $(addprefix -p ,$(PACKAGES))
	$(VENV)/bin/mypy tests
	$(VENV)/bin/mypy -p freezing
	$(VENV)/bin/mypy packaging/profile
	$(VENV)/bin/mypy packaging/image
	$(VENV)/bin/lint-imports

bench: $(STAMP)
	@mkdir -p .build/bench
	@for each in tests/bench/*.py; do case $$each in */_*) ;; *) echo "== $$each"; $(PY) $$each --json .build/bench/$$(basename $$each .py).json || exit 1;; esac; done

fuzz: $(STAMP)
	@for each in tests/fuzz/fuzz_*.py; do echo "== $$each"; $(PY) $$each $(or $(ARGS),--runs 200000) || exit 1; done

soak: $(STAMP)
	@PINNACE_SOAK=1 $(PY) -m pytest tests -m slow --timeout 7200 $(ARGS)

# The frozen edge; for another architecture it is cross-compiled and PyInstaller emulated. Its parts are in packaging/freezing.
HOST := $(shell dpkg --print-architecture 2>/dev/null)
ARCH ?= $(HOST)
FREEZE := PYTHONPATH=packaging $(PY) -P -m freezing --arch $(ARCH) $(if $(PROFILE),--profile)

freeze: $(STAMP)
	@bash build/setup-freeze.sh $(ARCH)
	@$(FREEZE)
	@[ "$(ARCH)$(PROFILE)" != "$(HOST)" ] || { echo "and in the whole system:"; $(PY) -m pytest -q -p no:cacheprovider tests/frozen; }

freeze-twice: $(STAMP)
	@bash build/setup-freeze.sh $(ARCH)
	@$(FREEZE) --into .build/freeze/once && $(FREEZE) --anew --into .build/freeze/twice
	@cd .build/freeze && for each in pinnace/lib/manifest $$(cd once && echo pinnace-*); do cmp once/$$each twice/$$each && sha256sum once/$$each; done

image: $(STAMP)
	@[ -x dist/arm64/pinnace/pinnace ] || $(MAKE) freeze ARCH=arm64
	@bash packaging/image/make.sh

image-test: $(STAMP)
	@$(PY) tests/image/run.py $(addprefix --power-cuts ,$(POWER_CUTS)) $(addprefix --seed ,$(SEED)) $(ARGS)

budget: $(STAMP)
	@$(PY) tests/budget/measure.py $(ARGS)

machine: $(STAMP)
	@bash tests/machine/boot.sh $(CURDIR)/$(PY) -m pytest -q -p no:cacheprovider --color=no $(or $(ARGS),--durations=10 @tests/machine/suite)

annotate: $(STAMP)
	@for each in ext/*_py.py; do $(VENV)/bin/cython -3 -a -o .build/cython/$$(basename $$each .py).c $$each; done; echo "yellow pages: .build/cython/*.html"

clean:
	rm -rf .build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info packaging/ns/*.egg-info
	rm -f core/pods/oci/shim/pinnace-shim
	find ext -name '*.so' -delete
