package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"certbook/engine"
)

// replacedRoot is the directory on a host that keeps what runs have replaced:
// RUN/STEP, and below it the old files under their full paths.
const replacedRoot = "/var/lib/certbook/replaced"

// replacedFile is a file that a run has replaced, made or removed.
type replacedFile struct {
	path   string
	saved  string // its old version
	old    string // SHA-256 of what it was before the run; "-": it was not there; "link": a symbolic link
	new    string // SHA-256 of what the run left; "-" when it was removed
	last   batch  // in which it was replaced last
	kept   string // SHA-256 of the old version as it is now; "-" when it is gone
	is     string // SHA-256 of the file as it is now; "-" when there is none; "link TARGET"
	target string // with a link, "link TARGET" of the old version
}

// batch is one call that replaced files together.
type batch struct {
	time  time.Time
	was   string // SHA-256 of what the file was before
	saved string // that version
}

// back says whether the file is as it was before the run.
func (f replacedFile) back() bool {
	if f.old == "link" {
		return f.is == f.target
	}
	return f.is == f.old
}

// stateScript prints what each file is: its SHA-256, "link TARGET", or "-".
const stateScript = `for f; do
	if [ -L "$f" ]; then echo "link $(readlink -- "$f")"
	elif [ -f "$f" ]; then sum=$(sha256sum <"$f") && echo "${sum%% *}" || echo unreadable
	elif [ -e "$f" ]; then echo other
	else echo -
	fi
done`

// states returns what files are, in their order.
func states(ctx context.Context, p engine.Probe, files ...string) ([]string, error) {
	if len(files) == 0 {
		return nil, nil
	}
	argv := []string{"sh", "-c", stateScript, "sh"}
	for _, f := range files {
		argv = append(argv, p.Path(f))
	}
	out, err := p.Query(ctx, engine.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(out.Stdout), "\n"), "\n")
	if len(lines) != len(files) {
		return nil, fmt.Errorf("asked for %d files, the answer has %d lines", len(files), len(lines))
	}
	return lines, nil
}

// readReplaced lists what a run has replaced on a host. A file that several
// steps have replaced is there once: with its first old version and its last
// new one.
func readReplaced(ctx context.Context, p engine.Probe, run string) ([]replacedFile, error) {
	lists, err := p.ReadFiles(ctx, path.Join(replacedRoot, run, "*", engine.ReplacedList))
	if err != nil {
		return nil, fmt.Errorf("files that run %s has replaced: %w", run, err)
	}
	type line struct {
		engine.Replaced
		dir string
	}
	var all []line
	for _, l := range lists {
		if l.Err != "" {
			return nil, fmt.Errorf("%s: %s", l.Path, l.Err)
		}
		for _, r := range engine.ParseReplaced(l.Data) {
			all = append(all, line{r, path.Dir(l.Path)})
		}
	}
	slices.SortStableFunc(all, func(a, b line) int { return a.Time.Compare(b.Time) })
	var files []replacedFile
	for _, l := range all {
		i := slices.IndexFunc(files, func(f replacedFile) bool { return f.path == l.Path })
		if i < 0 {
			i = len(files)
			files = append(files, replacedFile{path: l.Path, saved: path.Join(l.dir, l.Path), old: l.Old})
		}
		files[i].new, files[i].last = l.New, batch{l.Time, l.Old, path.Join(l.dir, l.Path)}
	}
	var names []string
	for _, f := range files {
		names = append(names, f.saved, f.path)
	}
	now, err := states(ctx, p, names...)
	if err != nil {
		return nil, err
	}
	for i := range files {
		files[i].kept, files[i].is = now[2*i], now[2*i+1]
		if files[i].old == "link" {
			files[i].target = files[i].kept
		} else if resolved := now[2*i+1]; strings.HasPrefix(resolved, "link ") {
			if files[i].is, err = behindLink(ctx, p, files[i].path); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// behindLink returns the SHA-256 of what a link leads to: such a file is
// replaced there.
func behindLink(ctx context.Context, p engine.Probe, file string) (string, error) {
	out, err := p.Query(ctx, engine.Command{Argv: []string{"sh", "-c", `if [ -f "$1" ]; then sha256sum <"$1"; else echo -; fi`, "sh", p.Path(file)}})
	if err != nil {
		return "", err
	}
	sum, _, _ := strings.Cut(strings.TrimSpace(string(out.Stdout)), " ")
	return sum, nil
}

// removeScript keeps file or link $1 as $2, notes that in list $3 as $4, and
// removes it.
const removeScript = `set -eu
umask 077
[ -e "$1" ] || [ -L "$1" ] || exit 0
mkdir -p -- "$(dirname -- "$2")" "$(dirname -- "$3")"
[ -e "$2" ] || [ -L "$2" ] || cp -aT -- "$1" "$2"
if [ -L "$1" ]; then sum=link; else sum=$(sha256sum <"$1"); fi
printf '%s\t%s\t-\t%s\n' "$(date +%s%N)" "${sum%% *}" "$4" >>"$3"
sync -- "$2" "$3" 2>/dev/null || sync
rm -f -- "$1"`

// linkScript keeps link $1 as $2, notes that in list $3, and puts the copy $5 of
// what was there before, a link or a file, in its place. $4 is its name in the
// list.
const linkScript = `set -eu
umask 077
if [ -L "$1" ] && [ ! -L "$2" ]; then
	mkdir -p -- "$(dirname -- "$2")" "$(dirname -- "$3")"
	cp -aT -- "$1" "$2"
	printf '%s\tlink\tlink\t%s\n' "$(date +%s%N)" "$4" >>"$3"
fi
rm -rf -- "$1.certbook-new"
cp -aT -- "$5" "$1.certbook-new"
mv -T -- "$1.certbook-new" "$1"`

// bringBack makes files what they were before a run; what they are now goes
// into the stash. Files that are there before and after change together, as keys
// must with their certificates.
func bringBack(ctx context.Context, h engine.Host, files []replacedFile, keep *stash) error {
	list := h.Path(path.Join(keep.dir, engine.ReplacedList))
	var together []engine.Copy
	var errs []error
	for _, f := range files {
		if f.back() {
			continue
		}
		kept := h.Path(path.Join(keep.dir, f.path))
		var argv []string
		switch {
		case f.old == "-":
			argv = []string{"sh", "-c", removeScript, "sh", h.Path(f.path), kept, list, f.path}
		case f.old == "link" || f.new == "link":
			argv = []string{"sh", "-c", linkScript, "sh", h.Path(f.path), kept, list, f.path, h.Path(f.saved)}
		default:
			together = append(together, engine.Copy{Src: f.saved, Dst: f.path})
			continue
		}
		if _, err := h.Exec(ctx, engine.Command{Argv: argv}); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.path, err))
		}
	}
	if len(together) > 0 {
		errs = append(errs, keep.installAll(ctx, h, together))
	}
	return errors.Join(errs...)
}
