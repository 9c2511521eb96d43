#!/usr/bin/env bash
# Compile the proofs, print what they prove and the axioms that they rest on.
#
#     build.sh [--check] [FOLDER]
#
# The files are copied to FOLDER (default: a temporary folder, removed at the end), so
# that they can lie where nothing may be written. With --check, coqchk then checks the
# compiled proofs, and everything that they use, with a program of its own.
#
# Prints one fact a line: "coq VERSION", "theorem NAME FILE", "theorems NUMBER",
# "axiom NAME", "built SECONDS", "checked SECONDS". Exit code: 0, or 1 if a proof is
# wrong, an axiom is not in axioms.txt or a program is missing, with a reason on stderr.
set -euo pipefail

fail() {
    echo "error: $1" >&2
    exit 1
}

install="install them with: apt-get install coq libcoq-coquelicot libcoq-interval make"
for program in coqc coq_makefile coqchk make; do
    command -v "$program" > /dev/null || fail "$program is missing; $install"
done

check=no
if [ "${1:-}" = "--check" ]; then
    check=yes
    shift
fi
[ $# -le 1 ] || fail "expected at most one folder, got: $*"
source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -eq 1 ]; then
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
    [ "$folder" != "$source" ] || fail "$folder contains the proofs; name another folder"
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi

cd "$source"
proofs=(*.v)
cp -- "${proofs[@]}" _CoqProject axioms.txt theorems.txt "$folder"
cd "$folder"
for library in Coquelicot.Coquelicot Interval.Tactic; do
    # An empty file of another name than the proofs', which requires the library.
    echo "Require $library." > Probe.v
    coqc -w none Probe.v > found.log 2>&1 || fail "Coq's library ${library%%.*} is missing or unusable; $install"
    rm -f Probe.* .Probe.*
done
echo "coq $(coqc --print-version | cut -d ' ' -f 1)"

start=$SECONDS
coq_makefile -f _CoqProject "${proofs[@]}" -o Makefile.coq > make.log
make -f Makefile.coq -j 2 > make.log 2>&1 || {
    grep -A 20 '^File ' make.log >&2 || tail -n 20 make.log >&2
    fail "a proof does not compile"
}

# One term that contains every theorem of the list: its axioms are printed at once.
{
    echo "From Kernel Require $(awk '{ print $3 }' theorems.txt | sort -u | tr '\n' ' ')."
    echo "Definition theorems := (I"
    awk '{ print ", @" $3 "." $2 }' theorems.txt
    echo "). Print Assumptions theorems."
} > Axioms.v
coqc -w none -Q . Kernel Axioms.v > axioms.log 2>&1 || {
    cat axioms.log >&2
    fail "a theorem of theorems.txt is not in its file"
}
built=$((SECONDS - start))

awk '{ print "theorem", $2, $3 }' theorems.txt
echo "theorems $(wc -l < theorems.txt)"
# Names start a line; their types follow, indented or after a colon.
grep -v -e '^ ' -e '^Axioms:$' -e '^Closed under the global context$' axioms.log \
    | sed 's/ .*//' | sort -u > used.log || true
while read -r axiom; do
    echo "axiom $axiom"
    cut -d ' ' -f 1 axioms.txt | grep -qxF "$axiom" || fail "a theorem rests on $axiom, which is not in axioms.txt"
done < used.log
echo "built $built"

if [ "$check" = yes ]; then
    start=$SECONDS
    modules=("${proofs[@]/#/Kernel.}")
    modules=("${modules[@]%.v}")
    coqchk -silent -o -Q . Kernel "${modules[@]}" > check.log 2>&1 || {
        tail -n 20 check.log >&2
        fail "coqchk refuses the compiled proofs"
    }
    # Three lines say which definitions were accepted unchecked.
    [ "$(grep -c ': <none>$' check.log)" -eq 3 ] || {
        cat check.log >&2
        fail "coqchk lists definitions that were accepted unchecked"
    }
    echo "checked $((SECONDS - start))"
fi
