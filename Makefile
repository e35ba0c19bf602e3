# make demo        the whole pipeline, small: from an empty machine to masks of held-out videos
# make test        what the tests need, and the tests
# make gpu         where there is a CUDA device: its tests, and what an index costs there
# make lint        ruff
# make demo-clean  forget the demo's results

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
HELD_OUT := 0.1# of the training videos, for the threshold of absence
DATA := $(RUN)/corpus
SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
.PHONY: demo demo-clean test gpu lint install

demo: $(RUN)/metrics.json $(RUN)/videos/done $(RUN)/bundle/bundle.json
	@echo
	@cat $(RUN)/metrics.txt
	@echo
	@echo "whole videos, by one path through the video and clip by clip:"
	@cat $(RUN)/full_video.txt
	@echo
	@echo "$(RUN)/ holds"
	@echo "  corpus/        the synthetic data set, in A2D Sentences' layout (preview.png shows it)"
	@echo "  detector/      the fine-tuned Faster R-CNN, metrics.json with its recall"
	@echo "  proposals.h5   every frame's boxes        flow.h5   every frame's optical flow"
	@echo "  aamn/          checkpoint, curves (tensorboard --logdir $(RUN)/aamn)"
	@echo "  metrics.json   every metric and every row behind it"
	@echo "  full_video.json  the same of whole videos; below which score a sentence means nobody"
	@echo "  bundle/        detector and segmenter together: what aamn.load() and the tools take"
	@echo "  videos/        per video and sentence: masks/, overlay.mp4, sheet.png, attention.png"

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

$(DATA)/synthetic.json: configs/synthetic_demo.yaml | $(VENV)/installed
	$(BIN)/python tools/make_synthetic.py --config $< --out $(DATA)
	touch $@

$(RUN)/%.json: $(DATA)/synthetic.json | $(VENV)/installed
	$(BIN)/python tools/make_manifest.py --data $(DATA) --split $* --held-out $(HELD_OUT) --out $@

$(RUN)/detector/detector.pt: configs/detector_demo.yaml $(RUN)/train.json $(RUN)/test.json
	$(BIN)/python tools/train_detector.py --config $< --manifest $(RUN)/train.json \
	    --validation $(RUN)/test.json --out $(RUN)/detector
	touch $@

$(RUN)/proposals.h5: $(RUN)/detector/detector.pt
	$(BIN)/python tools/extract_proposals.py --data $(DATA) --detector $< --out $@
	touch $@

$(RUN)/flow.h5: $(DATA)/synthetic.json
	$(BIN)/python tools/extract_flow.py --data $(DATA) --out $@
	touch $@

$(RUN)/aamn/finished: configs/aamn_demo.yaml $(RUN)/proposals.h5 $(RUN)/flow.h5
	$(BIN)/python tools/train_net.py --config $< --data $(DATA) --proposals $(RUN)/proposals.h5 \
	    --flow $(RUN)/flow.h5 --out $(RUN)/aamn --set data.held_out=$(HELD_OUT) \
	    --set aamn.backbone.weights=$(RUN)/detector/detector.pt \
	    --set aamn.backbone.flow_weights=$(RUN)/detector/detector.pt
	touch $@

$(RUN)/metrics.json: $(RUN)/aamn/finished
	$(BIN)/python tools/eval_net.py --checkpoint $(RUN)/aamn/last.pt --compare most_confident --out $@ \
	    | tee $(RUN)/metrics.txt

$(RUN)/videos/done: $(RUN)/aamn/finished
	$(BIN)/python tools/segment_video.py --checkpoint $(RUN)/aamn/last.pt --data $(DATA) --count 3 \
	    --proposals $(RUN)/proposals.h5 --flow $(RUN)/flow.h5 --out $(RUN)/videos
	touch $@

$(RUN)/full_video.json: $(RUN)/aamn/finished
	$(BIN)/python tools/eval_net.py --checkpoint $(RUN)/aamn/last.pt --full-video \
	    --calibrate held_out --out $@ | tee $(RUN)/full_video.txt

$(RUN)/bundle/bundle.json: $(RUN)/full_video.json
	$(BIN)/python tools/make_bundle.py --checkpoint $(RUN)/aamn/last.pt \
	    --detector $(RUN)/detector/detector.pt --metrics $< --out $(RUN)/bundle
	touch $@

demo-clean:
	rm -rf $(RUN)

test: $(VENV)/installed-tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile $(PYTEST)

gpu: $(VENV)/installed-tests
	@if ! $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	    echo "make gpu: no CUDA device here, so nothing was run"; exit 0; fi; \
	$(BIN)/python -m pytest -q -m gpu $(PYTEST) tests/gpu && \
	$(BIN)/python tools/benchmark.py --config configs/aamn_r50fpn_shared.yaml \
	    --detector configs/detector_r50fpn_shared.yaml --no-memory

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
