package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Signed is a checkpoint and who has signed it.
type Signed struct {
	Checkpoint
	By string // the principals of the key
}

// VerifyCheckpoints holds the log at path against the checkpoints beside it. All
// must be signed by one of the signers and agree with the log, and none may be
// missing. So it finds a log that was written anew as a whole, and one that was
// cut off before its last checkpoint, for which it returns no *CutOffError.
func VerifyCheckpoints(path string, signers *Signers) ([]Signed, error) {
	log, cut, err := readHistory(path)
	if err != nil {
		return nil, err
	}
	list, err := readCheckpoints(filepath.Dir(path), signers)
	if err != nil {
		return nil, fmt.Errorf("audit log %q: %w", path, err)
	}
	for _, c := range list {
		if err := log.agrees(c.Checkpoint); err != nil {
			return nil, fmt.Errorf("audit log %q: %s: %w", path, checkpointName(c.Lines), err)
		}
	}
	for _, line := range log.due {
		there := slices.ContainsFunc(list, func(c Signed) bool { return c.Lines == line })
		if there || cut && line == len(log.heads) { // the run was killed right there
			continue
		}
		return nil, fmt.Errorf("audit log %q: line %d: there is no %s: the log was not signed, or it was removed", path, line, checkpointName(line))
	}
	return list, nil
}

// readCheckpoints reads the checkpoints of a directory and verifies their
// signatures.
func readCheckpoints(dir string, signers *Signers) ([]Signed, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []Signed
	for _, e := range entries {
		if !checkpointFile.MatchString(e.Name()) {
			continue
		}
		doc, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		sig, err := os.ReadFile(filepath.Join(dir, e.Name()+sigSuffix))
		if err != nil {
			return nil, err
		}
		c, by, err := signers.verify(doc, sig)
		if err == nil && checkpointName(c.Lines) != e.Name() {
			err = fmt.Errorf("is the checkpoint of line %d", c.Lines)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		list = append(list, Signed{c, by})
	}
	return list, nil
}

// VerifyCopy holds a checkpoint that was kept elsewhere against the log at
// path. With signers its signature is verified as well.
func VerifyCopy(path string, doc, sig []byte, signers *Signers) (Checkpoint, error) {
	c, err := parseCheckpoint(doc)
	if signers != nil {
		c, _, err = signers.verify(doc, sig)
	}
	if err != nil {
		return c, err
	}
	log, _, err := readHistory(path)
	if err != nil {
		return c, err
	}
	return c, log.agrees(c)
}

// history is what a checkpoint is held against.
type history struct {
	run   string
	heads []string // the hash of every line
	due   []int    // the lines after which a signed log has a checkpoint
}

// readHistory reads a log; cut says that it ends before run-finished.
func readHistory(path string) (h history, cut bool, err error) {
	err = Read(path, func(r Record) error {
		h.run = r.Event.Run
		h.heads = append(h.heads, r.Hash)
		if Checkpointed(r.Event.Kind) {
			h.due = append(h.due, r.Seq)
		}
		return nil
	})
	var short *CutOffError
	if errors.As(err, &short) {
		return h, true, nil
	}
	return h, false, err
}

// agrees says why a checkpoint cannot be one of this log.
func (h history) agrees(c Checkpoint) error {
	switch {
	case len(h.heads) > 0 && c.Run != h.run:
		return fmt.Errorf("is one of run %q, the log is of run %q", c.Run, h.run)
	case c.Lines > len(h.heads):
		return fmt.Errorf("the log had %d lines then and has %d now: it was cut", c.Lines, len(h.heads))
	case c.Head != h.heads[c.Lines-1]:
		return fmt.Errorf("line %d had another hash then: the log was written anew", c.Lines)
	}
	return nil
}
