#!/usr/bin/env bash
# Installs what is missing on a Debian machine, or says exactly what to install.
#
#   deploy/lib/prerequisites.sh build         to build: Rust, g++, libclang, python3
#   deploy/lib/prerequisites.sh build mail    and to run the mail tests: postfix, swaks, curl,
#                                                 fetchmail
#
# Exits 3 when something is missing that it may not install.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib*/libclang*.so*' >/dev/null
}

missing=()
for group in "$@"; do
    case $group in
        build)
            has c++ || has g++ || missing+=(g++)
            has_libclang || missing+=(libclang-dev)
            has python3 || missing+=(python3)
            ;;
        mail)
            has python3 || [[ " ${missing[*]} " == *" python3 "* ]] || missing+=(python3)
            [ -x /usr/sbin/postfix ] || missing+=(postfix)
            has swaks || missing+=(swaks)
            has curl || missing+=(curl)
            has fetchmail || missing+=(fetchmail)
            ;;
        *)
            echo "prerequisites: no group $group; there are build and mail" >&2
            exit 2
            ;;
    esac
done

if ! has cargo; then
    echo "A Rust toolchain is missing. Install one with rustup, then run this again." >&2
    exit 3
fi
[ ${#missing[@]} -eq 0 ] && exit 0

say_what_to_install() {
    echo "Missing: ${missing[*]}" >&2
    echo "Install with:  sudo apt-get install ${missing[*]}" >&2
    exit 3
}

has apt-get || say_what_to_install
if [ "$(id -u)" -eq 0 ]; then
    run=(env)
elif has sudo && sudo -n true 2>/dev/null; then
    run=(sudo -n env)
else
    say_what_to_install
fi

echo "Installing: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    # The tests start a Postfix of their own; the system's one must not begin to serve.
    if [[ " ${missing[*]} " == *" postfix "* ]]; then
        echo 'postfix postfix/main_mailer_type select No configuration' |
            "${run[@]}" debconf-set-selections
    fi
    "${run[@]}" apt-get update -q
    "${run[@]}" DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
}
if ! install >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say_what_to_install
fi
