package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"certbook/engine"
)

// BackupDir copies a directory tree aside on the same host.
type BackupDir struct {
	Src  string `yaml:"src" required:"true" doc:"the directory to copy"`
	Dest string `yaml:"dest" required:"true" doc:"the directory of all backups; the copy is DEST/RUN/SRC, with @ for each / in SRC"`
	Run  string `yaml:"run" default:"${run.id}" doc:"the directory of this run's backups below dest; names must sort by time"`
	Keep int    `yaml:"keep" default:"10" doc:"how many runs' directories are kept below dest, this one included; 0 keeps all"`

	made bool
}

// Backup is what BackupDir made.
type Backup struct {
	Path  string `expr:"path" doc:"the copy" json:"path"`
	Files int    `expr:"files" doc:"how many files it holds" json:"files"`
}

func backupDirSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &BackupDir{} },
		Outputs: Backup{},
		Summary: "copy a directory tree aside, verified by hash",
		Doc: `A real recursive copy on the host itself that keeps mode, owner, times, links and
extended attributes, in a new directory per run, mode 0700. It never lies inside
the source or a directory of static pod manifests (kubelet runs every file
there). Free space is checked first; afterwards both trees are compared by hash,
mode and owner, and only then the copy gets its name, so that a directory of that
name is a complete backup. A rollback restores from it.`,
		Example: `- id: backup
  action: backup-dir
  with: {src: /etc/kubernetes, dest: /var/backups/certbook, keep: 10}`,
	}
}

var (
	_ engine.Reverter  = (*BackupDir)(nil)
	_ engine.Validator = (*BackupDir)(nil)
)

// marker is the file that names a directory as one of Certbook's backups.
const marker = ".certbook-backup"

// Validate implements engine.Validator.
func (a *BackupDir) Validate() error {
	switch {
	case !path.IsAbs(a.Src) || path.Clean(a.Src) == "/":
		return fmt.Errorf("src: %q is not the absolute path of a directory to back up", a.Src)
	case !path.IsAbs(a.Dest) || path.Clean(a.Dest) == "/":
		return fmt.Errorf("dest: %q is not an absolute path", a.Dest)
	case inside(a.Dest, a.Src):
		return fmt.Errorf("dest: %q lies inside src %q; the backup would hold itself", a.Dest, a.Src)
	case strings.Contains(path.Clean(a.Dest)+"/", "/manifests/"):
		return fmt.Errorf("dest: %q is in a manifests directory; kubelet would run what is copied there", a.Dest)
	case a.Run == "" || strings.ContainsAny(a.Run, "/ \t\n*?[") || strings.HasPrefix(a.Run, "."):
		return fmt.Errorf("run: %q is not a plain name", a.Run)
	case a.Keep < 0:
		return errors.New("keep: want 0 or more")
	}
	return nil
}

func (a *BackupDir) runDir() string { return path.Join(a.Dest, a.Run) }

func (a *BackupDir) target() string {
	return path.Join(a.runDir(), strings.ReplaceAll(strings.Trim(path.Clean(a.Src), "/"), "/", "@"))
}

// partial is where the copy is made before it gets its name.
func (a *BackupDir) partial() string {
	return path.Join(a.runDir(), "."+path.Base(a.target())+".partial")
}

// Check implements engine.Action. A directory of the target's name is a
// complete backup; it is proven once more after it was made.
func (a *BackupDir) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	out := Backup{Path: a.target()}
	there, err := exist(ctx, p, a.Src, a.target())
	if err != nil {
		return engine.Result{}, err
	}
	if !there[0] {
		return engine.Result{}, fmt.Errorf("src: no directory %s on this host", a.Src)
	}
	if !there[1] {
		return engine.Result{Outputs: out, Changes: []engine.Change{{Subject: a.Src, To: "copied to " + a.target()}}}, nil
	}
	nodes, err := tree(ctx, p, a.target())
	if err != nil {
		return engine.Result{}, err
	}
	for _, n := range nodes {
		if n.kind == "f" {
			out.Files++
		}
	}
	res := engine.Result{Outputs: out}
	if a.made {
		res.Done = []engine.Change{{Subject: a.Src, To: fmt.Sprintf("copied to %s, %d files, verified", a.target(), out.Files)}}
	}
	return res, nil
}

