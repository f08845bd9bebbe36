# The worst stack of every public function, from what GCC's -fcallgraph-info=su says of frames and calls:
#   awk -f stack.awk *.ci
# Prints "BYTES FUNCTION: the calls on the way" for each. Recursion is an error, and so is a frame without a bound. A call
# through a pointer counts as the deepest of what its file calls so. Functions of the C library and of the compiler's
# arithmetic have no frames here and count as `outside` bytes each.

function value(line, key) {
  if (!match(line, key ": \"([^\"\\\\]|\\\\.)*\"")) return ""
  return substr(line, RSTART + length(key) + 3, RLENGTH - length(key) - 4)
}

# Whether calls through pointers can lead there.
function is_kernel(name) { return name ~ /_plainE|^tonearm_[a-z_]+_(dsp|neon|neon_dot)$/ }
# evaluate.cpp calls those of dense layers, recurrent.cpp the others.
function is_called(name, from) {
  if (from !~ /evaluate/) return is_kernel(name) && name !~ /dense|activate/
  return name ~ /[0-9]sum_(branching|symmetric)E/ || (is_kernel(name) && name ~ /dense|activate/)
}

function deepest(name,    n, i, callees, below, most, by) {
  if (name in depth) return depth[name]
  if (!(name in frame)) { depth[name] = outside; way[name] = ""; return outside }
  if (name in active) { print "recursion: " short(name) > "/dev/stderr"; failed = 1; return 0 }
  active[name] = 1
  most = 0; by = ""
  n = split(calls[name], callees, SUBSEP)
  for (i = 2; i <= n; ++i) {
    if (callees[i] ~ /^__indirect_call/) callees[i] = deepest_kernel(callees[i])
    below = deepest(callees[i])
    if (below > most) { most = below; by = callees[i] }
  }
  delete active[name]
  way[name] = by
  return depth[name] = frame[name] + most
}

function deepest_kernel(from,    name) {
  if (!(from in kernel))
    for (name in frame)
      if (is_called(name, from) && (!(from in kernel) || deepest(name) > deepest(kernel[from]))) kernel[from] = name
  if (!(from in kernel)) {
    print "a call through a pointer that leads to no kernel: " from > "/dev/stderr"
    failed = 1
    return from
  }
  return kernel[from]
}

function short(name) {
  name = name in label ? label[name] : name
  sub(/\(.*/, "", name); sub(/.*::/, "", name); sub(/.* /, "", name)
  return name
}

BEGIN { outside = 32 }

/^node:/ {
  name = value($0, "title")
  text = value($0, "label")
  if (match(text, /[0-9]+ bytes \([a-z,]+\)/)) {
    bytes = substr(text, RSTART, RLENGTH)
    if (bytes !~ /\((static|dynamic,bounded)\)/) { print "no bound: " text > "/dev/stderr"; failed = 1 }
    if (!(name in frame) || bytes + 0 > frame[name]) frame[name] = bytes + 0  # inline: of several files
    sub(/\\n.*/, "", text)
    label[name] = text
  }
}
/^edge:/ {
  from = value($0, "sourcename")
  to = value($0, "targetname")
  calls[from] = calls[from] SUBSEP to (to == "__indirect_call" ? FILENAME : "")
}

END {
  for (name in frame)
    if (name ~ /^tonearm_/ && !is_kernel(name)) {
      line = deepest(name) " " name ":"
      for (at = name; at != ""; at = way[at]) line = line " " short(at) " " (at in frame ? frame[at] : outside)
      print line
      ++found
    }
  if (!found) { print "no call graph of a public function was read" > "/dev/stderr"; failed = 1 }
  exit failed
}
