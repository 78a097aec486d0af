# Sourced by the scripts beside it, after packages.sh: builds the browser pages that the gateway embeds, and tests them.
# shellcheck shell=bash

# is_node PROGRAM: whether it is a Node.js that runs TypeScript as it stands (22.18).
is_node() {
  "$1" -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 22 || (major === 22 && minor >= 18) ? 0 : 1)' 2>/dev/null
}

# need_node: sets node_bin to the folder of such a Node.js. Where there is none it is installed into the cache.
need_node() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}
  node_bin=$(dirname "$(command -v node || echo none/node)")
  is_node "$node_bin/node" && return 0
  for node_bin in "$cache"/atoll-{tests,node}/node_modules/node/bin; do
    is_node "$node_bin/node" && return 0
  done
  need npm=npm && mkdir -p "$cache/atoll-node" &&
    npm install --prefix "$cache/atoll-node" --no-audit --no-fund --loglevel=error node@26 >&2 && is_node "$node_bin/node"
}

# build_ui ROOT: into gateway/ui/dist, unless nothing changed since the last time.
build_ui() {
  local ui=$1/gateway/ui built now
  built=$ui/node_modules/.built
  now=$(cd "$ui" && find . \( -name node_modules -o -name dist \) -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
  if [ -f "$ui/dist/node/index.html" ] && [ "$(cat "$built" 2>/dev/null)" = "$now" ]; then return 0; fi
  need npm=npm && need_node || return 1
  (cd "$ui" && npm ci --no-audit --no-fund --loglevel=error >&2 && PATH="$node_bin:$PATH" && node_modules/.bin/tsc &&
    node_modules/.bin/vite build --logLevel warn && printf '%s\n' "$now" >node_modules/.built)
}

# test_ui ROOT: the parts of the pages that need no browser.
test_ui() {
  need_node && (cd "$1/gateway/ui" && "$node_bin/node" --test --test-reporter=dot "test/*.test.ts")
}
