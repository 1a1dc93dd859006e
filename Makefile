# All build and test steps, from source to a tested binary: `make help` lists them. Needs Rust; everything
# else that is missing is installed by apt (as root or with sudo).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build check integration test test-musl test-vm test-vm-systemd test-vm-selinux test-vm-engines ci-vm test-engines soak-pods hot bench bench-engines bench-layers bench-restore conformance fuzz soak demo documents book install install-seal uninstall dist dist-one dist-check test-deb audit verify-release ci ci-suite ci-pods ci-nightly clean

PREFIX   := /usr/local
DESTDIR  :=
MAX_SIZE := 4000000

HOST     := $(shell rustc -vV | sed -n 's/^host: //p')
PROCESSOR := $(firstword $(subst -, ,$(HOST)))
# ARCH=aarch64 cross-compiles for that processor, LIBC=musl links with that C library.
MACHINE  := $(if $(ARCH)$(LIBC),$(or $(ARCH),$(PROCESSOR))-unknown-linux-$(or $(LIBC:glibc=gnu),gnu),$(HOST))
FOREIGN  := $(filter-out $(HOST),$(MACHINE))
# The prefix of the cross compiler and its tools.
CROSS    := $(patsubst %,%-linux-gnu-,$(filter-out $(PROCESSOR),$(ARCH)))
# The tests themselves are linked with glibc.
TESTED   := $(MACHINE:%-musl=%-gnu)
TARGET   := $(or $(CARGO_TARGET_DIR),target)
OUT      := $(TARGET)/$(MACHINE)/release
BRIG     := $(if $(FOREIGN),$(OUT),$(TARGET)/release)/brig
COMMIT   := $(or $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null),unknown)
SUDO     := $(if $(filter 0,$(shell id -u)),,sudo -E)
# Tests mount and unmount: in their own mount namespace, which ends with them.
PRIVATE  := $(SUDO) unshare --mount --propagation private
CARGO    := CARGO_TARGET_$(shell echo $(TESTED) | tr a-z- A-Z_)
RUNNER   := $(CARGO)_RUNNER
# A static binary needs an explicit --target: otherwise the flags would also apply to proc-macros, which
# cannot be static. brig recognises its own file by the build-id.
FLAGS    := -C target-feature=+crt-static -C relocation-model=static -C link-arg=-Wl,--build-id
REMAP    := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src=crates --remap-path-prefix=$(CURDIR)=brig
# Tests are not linked by cc-brig, because they catch panics.
STATIC   := RUSTFLAGS='$(FLAGS)' $(if $(CROSS),$(CARGO)_LINKER=$(CROSS)gcc)
# rustc uses its lld by default only with glibc.
LLD      := $(if $(filter %-musl,$(MACHINE)),$(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(HOST)/bin/gcc-ld))
# With v0 mangling, the instances of a generic function have distinct names, as in fixtures/hot.txt. The
# linker's path is relative and the binary contains no paths, so the build is reproducible in any directory.
RELEASE  := env RUSTFLAGS='$(FLAGS) -C symbol-mangling-version=v0 -C linker=scripts/cc-brig $(REMAP)' CROSS_COMPILE=$(CROSS) LLD=$(LLD) \
            BRIG_COMMIT='$(COMMIT)' cargo build --release --locked --target $(MACHINE)
COMPILER := $(if $(CROSS),gcc-$(ARCH)-linux-gnu libc6-dev-$(if $(filter aarch64,$(ARCH)),arm64,$(ARCH))-cross,gcc libc6-dev)

ifneq ($(MAKECMDGOALS),)
  ifeq ($(HOST),)
    $(error rustc is not in PATH: install Rust for the user who runs make, and run make without sudo)
  endif
endif

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## the static release binary, target/release/brig; ARCH=aarch64, LIBC=musl: target/…/release/brig
	@scripts/need.sh $(COMPILER) $(FOREIGN:%=rust-std:%)
	$(RELEASE) --bins
	@$(if $(FOREIGN),,install -D -m 755 $(OUT)/brig $(BRIG))
	@echo "built $(BRIG), $$(stat -c %s $(BRIG)) bytes, $(COMMIT)"

