package host

import (
	"context"
	"os"
	"path"

	"certbook/engine"
)

// A host with a root directory of its own is not a chroot: an absolute symbolic
// link in it leads to the same path of this machine. Files are therefore
// resolved here, so that such a link stays below the root, as it would for the
// processes of the machine that the root stands for. Links among the
// directories of a path are left to the kernel.

const maxLinks = 16

// follow returns the path to which a symbolic link at p leads, p itself when
// it is none, both as the machine's processes see them.
func (h *Host) follow(p string) string {
	if h.root == "" {
		return p
	}
	start := p
	for range maxLinks {
		target, err := os.Readlink(h.Path(p))
		if err != nil {
			return p // not a link, or not there: whoever uses p tells
		}
		if path.IsAbs(target) {
			p = path.Clean(target)
		} else {
			p = path.Join(path.Dir(p), target)
		}
	}
	return start // the links go round in circles
}

// file returns where the content of p lies on this machine.
func (h *Host) file(p string) string { return h.Path(h.follow(p)) }

// below reads those of files again that are symbolic links, from where the
// links lead below the root.
func (h *Host) below(ctx context.Context, files []engine.File) ([]engine.File, error) {
	for i, f := range files {
		target := h.follow(f.Path)
		if target == f.Path || target == f.Target && f.Err == "" {
			continue
		}
		if _, err := os.Lstat(h.Path(target)); err != nil {
			files[i] = engine.File{Path: f.Path, Err: reasons["l"]}
			continue
		}
		read, err := h.ReadFiles(ctx, quotePattern(target))
		if err != nil {
			return nil, err
		}
		if len(read) == 1 {
			read[0].Path, read[0].Target = f.Path, target
			files[i] = read[0]
		}
	}
	return files, nil
}

// quotePattern returns the pattern that matches just the path p.
func quotePattern(p string) string {
	var b []byte
	for i := range len(p) {
		switch p[i] {
		case '*', '?', '[', ']', '\\':
			b = append(b, '\\')
		}
		b = append(b, p[i])
	}
	return string(b)
}
