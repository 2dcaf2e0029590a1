package schema_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"certbook/schema"

	"github.com/stretchr/testify/require"
)

const whole = `# yaml-language-server: $schema=playbook.json
version: 1
name: renew
description: all of it
vars:
  renew_before: 30d
  list: [1, two, {three: null}]
  "null": ~
plays:
  - name: survey
    hosts: masters
    steps:
      - id: expiry
        action: check-expiry
        with: {before: "${vars.renew_before}"}
  - name: renew
    hosts: [masters, "!m3"]
    serial: 30%
    on_failure: stop
    steps:
      - id: backup
        name: keep the old ones
        action: backup-dir
        when: steps.expiry.due > 0
        with: {src: /etc/kubernetes, depth: 1.30}
        retry: {attempts: 4.0, delay: 1s, backoff: 2, max_delay: 1m30s, jitter: 0.5, until: "true"}
        timeout: 1d12h
      - {id: again, action: backup-dir, when: true, retry: {}, timeout: 0}
    finally:
      - {id: bye, action: assert}
`

func parsePlaybook(t *testing.T, text string) *schema.Playbook {
	t.Helper()
	p, err := schema.ParsePlaybook(&schema.Source{Name: "book.yaml", Data: []byte(text)})
	require.NoError(t, err)
	return p
}

func TestPlaybook(t *testing.T) {
	p := parsePlaybook(t, whole)
	require.Equal(t, "renew", p.Name.Value)
	require.Equal(t, "all of it", p.Description)
	require.Len(t, p.Vars, 3)
	require.True(t, p.Vars["null"].IsNull())
	require.Equal(t, "book.yaml:6:17", p.Vars["renew_before"].Pos().String())

	survey, renew := p.Plays[0], p.Plays[1]
	require.Equal(t, schema.Serial{}, survey.Serial)
	require.Equal(t, "rollback", survey.OnFailure)
	require.Equal(t, 10*time.Minute, survey.Steps[0].Timeout.Std())
	require.Nil(t, survey.Steps[0].Retry)
	require.Nil(t, survey.Steps[0].When)

	require.Equal(t, "masters,!m3", renew.Hosts.String())
	require.Equal(t, schema.Serial{Percent: 30}, renew.Serial)
	require.Equal(t, "stop", renew.OnFailure)
	backup := renew.Steps[0]
	require.Equal(t, "keep the old ones", backup.Name)
	require.Equal(t, "1.30", backup.With["depth"].Node.Value)
	require.Equal(t, "steps.expiry.due > 0", backup.When.Value)
	require.Equal(t, "book.yaml:24:15", backup.When.Pos.String())
	require.Equal(t, 36*time.Hour, backup.Timeout.Std())
	r := backup.Retry
	require.Equal(t, 4, r.Attempts)
	require.Equal(t, "1s", r.Delay.String())
	require.Equal(t, 2.0, r.Backoff)
	require.Equal(t, "1m30s", r.MaxDelay.String())
	require.Equal(t, 0.5, r.Jitter)
	require.Equal(t, "true", r.Until.Value)

	again := renew.Steps[1]
	require.Equal(t, schema.Retry{Attempts: 3, Delay: schema.Duration(5 * time.Second), Backoff: 1, MaxDelay: schema.Duration(time.Minute)}, *again.Retry)
	require.Equal(t, "true", again.When.Value)
	require.Zero(t, again.Timeout)

	var ids []string
	for _, s := range p.Steps() {
		ids = append(ids, s.ID.Value)
	}
	require.Equal(t, []string{"expiry", "backup", "again", "bye"}, ids)
}

func TestSerial(t *testing.T) {
	for _, c := range []struct {
		s    schema.Serial
		text string
		of   map[int]int // hosts to batch size
	}{
		{schema.Serial{}, "all", map[int]int{0: 1, 1: 1, 7: 7}},
		{schema.Serial{Count: 1}, "1", map[int]int{0: 1, 7: 1}},
		{schema.Serial{Count: 9}, "9", map[int]int{7: 9}},
		{schema.Serial{Percent: 50}, "50%", map[int]int{0: 1, 1: 1, 3: 1, 4: 2, 5: 2}},
		{schema.Serial{Percent: 100}, "100%", map[int]int{3: 3}},
		{schema.Serial{Percent: 1}, "1%", map[int]int{3: 1}},
	} {
		require.Equal(t, c.text, c.s.String())
		for n, want := range c.of {
			require.Equal(t, want, c.s.Size(n), "%s of %d", c.text, n)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "1.5h": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour,
		"1d12h": 36 * time.Hour, "250ms": 250 * time.Millisecond, "1h0m0s": time.Hour, "36600d": 36600 * 24 * time.Hour,
	} {
		got, err := schema.ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.Std(), text)
		again, err := schema.ParseDuration(got.String())
		require.NoError(t, err, got.String())
		require.Equal(t, got, again)
	}
	for _, text := range []string{"", " ", "5", "s", "-5s", "+5s", "5 s", "5s ", "5S", "1e3s", "5y", "1,5h", "٥s", "0x5s", "1..5s", "36601d", "99999999999999999999999w"} {
		_, err := schema.ParseDuration(text)
		require.Error(t, err, text)
	}
	require.Equal(t, "-1d1s", schema.Duration(-24*time.Hour-time.Second).String())
}

func TestReadSource(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yaml")
	require.NoError(t, os.WriteFile(file, []byte("x: 1\n"), 0o600))
	src, err := schema.ReadSource(file)
	require.NoError(t, err)
	require.Equal(t, &schema.Source{Name: file, Data: []byte("x: 1\n")}, src)
	require.Equal(t, "d09edadd173a8bbc233d47dcafc30cc876af2fb569812f2bbe0e92a1905bbce8", src.SHA256())

	big := filepath.Join(dir, "big.yaml")
	require.NoError(t, os.WriteFile(big, nil, 0o600))
	require.NoError(t, os.Truncate(big, schema.MaxDocument+1))
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink(loop, loop))
	for name, want := range map[string]string{
		dir:                          ": is a directory; name the YAML file in it",
		filepath.Join(dir, "no"):     ": no such file or directory",
		filepath.Join(file, "under"): ": not a directory",
		big:                          ": has 4194305 bytes; a document may have 4194304",
		pipe:                         ": is not a regular file",
		loop:                         ": too many levels of symbolic links",
	} {
		_, err := schema.ReadSource(name)
		require.EqualError(t, err, name+want)
	}
}

func TestOversizedDocument(t *testing.T) {
	_, err := schema.ParsePlaybook(&schema.Source{Name: "-", Data: make([]byte, schema.MaxDocument+1)})
	require.ErrorContains(t, err, "-:1:1: the document has 4194305 bytes; it may have 4194304")
}

func TestSuggest(t *testing.T) {
	names := []string{"backup", "renew", "restart", "m1"}
	for name, want := range map[string]string{
		"bakcup": `; did you mean "backup"?`, "RENEW": `; did you mean "renew"?`, "restrat": `; did you mean "restart"?`,
		"zzz": "", "": "", "m2": `; did you mean "m1"?`, "x": "",
	} {
		require.Equal(t, want, schema.Suggest(name, names), name)
	}
	require.Equal(t, "", schema.Suggest("x", nil))
}
