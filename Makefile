# make demo        the whole pipeline, small: from an empty machine to masks of test videos
# make web         the page in the browser, on the demo's bundle with its test videos
# make test        what the tests need, and the tests
# make lint        ruff and mypy
# make docs        the documentation as a site, in site/
# make coverage    the tests with branch coverage; what no test reaches is listed
# make mutants     small faults, one at a time: which of them does a test notice?
# make faults      the tests of bad input and damage, and a thousand kills
# make cluster     Ray, S3 and the library in earnest, on the demo's videos: kills, equal bytes
# make web-test    the page in a real browser, which is installed where there is none
# make web-speed   milliseconds from a keystroke to the changed mask, in that browser
# make gpu         where there is a CUDA device: its tests, and what an index costs there
# make zeroshot-double  the zero-shot system with a stand-in that knows the demo's corpus
# make zeroshot-frames  the same without an image-text model on real frames, where these are at hand
# make zeroshot-adapted  what it learns from sentences of the demo's corpus, on top of frozen parts
# make wheel-test  the wheel in an empty environment and an empty folder: demo and masks
# make demo-clean  forget the demo's results

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
WHEEL := runs/wheel
SIDE_BY_SIDE := -n auto --dist loadfile --no-loadscope-reorder
SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
.PHONY: demo demo-clean test lint docs install coverage mutants faults gpu wheel-test zeroshot-double zeroshot-frames zeroshot-adapted cluster web web-test web-speed

demo: $(VENV)/installed
	$(BIN)/aamn demo --out $(RUN)

web: demo $(VENV)/installed-web
	$(BIN)/aamn web --bundle $(RUN)/bundle --data $(RUN)/corpus --library $(RUN)/full_video.index $(WEB)

install: $(VENV)/installed

$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-tests: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/installed-web: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[web]'
	touch $@

$(VENV)/installed-browser: $(VENV)/installed-tests
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,browser]'
	command -v chromium || apt-get install -y chromium || sudo apt-get install -y chromium
	touch $@

$(VENV)/installed-mutants: $(VENV)/installed-tests
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,mutants]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

demo-clean:
	rm -rf $(RUN)

test: $(VENV)/installed-tests
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) $(PYTEST)

coverage: $(VENV)/installed-mutants
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) --cov --cov-report=term-missing:skip-covered $(PYTEST)

mutants: $(VENV)/installed-mutants
	$(BIN)/python tests/mutants/campaign.py $(MUTANTS)

faults: $(VENV)/installed-tests
	$(BIN)/python -m pytest -q tests/faults $(PYTEST)
	PYTHONPATH=.:tests $(BIN)/python tests/faults/kills.py $(KILLS)

cluster: $(VENV)/installed-tests
	PYTHONPATH=.:tests $(BIN)/python tests/faults/cluster.py $(RUN) $(CLUSTER)

web-test: $(VENV)/installed-browser
	AAMN_BROWSER=1 $(BIN)/python -m pytest -q $(PYTEST) tests/aamn/web

web-speed: demo $(VENV)/installed-browser
	PYTHONPATH=.:tests $(BIN)/python tests/page_speed.py $(RUN)/bundle \
	    "$$(ls $(RUN)/corpus/Release/clips320H/*.mp4 | tail -n 1)"

gpu: $(VENV)/installed-tests
	@if ! $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	    echo "make gpu: no CUDA device here, so nothing was run"; exit 0; fi; \
	$(BIN)/python -m pytest -q -m gpu $(PYTEST) tests/gpu && \
	$(BIN)/aamn benchmark --config aamn_r50fpn_shared --detector detector_r50fpn_shared --no-memory

zeroshot-double: $(VENV)/installed-tests
	PYTHONPATH=.:tests $(BIN)/python tests/real/zeroshot_double.py --demo $(RUN) $(ZEROSHOT)

zeroshot-frames: $(VENV)/installed-tests
	PYTHONPATH=.:tests $(BIN)/python tests/real/zeroshot_frames.py --out runs/zeroshot_frames $(ZEROSHOT)

zeroshot-adapted: $(VENV)/installed-tests
	PYTHONPATH=tests $(BIN)/python tests/real/zeroshot_adapted.py --demo $(RUN) --out runs/adapted $(ZEROSHOT)

wheel-test:
	rm -rf $(WHEEL) && mkdir -p $(WHEEL)/empty
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEEL) .
	$(WHEEL)/venv/bin/python -m pip install --quiet --constraint constraints.txt $(WHEEL)/aamn-*.whl
	cd $(WHEEL)/empty && ../venv/bin/aamn demo --small && ../venv/bin/aamn checks && \
	    ../venv/bin/aamn segment "$$(ls runs/demo/corpus/Release/clips320H/*.mp4 | tail -n 1)" \
	        "red dog jumping" --bundle runs/demo/bundle --out masks && \
	    test -n "$$(find masks -name '*.png' -path '*masks*' | head -n 1)"
	rm -rf build

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy aamn proposals

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
