# Stand-ins for the base images that the Dockerfile names, made from Debian's archive: they let the
# Dockerfile be built where no registry of images is reached. Sourced by `run`, which sets
#   cache     a folder that outlives the run: what debootstrap made is kept there
#   buildah   a function: buildah with this run's own storage
# They are like the real ones where the build looks: Debian of that name, a user database, apt; for
# the builder also gcc, and this machine's Rust toolchain under /usr/local.
# shellcheck shell=bash disable=SC2154

# The archive that apt uses here for Debian SUITE, as lines `URI SUITE COMPONENT`. The host's own
# settings, so that a mirror or a proxy serves the build too.
apt_sources() {
    # shellcheck disable=SC2016 # these are apt's own placeholders
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite="$1" '($2 == suite || index($2, suite "-") == 1) && $3 == "main"' | sort -u
}

# rootfs NAME SUITE [PACKAGE...]: prints the path of a tar of a minimal Debian, made on first need.
rootfs() {
    local name=$1 suite=$2 tar=$cache/$1.tar tree
    shift 2
    if [ ! -e "$tar" ]; then
        echo "making $name (kept in ${cache#"$root"/})" >&2
        tree=$(mktemp -d "$cache/debootstrap.XXXXXX")
        local mirror
        mirror=$(apt_sources "$suite" | awk -v suite="$suite" '$2 == suite { print $1; exit }')
        # Without a mirror of that suite in apt's sources, debootstrap takes its own default.
        debootstrap --variant=minbase ${1:+--include="$(IFS=,; echo "$*")"} \
            "$suite" "$tree" ${mirror:+"$mirror"} >"$cache/debootstrap.log" 2>&1 || {
            tail -n 20 "$cache/debootstrap.log" >&2
            rm -rf --one-file-system "$tree"
            return 1
        }
        # What slim images leave out too. Written under another name first: a tar that is there is whole.
        tar -C "$tree" --numeric-owner --exclude='./dev/*' --exclude='./var/cache/apt/*' \
            --exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
            --exclude='./usr/share/locale/*' --exclude='./usr/share/info/*' -cf "$tar.part" .
        mv "$tar.part" "$tar"
        rm -rf --one-file-system "$tree"
    fi
    echo "$tar"
}

# use_hosts_apt TREE SUITE: apt inside the tree asks where apt outside asks.
use_hosts_apt() {
    apt_sources "$2" | awk '{ print "deb", $1, $2, $3 }' >"$1/etc/apt/sources.list.new"
    if [ -s "$1/etc/apt/sources.list.new" ]; then
        mv "$1/etc/apt/sources.list.new" "$1/etc/apt/sources.list"
    else
        rm "$1/etc/apt/sources.list.new"
    fi
    apt-config dump | grep -E '^Acquire::(http|https|Retries|Check-)' >"$1/etc/apt/apt.conf.d/90host" || true
}

# make_runtime_base IMAGE SUITE
make_runtime_base() {
    local tar container tree
    tar=$(rootfs "$2-slim" "$2")
    container=$(buildah from scratch)
    tree=$(buildah mount "$container")
    tar -C "$tree" --numeric-owner -xpf "$tar"
    use_hosts_apt "$tree" "$2"
    finish_base "$container" "$1"
}

# make_build_base IMAGE SUITE
make_build_base() {
    local tar container tree sysroot bundle cargo_home
    tar=$(rootfs "$2-build" "$2" gcc g++ libc6-dev make)
    container=$(buildah from scratch)
    tree=$(buildah mount "$container")
    tar -C "$tree" --numeric-owner -xpf "$tar"
    use_hosts_apt "$tree" "$2"

    # Compiler and standard library, without documentation and without rustup.
    sysroot=$(rustc --print sysroot)
    tar -C "$sysroot" --exclude=./share --exclude=./lib/rustlib/src -cf - . | tar -C "$tree/usr/local" --no-same-owner -xf -

    # What cargo needs to reach its registry as the host does: whom it trusts, its settings, and the
    # crates that are here already. Logins (credentials.toml) stay here.
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    mkdir -p "$tree/usr/local/cargo/registry"
    for part in config.toml registry/index registry/cache; do
        [ ! -e "$cargo_home/$part" ] || cp -R "$cargo_home/$part" "$tree/usr/local/cargo/$part"
    done
    bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    if [ -e "$bundle" ]; then
        cp "$bundle" "$tree/usr/local/cargo/authorities.crt"
        buildah config --env CARGO_HTTP_CAINFO=/usr/local/cargo/authorities.crt "$container"
    fi
    buildah config --env CARGO_HOME=/usr/local/cargo "$container"
    finish_base "$container" "$1"
}

finish_base() {
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd bash "$1"
    buildah commit --quiet --rm "$1" "$2" >/dev/null
}