check: build ## formatting, lints, unit tests; the binary is static and small
	@scripts/need.sh binutils codespell fish groff libseccomp2 python3 shellcheck zsh \
	    linux-libc-dev-arm64-cross linux-libc-dev-armhf-cross linux-libc-dev-riscv64-cross
	cargo fmt --all --check
	scripts/documents.py
	scripts/pictures.py --check
	shellcheck --severity=warning $$(git ls-files scripts .ci | grep -vE '\.(py|ld|service)$$|/book/')
	codespell $$(git ls-files | grep -vE '\.svg$$|^Cargo.lock|^fuzz/|^fixtures/')
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@# Without images, and with the features of dependencies that are built already.
	cargo clippy --locked --workspace --no-default-features --lib --bins -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --workspace --no-deps
	cargo test --locked --workspace --lib
	cargo test --locked --workspace --no-default-features --lib
	cargo test --locked --workspace --doc
	cargo test --locked --test corpus --test pages --test layering
	@# Alone: with the dependencies and features that it asks for itself.
	cargo test --locked -p oci-seccomp
	cargo package --locked --allow-dirty -p oci-seccomp
	@for kind in '--workspace --lib' '--test integration'; do cargo test --locked --quiet $$kind -- --list; done >$(TARGET)/tests.list
	scripts/spec-table.sh tests $(TARGET)/tests.list
	@readelf -nW $(BRIG) | grep -q 'Build ID' || { echo "$(BRIG) has no build-id"; exit 1; }
	@if readelf -lW $(BRIG) | grep INTERP; then echo "$(BRIG) is not static"; exit 1; fi
	@size=$$(stat -c %s $(BRIG)); [ $$size -le $(MAX_SIZE) ] || \
	    { echo "$(BRIG) has $$size bytes, more than $(MAX_SIZE)"; exit 1; }

integration: build ## the tests against the real kernel, as root in a mount namespace of their own; TESTS=part of their names
	@scripts/need.sh iproute2 uidmap busybox-static skopeo umoci
	env BRIG=$(abspath $(BRIG)) BRIG_TEST_INIT=$(abspath $(OUT)/brig-test-init) $(RUNNER)='$(PRIVATE)' \
	    cargo test --locked --test integration -- $(TESTS) 2>&1 | tee $(TARGET)/integration.log || \
	    { echo 'What failed, once more:'; grep -A 12 'panicked at' $(TARGET)/integration.log; exit 1; }
	@$(if $(TESTS),,scripts/spec-table.sh ran $(TARGET)/integration.log)

test-musl: ## those of them for which the C library matters, with the binary of `make build LIBC=musl`
	@if scripts/need.sh rust-std:$(PROCESSOR)-unknown-linux-musl; then $(MAKE) --no-print-directory integration LIBC=musl \
	    TESTS='cve_binary:: seccomp_hostile:: inherited:: lifecycle:: exec:: images:: the_version_has'; \
	    else echo '1 skipped:'; echo 'skipped test-musl: Rust has no standard library for musl here'; fi

# VM_COMMAND=… runs that in the guest instead of the tests; KERNEL=… boots another package's kernel;
# CGROUPS=v1 provides cgroup v1 with every controller.
IN_VM    = env $(STATIC) BRIG=$(abspath $(BRIG)) BRIG_TEST_INIT=$(abspath $(OUT)/brig-test-init) \
           VM_CACHE=$(abspath $(TARGET)/vm$(if $(CROSS),-$(ARCH))) VM_ARCH=$(ARCH) $(RUNNER)=$(abspath scripts/vm-tests.sh) $(1) \
           cargo test --locked --target $(TESTED) --test integration -- $(or $(TESTS),$(if $(CROSS),$(EMULATED)))
# The tests to run on an emulated processor.
EMULATED := cmd::lifecycle:: cmd::exec:: seccomp:: rootfs::mounts:: cgroup::cgroup_v2:: image::images::