// exist says which of these are directories.
func exist(ctx context.Context, p engine.Probe, dirs ...string) ([]bool, error) {
	argv := []string{"sh", "-c", `for d; do if [ -d "$d/" ]; then echo yes; else echo no; fi; done`, "sh"}
	for _, d := range dirs {
		argv = append(argv, p.Path(d))
	}
	out, err := p.Query(ctx, engine.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	lines := strings.Fields(string(out.Stdout))
	if len(lines) != len(dirs) {
		return nil, fmt.Errorf("which directories there are: not understood: %q", out.Stdout)
	}
	there := make([]bool, len(dirs))
	for i, line := range lines {
		there[i] = line == "yes"
	}
	return there, nil
}

// spaceScript prints the size of $1 and the free space where $2 will be, both
// in KiB.
const spaceScript = `set -eu
du -skx -- "$1" | cut -f1
d=$2
while [ ! -e "$d" ]; do d=$(dirname -- "$d"); done
df -Pk -- "$d" | awk 'NR==2 {print $4}'`

// copyScript copies directory $1 to $2 by way of $3, which is new. $4 is the
// directory of the run.
const copyScript = `set -eu
umask 077
mkdir -p -- "$4"
chmod 700 -- "$4"
: >"$4/` + marker + `"
if [ -e "$2" ] || [ -L "$2" ]; then echo "$2 exists" >&2; exit 1; fi
rm -rf -- "$3"
cp -a -- "$1/." "$3"`

// Apply implements engine.Applier.
func (a *BackupDir) Apply(ctx context.Context, h engine.Host) error {
	if err := a.space(ctx, h); err != nil {
		return err
	}
	temp := a.partial()
	argv := []string{"sh", "-c", copyScript, "sh", h.Path(a.Src), h.Path(a.target()), h.Path(temp), h.Path(a.runDir())}
	if _, err := h.Exec(ctx, engine.Command{Argv: argv}); err != nil {
		return err
	}
	if err := same(ctx, h, a.Src, temp); err != nil {
		return err
	}
	argv = []string{"sh", "-c", finalScript, "sh", h.Path(temp), h.Path(a.target()), h.Path(a.runDir()), strconv.Itoa(a.Keep)}
	if _, err := h.Exec(ctx, engine.Command{Argv: argv}); err != nil {
		return err
	}
	a.made = true
	return nil
}

func (a *BackupDir) space(ctx context.Context, h engine.Host) error {
	out, err := h.Query(ctx, engine.Command{Argv: []string{"sh", "-c", spaceScript, "sh", h.Path(a.Src), h.Path(a.Dest)}})
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	lines := strings.Fields(string(out.Stdout))
	if len(lines) != 2 {
		return fmt.Errorf("free space: not understood: %q", out.Stdout)
	}
	need, err1 := strconv.Atoi(lines[0])
	free, err2 := strconv.Atoi(lines[1])
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	const reserve = 16 << 10 // KiB
	if free < need+reserve {
		return fmt.Errorf("%s: %d KiB free, the copy of %s needs %d and a reserve of %d", a.Dest, free, a.Src, need, reserve)
	}
	return nil
}

// same compares two trees by content, mode and owner.
func same(ctx context.Context, p engine.Probe, a, b string) error {
	want, have, err := trees(ctx, p, a, b)
	if err != nil {
		return err
	}
	if d := append(difference(want, have), difference(have, want)...); len(d) > 0 {
		return fmt.Errorf("%s: the copy differs from %s: %s is %s, not %s", b, a, d[0].Subject, d[0].From, d[0].To)
	}
	return nil
}

// finalScript gives copy $1 its name $2, and then removes the oldest backups
// beside $3 until $4 are left; none when that is 0.
const finalScript = `set -eu
sync -f -- "$1" 2>/dev/null || sync
mv -T -- "$1" "$2"
[ "$4" != 0 ] || exit 0
shift 2
` + pruneScript

// pruneScript removes the oldest directories beside $1 that hold the marker
// until $2 are left. Run ids sort by time.
const pruneScript = `set -eu
cd -- "$(dirname -- "$1")"
me=$(basename -- "$1")
n=0
for d in *; do
  if [ -f "./$d/` + marker + `" ]; then n=$((n + 1)); fi
done
for d in *; do
  [ "$n" -gt "$2" ] || break
  [ -f "./$d/` + marker + `" ] || continue
  n=$((n - 1))
  if [ "$d" != "$me" ]; then rm -rf -- "./$d"; echo "$d"; fi
done`

// Revert implements engine.Reverter: it brings the directory back to the copy.
func (a *BackupDir) Revert(ctx context.Context, h engine.Host) error {
	if !a.made {
		_, err := h.Exec(ctx, engine.Command{Argv: []string{"rm", "-rf", "--", h.Path(a.partial())}})
		return err
	}
	return restore(ctx, h, a.target(), a.Src)
}
