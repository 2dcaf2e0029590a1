package actions

import (
	"context"
	"fmt"
	"path"
	"sort"
	"strings"

	"certbook/engine"
)

// node is one entry of a directory tree on a host.
type node struct {
	kind  string // f, d, l or another letter of find's %y
	mode  string // octal
	owner string // uid:gid
	hash  string // SHA-256 of a file's content, or a link's target
}

// treeScript prints every entry below directory $1: find's description, and a
// hash for each file, separated by NUL. Names cannot confuse it.
const treeScript = `set -eu
cd -- "$1"
find . -mindepth 1 -printf 'E%y %m %U:%G %l\0%P\0'
find . -type f -exec sha256sum -z -- {} + | sed -z 's/^/H/'`

// tree reads a directory tree: path below dir to node.
func tree(ctx context.Context, p engine.Probe, dir string) (map[string]node, error) {
	out, err := p.Query(ctx, engine.Command{Argv: []string{"sh", "-c", treeScript, "sh", p.Path(dir)}})
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", dir, err)
	}
	nodes, err := parseTree(string(out.Stdout))
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", dir, err)
	}
	return nodes, nil
}

// trees reads two directory trees.
func trees(ctx context.Context, p engine.Probe, a, b string) (inA, inB map[string]node, err error) {
	err = together(
		func() (err error) { inA, err = tree(ctx, p, a); return err },
		func() (err error) { inB, err = tree(ctx, p, b); return err },
	)
	return inA, inB, err
}

// parseTree reads what treeScript prints.
func parseTree(text string) (map[string]node, error) {
	nodes := map[string]node{}
	fields := strings.Split(strings.TrimSuffix(text, "\x00"), "\x00")
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		switch {
		case strings.HasPrefix(f, "E") && i+1 < len(fields):
			parts := strings.SplitN(f[1:], " ", 4)
			if len(parts) != 4 {
				return nil, fmt.Errorf("not understood: %.200q", f)
			}
			nodes[fields[i+1]] = node{kind: parts[0], mode: parts[1], owner: parts[2], hash: parts[3]}
			i++
		case strings.HasPrefix(f, "H"):
			hash, name, ok := strings.Cut(f[1:], " ")
			name = strings.TrimPrefix(strings.TrimLeft(name, " *"), "./")
			n, known := nodes[name]
			if !ok || !known {
				return nil, fmt.Errorf("a file changed while it was read: %.200q", name)
			}
			n.hash = hash
			nodes[name] = n
		case f == "":
		default:
			return nil, fmt.Errorf("not understood: %.200q", f)
		}
	}
	return nodes, nil
}

// difference describes how have differs from want, sorted by path; both ways.
func difference(want, have map[string]node) []engine.Change {
	var list []engine.Change
	for p, w := range want {
		h, ok := have[p]
		switch {
		case !ok:
			list = append(list, engine.Change{Subject: p, From: "missing", To: describeNode(w)})
		case h != w:
			list = append(list, engine.Change{Subject: p, From: describeNode(h), To: describeNode(w)})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Subject < list[j].Subject })
	return list
}

func describeNode(n node) string {
	text := map[string]string{"f": "file", "d": "directory", "l": "link"}[n.kind]
	if text == "" {
		text = "entry of type " + n.kind
	}
	text += " " + n.mode + " " + n.owner
	if n.hash != "" {
		text += " " + short(n.hash)
	}
	return text
}

// inside reports whether a path lies in a directory or is it.
func inside(p, dir string) bool {
	p, dir = path.Clean(p), path.Clean(dir)
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