test-vm: build ## the same tests in a QEMU guest with cgroup v2 alone; TESTS=part of their names; ARCH=aarch64: some of them
	@scripts/need.sh $(if $(CROSS),qemu-system-arm,qemu-system-x86) busybox-static cpio e2fsprogs
	$(call IN_VM)

test-vm-systemd: build ## some of them, and more, in one with systemd, AppArmor and a user session
	@scripts/need.sh qemu-system-x86 busybox-static cpio e2fsprogs mmdebstrap
	$(call IN_VM,VM_FLAVOUR=--systemd)

test-vm-selinux: build ## those about SELinux, in the same one with SELinux instead of AppArmor
	@scripts/need.sh qemu-system-x86 busybox-static cpio e2fsprogs mmdebstrap
	$(call IN_VM,VM_FLAVOUR=--systemd LSM=selinux)

test-vm-engines: build ## containerd and its pods with SystemdCgroup, podman's quadlet, in a guest of Debian 13 with systemd; RUNTIME=runc
	@scripts/need.sh qemu-system-x86 busybox-static cpio e2fsprogs mmdebstrap
	@env RUNTIME='$(RUNTIME)' TESTS='$(TESTS)' scripts/vm-engines.sh $(BRIG) $(abspath $(TARGET)/vm-engines)

test-engines: build ## podman, buildah, docker, containerd, CRI with brig; ENGINES=podman RUNTIME=runc TESTS=part SUITE=trixie or sid
	@$(SUDO) env RUNTIME='$(RUNTIME)' TESTS='$(TESTS)' SUITE='$(SUITE)' scripts/engines.sh $(BRIG) $(TARGET)/engines $(ENGINES)

soak-pods: build ## PODS=50 pods by containerd for SOAK_SECONDS=120, probed each second; RUNTIME=runc SUITE=trixie or sid
	@$(SUDO) env RUNTIME='$(RUNTIME)' SUITE='$(SUITE)' PODS='$(PODS)' SOAK_SECONDS='$(SOAK_SECONDS)' \
	    scripts/engines.sh $(BRIG) $(TARGET)/engines soak-pods

test: check integration demo documents ## everything that must pass

demo: build ## a container of overlay layers, shown from create to delete
	@scripts/need.sh busybox-static
	@COLOR=$$([ ! -t 1 ] || echo yes) $(PRIVATE) scripts/demo.sh $(BRIG) $(TARGET)/demo | tee $(TARGET)/demo.txt

documents: demo ## runs the commands of README.md and docs/tour.md, and compares what they print
	@scripts/need.sh python3 busybox-static
	@$(SUDO) scripts/documents.py run $(BRIG)

book: build ## docs/how-containers-work.md: runs all its commands, writes it; CHECK=1 only checks
	@$(SUDO) scripts/engines.sh $(BRIG) $(TARGET)/engines book
	@$(if $(CHECK),,cp $(TARGET)/engines/book/book.md docs/how-containers-work.md)

fuzz: ## each fuzzer of fuzz/ for FUZZ_SECONDS=60; FUZZERS=some of them; needs a nightly compiler
	scripts/fuzz.sh $(or $(FUZZ_SECONDS),60) $(FUZZERS)

soak: build ## everything at once, killed and stopped at random, for SOAK_SECONDS=120; SOAK_SEED=n repeats what is done
	@env BRIG=$(abspath $(BRIG)) BRIG_TEST_INIT=$(abspath $(OUT)/brig-test-init) $(RUNNER)='$(PRIVATE)' \
	    SOAK_SECONDS=$(or $(SOAK_SECONDS),120) $(if $(SOAK_SEED),SOAK_SEED=$(SOAK_SEED)) \
	    cargo test --locked --test integration -- --nocapture soak::

hot: build ## fixtures/hot.txt anew: in which order the linker puts functions, seen in a container's life; LIBC=musl adds its own
	@scripts/need.sh busybox-static
	$(RELEASE) --example hot
	@$(PRIVATE) scripts/hot.sh "$$(ls -t $(OUT)/deps/brig-*.symbols | head -1)" $(OUT)/examples/hot $(TARGET)/hot >$(TARGET)/hot.txt
	@awk '!seen[$$0]++' $(if $(FOREIGN),fixtures/hot.txt) $(TARGET)/hot.txt >$(TARGET)/hot.all
	@cp $(TARGET)/hot.all fixtures/hot.txt

