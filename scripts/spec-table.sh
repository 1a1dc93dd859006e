#!/usr/bin/env bash
# spec-table.sh tests LIST…    checks that bundles and tests named in docs/conformance.md and the other documents
#                              exist (LIST: output of libtest, with or without --list), and so do those that the
#                              Makefile and scripts/vm-tests.sh select or skip by name
# spec-table.sh ran LOG        checks that the tests of LOG's modules ran and passed; reports skipped ones
# spec-table.sh spec DIR BRIG  checks that every normative line of the spec's checkout DIR has its row, and that
#                              the output of BRIG features conforms to the schema
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
document=$here/docs/conformance.md
# Only the tables of the last part.
tables=$(sed '1,/^## The spec, sentence/d' "$document" | grep '^|')
bad=0
# Tests of integration/ are named without their directory there: without the first part of the names that
# libtest prints. Those of src/, which contain `tests` in their names, are named in full.
roomless() { sed '/::tests::/!s/^[a-z_0-9]*::\(.*::\)/\1/'; }
complain() { complain_of docs/conformance.md "$@"; }
complain_of() { echo "$1: ${*:2}" >&2; bad=1; }
# Parts of test names, by which the Makefile and the guests select tests.
filters() {
    sed -n "s/.*TESTS='\\([a-z_][^']*\\)'.*/\\1/p; s/.* --nocapture \\([^ ]*\\)$/\\1/p" "$here/Makefile"
    sed -n '/^skipped=(/,/^)/s/^ *\([a-z_0-9:]*\) *#.*/\1/p; s/^ *tests=(\([a-z].*\))$/\1/p' "$here/scripts/vm-tests.sh"
}
tests() { grep -o '`[a-z_0-9]*::[a-z_0-9:]*`' <<<"$tables" | tr -d '`' | sort -u; }

case $1 in
tests)
    shift
    listed=$(cat "$@" | sed -n 's/^test \([^ ]*\) \.\.\..*/\1/p; s/^\([^ ]*\): test$/\1/p')
    known=$(roomless <<<"$listed" | sort -u)
    while read -r name; do complain "there is no test $name"; done < <(comm -23 <(tests) <(echo "$known"))
    while read -r bundle; do
        [ -e "$here/fixtures/bundles/invalid/$bundle/error.txt" ] || complain "there is no bundle $bundle"
    done < <(grep -o 'bundle `[^`]*`' <<<"$tables" | sed 's/bundle `\(.*\)`/\1/')
    cd "$here"
    for file in *.md docs/*.md; do
        [ "$file" != docs/conformance.md ] || continue
        tables=$(cat "$file")
        while read -r name; do complain_of "$file" "there is no test $name"; done \
            < <(comm -23 <(tests) <(echo "$known"))
    done
    for filter in $(filters); do
        grep -qF -e "$filter" <<<"$listed" || complain_of "Makefile, scripts/vm-tests.sh" "$filter is part of no test's name"
    done
    ;;
ran)
    passed=$(sed -n 's/^test \([^ ]*\) \.\.\. ok$/\1/p' "$2" | roomless | sort -u)
    skipped=$(sed -n 's/^skipped \([^:]*\(::[^:]*\)*\): .*/\1/p' "$2" | roomless | sort -u)
    of_log=$(tests | grep -v '::tests::')
    while read -r name; do complain "$name has not passed"; done < <(comm -23 <(echo "$of_log") <(echo "$passed"))
    here_not=$(comm -12 <(echo "$of_log") <(echo "$skipped"))
    shown=$(($(wc -l <<<"$of_log") - $(grep -c . <<<"$here_not" || true)))
    echo "docs/conformance.md: $shown of its tests passed here; skipped:" $here_not
    ;;
spec)
    spec=$2 brig=$3
    git -C "$spec" rev-parse -q --verify 'v1.3.0^{commit}' >/dev/null || { echo "$spec has no tag v1.3.0" >&2; exit 2; }
    for file in config.md config-linux.md runtime.md runtime-linux.md features.md features-linux.md bundle.md; do
        rows=$(sed "1,/^### $file\$/d" "$document" | sed '/^### /,$d' | sed -n 's/^| \([0-9][^|]*\) |.*/\1/p' |
            tr -d ' ' | tr , '\n' | sort)
        lines=$(git -C "$spec" show "v1.3.0:$file" | grep -nwE 'MUST|SHOULD|SHALL' | cut -d: -f1 | sort)
        for line in $(comm -13 <(echo "$rows") <(echo "$lines")); do complain "$file:$line has no row"; done
        for line in $(comm -23 <(echo "$rows") <(echo "$lines")); do complain "$file:$line binds nobody"; done
    done
    "$here/scripts/need.sh" python3-jsonschema
    schemas=$(mktemp -d)
    trap 'rm -rf "$schemas"' EXIT
    for name in features-schema features-linux defs defs-linux; do
        git -C "$spec" show "v1.3.0:schema/$name.json" >"$schemas/$name.json"
    done
    "$brig" features >"$schemas/features"
    (cd "$schemas" && python3 -W ignore - <<'PYTHON') || complain "brig features does not keep to the schema"
import json, os, jsonschema
schema = json.load(open("features-schema.json"))
base = jsonschema.RefResolver("file://" + os.getcwd() + "/", schema)
jsonschema.validate(json.load(open("features")), schema, resolver=base)
PYTHON
    ;;
esac
exit $bad
