package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"certbook/engine"

	"github.com/stretchr/testify/require"
)

// eventful is a playbook whose run brings every kind of event: one host cannot
// be reached, steps are passed over, tried again, changed, fail and are
// reverted, one cannot be, and the run is interrupted. %s is a FIFO.
const eventful = `version: 1
name: eventful
plays:
- name: look
  hosts: all
  on_failure: continue
  steps: [{id: look, action: assert, with: {that: true}}]
- name: work
  hosts: [m1, m2]
  serial: 1
  on_failure: continue
  steps:
  - {id: never, when: 1 > 2, action: assert, with: {that: false}}
  - id: again
    action: run-command
    with: {argv: [sh, -c, 'test -e tried || { touch tried; exit 1; }']}
    retry: {attempts: 2, delay: 1ms}
- name: break
  hosts: m1
  on_failure: rollback
  steps:
  - {id: comes_back, action: copy-file, with: {src: /new, dest: /old}}
  - {id: stays, action: copy-file, with: {src: /new, dest: /older}}
  - {id: block, action: run-command, with: {argv: [sh, -c, 'rm older; mkdir older']}}
  - {id: fail, action: run-command, with: {argv: [sh, -c, 'cat "$1"; exit 1', sh, %s]}}
- name: left
  hosts: m1
  steps: [{id: left, action: assert, with: {that: true}}]
`

// eventfulLog carries the playbook out and returns the path of its log.
func eventfulLog(t *testing.T, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := closed.Addr().(*net.TCPAddr).Port
	require.NoError(t, closed.Close())
	gate := filepath.Join(dir, "gate")
	require.NoError(t, syscall.Mkfifo(gate, 0o600))
	for name, text := range map[string]string{
		"p.yaml": fmt.Sprintf(eventful, gate), "m1/new": "new", "m1/old": "old", "m1/older": "older", "m2/file": "",
		"inventory.yaml": fmt.Sprintf("version: 1\nhosts:\n  m1: {connection: local, root: %s/m1}\n  m2: {connection: local, root: %s/m2}\n  gone: {address: 127.0.0.1, ssh: {port: %d}}\n", dir, dir, port),
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	r := start(t, append([]string{"run", filepath.Join(dir, "p.yaml"), "-i", filepath.Join(dir, "inventory.yaml"), "--yes",
		"--run-dir", filepath.Join(dir, "runs"), "--ssh-config", "none"}, flags...)...)
	var open *os.File
	require.Eventually(t, func() bool {
		open, err = os.OpenFile(gate, os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails while nobody reads
		return err == nil
	}, patience, tick, "the step does not begin")
	r.interrupts(t, syscall.SIGINT)
	r.stderr.waits(t, "finishing the present step")
	require.NoError(t, open.Close())
	r.ends(t)
	logs, err := filepath.Glob(filepath.Join(dir, "runs", "*", "audit.jsonl"))
	require.NoError(t, err)
	require.Len(t, logs, 1)
	return logs[0]
}

// TestEventfulLog wants every kind of event in a log that is whole. The log that
// the tests of engine/audit tamper with comes from this run.
func TestEventfulLog(t *testing.T) {
	file := eventfulLog(t)
	log, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, kind := range []engine.Kind{
		engine.RunStarted, engine.PlayStarted, engine.BatchStarted, engine.HostConnected, engine.HostUnreachable,
		engine.StepStarted, engine.StepSkipped, engine.StepOK, engine.StepIntent, engine.StepChanged, engine.StepRetry,
		engine.StepFailed, engine.StepReverted, engine.RevertFailed, engine.CommandRun, engine.FileWritten,
		engine.HostFinished, engine.Interrupted, engine.RunFinished,
	} {
		require.Contains(t, string(log), fmt.Sprintf(`"event":"%s"`, kind))
	}
	code, out, _ := certbook(t, "audit", "verify", file)
	require.Zero(t, code)
	require.Contains(t, out, " of eventful: interrupted\n")
}