bench: build ## against runc, crun, youki if installed and PEERS="name=/path …"; ROUNDS=n
	@scripts/need.sh runc crun strace libseccomp2
	@# Apart: dynamic, without the flags of what is measured below.
	cargo bench --locked --target-dir $(TARGET)/bench/build -p oci-seccomp --bench seccomp
	$(RELEASE) --examples
	@mkdir -p $(TARGET)/bench
	@$(SUDO) $(OUT)/examples/compare $(TARGET)/bench floor=$(OUT)/examples/floor honest=$(OUT)/examples/floor brig=$(BRIG) \
	    crun=crun runc=runc youki=$(or $(shell command -v youki),$(HOME)/.cargo/bin/youki) $(PEERS)

bench-engines: build ## podman and docker with brig, runc, crun: run, exec, 20 at once; ROUNDS=n
	@$(SUDO) env ROUNDS='$(ROUNDS)' scripts/engines.sh $(BRIG) $(TARGET)/engines bench

bench-restore: build ## checkpoint and restore of sh and of Python beside runc, by one CRIU; ROUNDS=n
	@scripts/need.sh runc busybox-static python3
	@scripts/criu.sh $(TARGET)/criu
	@$(SUDO) env ROUNDS='$(or $(ROUNDS),15)' unshare --mount --propagation private \
	    scripts/bench-restore.py $(TARGET)/criu brig=$(BRIG) runc=runc

bench-layers: build ## bundle and run --image beside umoci, skopeo, podman; ROUNDS=n
	@$(SUDO) env ROUNDS='$(ROUNDS)' scripts/engines.sh $(BRIG) $(TARGET)/engines bench-layers

conformance: build ## RUNTIME_TOOLS=checkout, built: its validation, REFERENCE=runc beside it, VM=1 in a guest; SPEC=checkout
	@[ -n "$(RUNTIME_TOOLS)$(SPEC)" ] || \
	    { echo "RUNTIME_TOOLS=DIR: a checkout of opencontainers/runtime-tools, built"; exit 2; }
	@[ -z "$(SPEC)" ] || scripts/spec-table.sh spec "$(SPEC)" $(BRIG)
	@[ -z "$(VM)" ] || scripts/need.sh qemu-system-x86 busybox-static cpio e2fsprogs mmdebstrap
	@[ -n "$(RUNTIME_TOOLS)" ] || exit 0; \
	$(SUDO) env VM_CACHE=$(abspath $(TARGET)/vm) \
	    scripts/$(if $(VM),vm-)conformance.sh "$(RUNTIME_TOOLS)" $(BRIG) $(REFERENCE)

# The usual directories for man pages and completions.
MAN      := $(DESTDIR)$(PREFIX)/share/man/man8
BASH     := $(DESTDIR)$(PREFIX)/share/bash-completion/completions/brig
ZSH      := $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_brig
FISH     := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/brig.fish

