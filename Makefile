# Verbs only: what each does stands in images/ (crate `images` and three small scripts).
# `make help` lists them.

IMAGES := cargo run -q -p images --
# Root tasks that try or measure the kernel.
PROBES := bench guest-bench guest-probe hostile libcap/self_test libcap/deep_stack
# Guests of our own, on the image.
GUESTS := small-guest
# Another root task in place of ours, for `make iso`: any image for seL4's configuration A.
ROOT ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test test-long check iso kernel programs probes bench lab graph tools clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## install what the build needs and this machine lacks
	@sh images/setup.sh

run: iso ## build and boot in QEMU, COM1 on this terminal (Ctrl-A X ends it)
	@$(IMAGES) run

test: iso probes ## run every test, on the host and in the emulators
	cargo test --workspace --exclude system-tests
	cargo test -p system-tests -- --test-threads=2

test-long: iso probes ## the tests that take many minutes
	cargo test -p system-tests -- --test-threads=2 --ignored
	cargo test -p pool --test hostile --test writing -- --test-threads=2 --ignored

check: setup ## fmt, clippy and rustdoc with warnings denied, the house rules
	cargo fmt --check
	cargo clippy -q --workspace --all-targets -- -D warnings
	cargo clippy -q -p microkernel --features bare --bins --target x86_64-unknown-linux-gnu -- -D warnings
	@sh images/programs.sh clippy root $$($(IMAGES) programs) $(PROBES) $(GUESTS)
	RUSTDOCFLAGS='-D warnings' cargo doc -q --no-deps --workspace
	@$(IMAGES) tidy

ifeq ($(ROOT),)
iso: setup kernel programs ## build out/tessera.iso (ROOT=FILE: out/root.iso with that root task)
	@$(IMAGES) iso
else
iso: setup
	@sh images/kernel.sh bare,debug-syscalls out/kernel-debug.elf
	@$(IMAGES) iso "$(ROOT)" out/root.iso
endif

kernel: setup ## build the kernel, out/kernel.elf
	@sh images/kernel.sh bare out/kernel.elf

programs: setup ## build root, every program of the manifest and our guests, out/bin
	@sh images/programs.sh build root $$($(IMAGES) programs) $(GUESTS)

probes: setup ## build the debug kernel and the root tasks that try the kernel
	@sh images/kernel.sh bare,debug-syscalls out/kernel-debug.elf
	@sh images/programs.sh build $(PROBES)
	@$(IMAGES) iso out/bin/guest-probe out/guest-probe.iso

bench: kernel programs probes ## measure kernel, VMs and the pool, print tables, write out/bench.json
	@$(IMAGES) bench
	@cargo run -q --release -p tpool --example pool_bench -- out/pool-bench.img

lab: iso ## boot on KVM where this machine has it nested, else in QEMU's own emulation
	@$(IMAGES) lab

graph: setup ## draw who holds what, out/graph.svg
	@$(IMAGES) graph

tools: setup ## build the tools that run on this machine
	cargo build -p images

clean: ## remove everything that was built
	rm -rf out
	cargo clean
