package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

// sample is the course of a small run.
func sample() []engine.Event {
	at := time.Date(2026, 11, 24, 6, 15, 0, 0, time.UTC)
	evidence := []engine.Change{{
		Subject: "apiserver", Path: "/etc/kubernetes/pki/apiserver.crt", From: "due in 9 days", To: "valid for 1 year",
		Before: map[string]string{"serial": "4d2", "not_after": "2026-12-03T06:15:00Z", "hash": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"},
		After:  map[string]string{"serial": "11d7", "not_after": "2027-11-24T06:15:00Z"},
	}}
	events := []engine.Event{
		{Kind: engine.RunStarted, Hosts: []string{"m1"}, Origin: &engine.Origin{User: "ops", Machine: "desk", Version: "1.0", Playbook: "renew", Documents: map[string]string{"renew.yaml": "ab12"}}},
		{Kind: engine.PlayStarted, Play: "renew", Hosts: []string{"m1"}},
		{Kind: engine.HostConnected, Play: "renew", Host: "m1", Millis: 12},
		{Kind: engine.StepStarted, Play: "renew", Host: "m1", Step: "renew", Action: "renew-certs"},
		{Kind: engine.StepIntent, Play: "renew", Host: "m1", Step: "renew", Action: "renew-certs", Attempt: 1, Changes: evidence},
		{Kind: engine.CommandRun, Play: "renew", Host: "m1", Step: "renew", Argv: "kubeadm certs renew apiserver", Millis: 220},
		{Kind: engine.StepChanged, Play: "renew", Host: "m1", Step: "renew", Action: "renew-certs", Attempt: 1, Done: evidence, Warnings: []string{"<the CA ends in 80 days> & that is früh"}},
		{Kind: engine.HostFinished, Play: "renew", Host: "m1", Outcome: engine.OutcomeOK},
		{Kind: engine.RunFinished, Outcome: engine.OutcomeOK},
	}
	for i := range events {
		events[i].Run, events[i].Time = "20261124T061500Z-x7k2", at.Add(time.Duration(i)*time.Second)
	}
	return events
}

// write makes a log of events and returns its path.
func write(t *testing.T, events ...engine.Event) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runs", "r1", "audit.jsonl")
	log, err := Create(path)
	require.NoError(t, err)
	for _, e := range events {
		require.NoError(t, log.Write(e))
	}
	require.NoError(t, log.Close())
	return path
}

func TestFormat(t *testing.T) {
	require.Equal(t, Genesis, sum([]byte("certbook audit log 1\n")))
	want, err := os.ReadFile("testdata/run.jsonl")
	require.NoError(t, err)
	got, err := os.ReadFile(write(t, sample()...))
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "the format on disk must not change: old logs would no longer verify")
}

func TestVerify(t *testing.T) {
	s, err := VerifyFile("testdata/run.jsonl")
	require.NoError(t, err)
	require.Len(t, s.Head, hashLen)
	s.Head = ""
	require.Equal(t, Summary{
		Run: "20261124T061500Z-x7k2", Playbook: "renew", Lines: 9, Outcome: engine.OutcomeOK, Complete: true,
		Started: sample()[0].Time, Finished: sample()[8].Time,
	}, s)
}

func TestRead(t *testing.T) {
	var got []engine.Event
	prev := Genesis
	require.NoError(t, Read("testdata/run.jsonl", func(r Record) error {
		require.Equal(t, prev, r.Prev)
		require.Equal(t, len(got)+1, r.Seq)
		prev = r.Hash
		got = append(got, r.Event)
		return nil
	}))
	require.Equal(t, sample(), got)
	stop := errors.New("enough")
	require.ErrorIs(t, Read("testdata/run.jsonl", func(Record) error { return stop }), stop)
	require.ErrorIs(t, Read("testdata/none.jsonl", nil), os.ErrNotExist)
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "audit.jsonl")
	log, err := Create(path)
	require.NoError(t, err)
	defer log.Close()
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Join(dir, "a"): 0o700} {
		fi, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, mode, fi.Mode().Perm(), name)
	}
	_, err = Create(path)
	require.ErrorIs(t, err, os.ErrExist)
	require.NoError(t, os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")))
	_, err = Create(filepath.Join(dir, "link"))
	require.ErrorIs(t, err, os.ErrExist, "a symbolic link is not followed")
}

// tape is a file that records what is done to it, and fails when told to.
type tape struct {
	bytes.Buffer
	calls     []string
	failWrite bool
	failSync  bool
}

var errDisk = errors.New("disk full")

