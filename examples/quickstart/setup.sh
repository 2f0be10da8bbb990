#!/bin/sh
# Makes sure that the programs of this example are there: redis-server, nginx and python3.
#
# Debian and Ubuntu: what is missing is installed with apt-get, which needs root. Elsewhere it only says
# what to install. Running it again changes nothing.
set -eu

# Distributions put servers where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin

programs="redis-server nginx python3"   # on Debian and Ubuntu the packages have the programs' names

missing=""
for program in $programs; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
if [ -z "$missing" ]; then
    echo "Nothing to install: redis-server, nginx and python3 are there."
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing:$missing" >&2
    echo "Install them with your package manager, for example:" >&2
    echo "    Fedora:  sudo dnf install redis nginx python3" >&2
    echo "    Arch:    sudo pacman -S redis nginx python" >&2
    echo "    Alpine:  sudo apk add redis nginx python3" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Missing:$missing" >&2
    echo "Installing needs root: sudo $0" >&2
    exit 1
fi

# The packages would start system services of their own, on ports 80 and 6379. The example needs only the
# programs, so starting is refused while they are installed (policy-rc.d, Debian's own means for this), and
# they are not left to start with the machine either.
policy=/usr/sbin/policy-rc.d
ours=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    ours=yes
fi
tidy_up() { [ -z "$ours" ] || rm -f "$policy"; }
trap tidy_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

export DEBIAN_FRONTEND=noninteractive
echo "Installing:$missing"
apt-get update -q
# shellcheck disable=SC2086  # a list of words
apt-get install -q -y --no-install-recommends $missing

if [ -d /run/systemd/system ]; then
    for program in $missing; do
        systemctl disable --now "$program.service" >/dev/null 2>&1 || true
    done
fi

for program in $programs; do
    command -v "$program" >/dev/null 2>&1 || { echo "$program is still missing" >&2; exit 1; }
done
echo "Installed:$missing"
