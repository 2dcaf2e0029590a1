package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"certbook/engine"

	"golang.org/x/crypto/ssh"
)

// Checkpoint says what a log was after one of its lines. It is a document of
// its own, with a signature that nobody can make who only has the log.
type Checkpoint struct {
	APIVersion string         `json:"apiVersion"`
	Run        string         `json:"run"`
	Playbook   string         `json:"playbook"`
	Lines      int            `json:"lines"`
	Head       string         `json:"head"`              // hash of the last of these lines
	Time       time.Time      `json:"time"`              // of that line's event
	Outcome    engine.Outcome `json:"outcome,omitempty"` // of the run, when it has finished
}

const apiVersion = "certbook/v1"

// Checkpointed reports whether a signed log has a checkpoint after an event of
// this kind.
func Checkpointed(k engine.Kind) bool {
	return k == engine.PlayStarted || k == engine.BatchStarted || k == engine.RunFinished
}

// checkpointFile matches the name of a checkpoint's file in the directory of
// its log; that of its signature has sigSuffix behind it.
var checkpointFile = regexp.MustCompile(`^checkpoint-[0-9]{6,}\.json$`)

const sigSuffix = ".sig"

func checkpointName(lines int) string { return fmt.Sprintf("checkpoint-%06d.json", lines) }

// SignWith makes the log write a checkpoint beside itself, signed with key,
// after every event whose kind is Checkpointed. A checkpoint that cannot be
// written is a failure of the log.
func (l *Log) SignWith(key ssh.Signer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.key = key
}

// LastCheckpoint returns the last checkpoint that was written and its
// signature; nil when there is none.
func (l *Log) LastCheckpoint() (doc, sig []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doc, l.sig
}

// checkpoint writes the checkpoint after the event e. The log is on stable
// storage before it, so that a loss of power leaves no checkpoint of lines that
// are lost.
func (l *Log) checkpoint(e engine.Event) error {
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("audit log: sync %s: %w", e.Kind, err)
	}
	doc, err := json.MarshalIndent(Checkpoint{
		APIVersion: apiVersion, Run: l.run, Playbook: l.playbook, Lines: l.n, Head: l.head, Time: e.Time, Outcome: e.Outcome,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("audit log: checkpoint: %w", err)
	}
	doc = append(doc, '\n')
	sig, err := sign(l.key, doc)
	if err != nil {
		return fmt.Errorf("audit log: sign checkpoint: %w", err)
	}
	file := filepath.Join(l.dir, checkpointName(l.n))
	// The signature first: a document without one would look like a forgery.
	if err := errors.Join(put(file+sigSuffix, sig), put(file, doc), syncUp(l.dir, l.dir)); err != nil {
		return fmt.Errorf("audit log: checkpoint: %w", err)
	}
	l.doc, l.sig = doc, sig
	return nil
}

// put writes a file with mode 0600, the whole of it or none.
func put(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".checkpoint-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error that matters is the one above
	}
	return err
}

// parseCheckpoint reads a checkpoint whose signature has been verified.
func parseCheckpoint(doc []byte) (Checkpoint, error) {
	var c Checkpoint
	if err := json.Unmarshal(doc, &c); err != nil {
		return c, fmt.Errorf("is no checkpoint: %v", err)
	}
	if c.APIVersion != apiVersion || c.Lines < 1 {
		return c, fmt.Errorf("is no checkpoint: apiVersion %q, %d lines", c.APIVersion, c.Lines)
	}
	return c, nil
}