func (f *tape) Write(p []byte) (int, error) {
	f.calls = append(f.calls, "write")
	if f.failWrite {
		n, _ := f.Buffer.Write(p[:len(p)/2])
		return n, errDisk
	}
	return f.Buffer.Write(p)
}

func (f *tape) Sync() error {
	f.calls = append(f.calls, "sync")
	if f.failSync {
		return errDisk
	}
	return nil
}

func (f *tape) Close() error {
	f.calls = append(f.calls, "close")
	return nil
}

func TestDurableEventsAreSynced(t *testing.T) {
	f := &tape{}
	log := newLog(f)
	for _, e := range sample() {
		f.calls = nil
		require.NoError(t, log.Write(e))
		want := []string{"write"}
		if e.Kind.Durable() {
			want = append(want, "sync")
		}
		require.Equal(t, want, f.calls, e.Kind)
	}
	n, head := log.Head()
	s, err := Verify(bytes.NewReader(f.Bytes()))
	require.NoError(t, err)
	require.Equal(t, s.Lines, n)
	require.Equal(t, s.Head, head)
	f.calls = nil
	require.NoError(t, log.Close())
	require.NoError(t, log.Close())
	require.Equal(t, []string{"sync", "close"}, f.calls)
}

func TestErrorsAreSticky(t *testing.T) {
	events := sample()
	for name, breakIt := range map[string]func(*tape){
		"write": func(f *tape) { f.failWrite = true },
		"sync":  func(f *tape) { f.failSync = true },
	} {
		f := &tape{}
		log := newLog(f)
		require.NoError(t, log.Write(events[0]), name)
		breakIt(f)
		first := log.Write(events[4])
		require.ErrorIs(t, first, errDisk, name)
		f.failWrite, f.failSync, f.calls = false, false, nil
		require.Equal(t, first, log.Write(events[6]), name)
		require.Empty(t, f.calls, "nothing is written after a failure")
		_, err := Verify(bytes.NewReader(f.Bytes()))
		require.ErrorAs(t, err, new(*CutOffError), name)
	}
}

func TestWriteKeepsTheOrder(t *testing.T) {
	events := sample()
	other := events[3]
	other.Run = "another"
	for _, c := range []struct {
		events []engine.Event
		want   string
	}{
		{events[1:2], `the first event is "play-started", want run-started`},
		{[]engine.Event{events[0], events[0]}, "a second run-started"},
		{[]engine.Event{events[0], other}, `an event of run "another" in the log of run "20261124T061500Z-x7k2"`},
		{append(events[:len(events):len(events)], events[3]), "it follows run-finished"},
	} {
		log := newLog(&tape{})
		last := len(c.events) - 1
		for _, e := range c.events[:last] {
			require.NoError(t, log.Write(e))
		}
		require.ErrorContains(t, log.Write(c.events[last]), c.want)
	}
	log := newLog(&tape{})
	require.NoError(t, log.Close())
	require.ErrorContains(t, log.Write(events[0]), "closed")
}

func TestConcurrentWritesAreSerialised(t *testing.T) {
	events := sample()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := Create(path)
	require.NoError(t, err)
	require.NoError(t, log.Write(events[0]))
	var wg sync.WaitGroup
	errs := make(chan error, 400)
	for range 8 {
		wg.Go(func() {
			for range 50 {
				errs <- log.Write(events[2])
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, log.Write(events[8]))
	require.NoError(t, log.Close())
	s, err := VerifyFile(path)
	require.NoError(t, err)
	require.Equal(t, 402, s.Lines)
}

// TestRunnerEvents lets the real engine write a log.
func TestRunnerEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := Create(path)
	require.NoError(t, err)
	r := &engine.Runner{Emit: log.Write, Now: time.Now}
	rep := r.Run(context.Background(), &engine.Plan{Name: "empty", Run: engine.RunInfo{ID: "r1"}}, engine.Origin{User: "ops"})
	require.NoError(t, rep.Err)
	require.NoError(t, log.Close())
	s, err := VerifyFile(path)
	require.NoError(t, err)
	require.Equal(t, "empty", s.Playbook)
	require.Equal(t, engine.OutcomeOK, s.Outcome)
}

func ExampleLineError() {
	log, _ := os.ReadFile("testdata/run.jsonl")
	_, err := Verify(bytes.NewReader(bytes.Replace(log, []byte("kubeadm certs renew apiserver"), []byte("true"), 1)))
	fmt.Println(err)
	// Output: line 6: its hash does not fit its content: the line was changed
}