install: ## binary, man pages, completions into DESTDIR + PREFIX (/usr/local)
	@[ -e $(BRIG) ] || $(MAKE) build
	install -D -m 755 $(BRIG) $(DESTDIR)$(PREFIX)/bin/brig
	install -d -m 755 $(MAN)
	install -m 644 docs/man/*.8 $(MAN)
	install -D -m 644 docs/completions/brig.bash $(BASH)
	install -D -m 644 docs/completions/_brig $(ZSH)
	install -D -m 644 docs/completions/brig.fish $(FISH)

uninstall: ## removes what install has put there
	rm -f $(DESTDIR)$(PREFIX)/bin/brig $(BASH) $(ZSH) $(FISH) \
	    $(addprefix $(MAN)/,$(notdir $(wildcard docs/man/*.8)))

install-seal: ## mounts brig's directory on /run/brig-seal, now and at each boot: create, run and exec wait less under load
	scripts/install-seal.sh $(PREFIX)/bin $(DESTDIR)

DIST_ARCHES := x86_64 aarch64
VERSION   = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

dist: ## target/dist: tarballs, Debian packages, SBOMs of x86_64 and aarch64, and their checksums
	@rm -rf $(TARGET)/dist
	@for arch in $(DIST_ARCHES); do $(MAKE) --no-print-directory dist-one ARCH=$$arch; done
	@cd $(TARGET)/dist && sha256sum brig* >SHA256SUMS && cat SHA256SUMS

dist-one: build
	@scripts/need.sh python3
	@rm -rf $(TARGET)/dist-$(ARCH)
	@$(MAKE) --no-print-directory --silent install ARCH=$(ARCH) DESTDIR=$(abspath $(TARGET))/dist-$(ARCH) PREFIX=/usr
	@scripts/dist.sh $(TARGET)/dist-$(ARCH) $(ARCH) $(TARGET)/dist

dist-check: dist ## builds it again in another folder, with another CARGO_HOME, and compares every byte
	@env DIST_ARCHES='$(DIST_ARCHES)' scripts/dist-check.sh $(TARGET)/dist

test-deb: dist ## the Debian package installed by apt in a new Debian, where podman runs containers with it
	@scripts/need.sh mmdebstrap
	@$(SUDO) scripts/test-deb.sh $(TARGET)/dist/brig_$(VERSION)_amd64.deb $(TARGET)/test-deb

verify-release: build ## version, tag, changelog, lock files and man pages agree
	@scripts/verify-release.sh $(BRIG)

# Tools that Debian does not package, in target/tools.
AUDIT    := cargo-deny cargo-machete
audit: ## licenses and sources of all dependencies, and those that nothing uses; before a release
	@for tool in $(AUDIT); do [ -x $(TARGET)/tools/bin/$$tool ] || \
	    cargo install --locked --quiet --root $(TARGET)/tools --target-dir $(TARGET)/tools/build $$tool; done
	$(TARGET)/tools/bin/cargo-deny --locked --offline check bans licenses sources
	@# By the names that the code has for crates.
	$(TARGET)/tools/bin/cargo-machete --with-metadata

ci: CHECK := 1
ci: SOAK_SECONDS := 120
# The other architecture is built by ci-nightly.
ci: DIST_ARCHES := x86_64
ci: test test-musl soak test-engines ci-suite book ci-vm fuzz dist-check test-deb ci-pods ## what .ci/run runs

# Running all tests in both guests takes too long: these depend on features that the host does not have.
ci-vm:
	$(MAKE) test-vm TESTS='cgroup_v2:: controllers:: cgroups:: hierarchies:: delegate::'
	$(MAKE) test-vm-systemd TESTS='session:: rootless delegate:: systemd:: lifecycle:: exec::'
	$(MAKE) test-vm-selinux

# The rows about `run` of a newer Debian's engines.
ci-suite:
	$(MAKE) test-engines SUITE=trixie TESTS=run

# Its containerd is already unpacked.
ci-pods:
	$(MAKE) soak-pods SUITE=trixie

ci-nightly: ## what takes longer than CI may, for hours; before a release
	$(MAKE) test-vm
	$(MAKE) test-vm CGROUPS=v1
	$(MAKE) test-vm-systemd
	$(MAKE) test-vm ARCH=aarch64
	$(MAKE) test-vm-engines
	$(MAKE) test-engines SUITE=trixie
	$(MAKE) test-engines SUITE=sid
	$(MAKE) soak SOAK_SECONDS=1200
	$(MAKE) soak-pods SOAK_SECONDS=1200 SUITE=trixie
	$(MAKE) fuzz FUZZ_SECONDS=600
	$(MAKE) integration BRIG_FAULT_STRIDE=1
	$(MAKE) dist-check
	$(MAKE) audit

clean: ## removes target/
	$(SUDO) rm -rf --one-file-system $(TARGET)/demo $(TARGET)/bench
	cargo clean
