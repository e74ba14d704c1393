#!/usr/bin/env bash
# Installs what is missing on a Debian machine, or says exactly what to install.
#
#   deploy/lib/prerequisites.sh build         to build: Rust, g++, libclang, python3
#   deploy/lib/prerequisites.sh build mail    and to run the tests: git, postfix, swaks, curl,
#                                                 fetchmail, mbsync, neomutt, offlineimap, doveadm,
#                                                 Python's imapclient
#
# Exits 3 when something is missing that it may not install.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

# libclang.so, libclang.so.1, libclang-14.so.1: not libclang-cpp.so, which is another library.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    local place name
    for place in '/usr/lib/llvm-*/lib' '/usr/lib/*' '/usr/lib*'; do
        for name in 'libclang.so*' 'libclang-[0-9]*.so*'; do
            ! compgen -G "$place/$name" >/dev/null || return 0
        done
    done
    return 1
}

missing=()
modules=() # of Python, which Debian does not package
for group in "$@"; do
    case $group in
        build)
            has c++ || has g++ || missing+=(g++)
            has_libclang || missing+=(libclang-dev)
            has python3 || missing+=(python3)
            ;;
        mail)
            has python3 || [[ " ${missing[*]} " == *" python3 "* ]] || missing+=(python3)
            has git || missing+=(git)
            [ -x /usr/sbin/postfix ] || missing+=(postfix)
            has swaks || missing+=(swaks)
            has curl || missing+=(curl)
            has fetchmail || missing+=(fetchmail)
            has mbsync || missing+=(isync)
            has neomutt || missing+=(neomutt)
            has offlineimap || missing+=(offlineimap3)
            has doveadm || missing+=(dovecot-core)
            # Beside the system's modules; the tests look there (tests/mail/imap/mod.rs).
            export PYTHONPATH=${XDG_CACHE_HOME:-$HOME/.cache}/posthouse/python
            if ! python3 -c 'import imapclient' 2>/dev/null; then
                modules+=(imapclient==3.0.1)
                python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
            fi
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
say_what_to_install() {
    echo "Missing: ${missing[*]} ${modules[*]}" >&2
    [ ${#missing[@]} -eq 0 ] || echo "Install with:  sudo apt-get install ${missing[*]}" >&2
    [ ${#modules[@]} -eq 0 ] ||
        echo "Install with:  python3 -m pip install --target $PYTHONPATH ${modules[*]}" >&2
    exit 3
}
install_modules() {
    [ ${#modules[@]} -eq 0 ] ||
        python3 -m pip install -q --target "$PYTHONPATH" "${modules[@]}" || say_what_to_install
}

if [ ${#missing[@]} -eq 0 ]; then
    install_modules
    exit 0
fi
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
# The tests run what they need themselves; no server of the system must begin to serve, now or with
# the machine. invoke-rc.d and deb-systemd-invoke ask this file whether they may start anything.
policy=/usr/sbin/policy-rc.d
hold_services() {
    [ -e $policy ] && return 0
    trap 'rm -f "$log"; "${run[@]}" rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${run[@]}" tee $policy >/dev/null
    "${run[@]}" chmod 755 $policy
}
install() {
    hold_services
    if [[ " ${missing[*]} " == *" postfix "* ]]; then
        echo 'postfix postfix/main_mailer_type select No configuration' |
            "${run[@]}" debconf-set-selections
    fi
    "${run[@]}" apt-get update -q
    "${run[@]}" DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}" || return
    if [[ " ${missing[*]} " == *" dovecot-core "* ]] && has systemctl; then
        "${run[@]}" systemctl disable dovecot.service dovecot.socket || true
    fi
}
if ! install >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say_what_to_install
fi
install_modules
