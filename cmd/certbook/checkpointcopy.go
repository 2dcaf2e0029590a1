package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"certbook/engine"
	"certbook/engine/audit"
)

// checkpointDir is where a host keeps the last checkpoint of each run that
// worked on it, as RUN.json with its signature RUN.json.sig.
const checkpointDir = "/var/lib/certbook/checkpoints"

// keptCheckpoints is of how many runs a host keeps the checkpoint.
const keptCheckpoints = 100

// checkpointCopy matches the names of the files in checkpointDir; they sort by
// time. The first group is the run.
var checkpointCopy = regexp.MustCompile(`^([0-9]{8}T[0-9]{6}Z-[0-9a-f]+)\.json(\.sig)?$`)

func copyPath(run string) string { return path.Join(checkpointDir, run+".json") }

// copyCheckpoint leaves the last checkpoint of a run on every host that it has
// reached. Where that fails, the run is as good as before: the exit code asks
// for attention.
func (s *session) copyCheckpoint(ctx context.Context, l *loaded, rep *engine.Report, log *audit.Log) error {
	doc, sig := log.LastCheckpoint()
	if !s.sign.copies || doc == nil {
		return nil
	}
	ctx, done := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer done()
	d := s.dialer(l.inventory)
	reasons := s.onHosts(rep.Order, func(name string) error {
		if unreachable := new(dialError); errors.As(rep.Hosts[name].Err, unreachable) {
			return errors.New("the run did not reach it")
		}
		return leaveCheckpoint(ctx, d, name, rep.Run.ID, doc, sig)
	})
	var failed []string
	for i, err := range reasons {
		if err != nil {
			failed = append(failed, rep.Order[i])
			fmt.Fprintf(s.std.err, "%s: no checkpoint left: %s\n", oneLine(rep.Order[i]), oneLine(err.Error()))
		}
	}
	if failed == nil {
		return nil
	}
	return &exitError{code: 3, text: "no checkpoint was left on " + strings.Join(failed, ", ")}
}

// onHosts works on several hosts at once and returns each one's error.
func (s *session) onHosts(names []string, work func(name string) error) []error {
	errs := make([]error, len(names))
	slots := make(chan struct{}, s.conn.forks)
	var wg sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = work(name)
		})
	}
	wg.Wait()
	return errs
}

// leaveCheckpoint writes a checkpoint on one host and removes those of the
// oldest runs.
func leaveCheckpoint(ctx context.Context, d *dialer, name, run string, doc, sig []byte) error {
	h, err := d.dial(ctx, name)
	if err != nil {
		return err
	}
	defer h.Close()
	dir := h.Path(checkpointDir)
	if _, err := h.Exec(ctx, engine.Command{Argv: []string{"mkdir", "-p", "-m", "700", "--", dir}}); err != nil {
		return err
	}
	file, private := copyPath(run), engine.FileOptions{Mode: 0o600}
	if err := h.WriteFile(ctx, file+".sig", sig, private); err != nil {
		return err
	}
	if err := h.WriteFile(ctx, file, doc, private); err != nil {
		return err
	}
	out, err := h.Exec(ctx, engine.Command{Argv: []string{"ls", "-1", "--", dir}})
	if err != nil {
		return err
	}
	old := outdated(strings.Fields(string(out.Stdout)), keptCheckpoints)
	if len(old) == 0 {
		return nil
	}
	for i, name := range old {
		old[i] = path.Join(dir, name)
	}
	_, err = h.Exec(ctx, engine.Command{Argv: append([]string{"rm", "-f", "--"}, old...)})
	return err
}

// outdated returns the files of all runs but the newest.
func outdated(names []string, keep int) []string {
	var runs []string
	for _, name := range names {
		if m := checkpointCopy.FindStringSubmatch(name); m != nil {
			runs = append(runs, m[1])
		}
	}
	slices.Sort(runs)
	runs = slices.Compact(runs)
	if len(runs) <= keep {
		return nil
	}
	oldest := runs[:len(runs)-keep]
	return slices.DeleteFunc(names, func(name string) bool {
		m := checkpointCopy.FindStringSubmatch(name)
		return m == nil || !slices.Contains(oldest, m[1])
	})
}
