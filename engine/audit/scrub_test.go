package audit

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

const redacted = "REDACTED"

const canary = "c2VjcmV0LWNhbmFyeS1ub2JvZHktbWF5LXNlZS0x"

func TestSecretsAreReplaced(t *testing.T) {
	key := "-----BEGIN RSA PRIVATE KEY-----\n" + canary + "\n-----END RSA PRIVATE KEY-----\n"
	wrapped := base64.StdEncoding.EncodeToString([]byte(key))
	for _, text := range []string{
		key,
		"before " + key + " after",
		"-----BEGIN EC PRIVATE KEY-----\n" + canary,
		strings.ReplaceAll(key, "\n", `\n`),
		"client-key-data: " + wrapped,
		wrapped,
		wrapped[:40] + "\n    " + wrapped[40:],
		"client-key-data: " + canary,
		`{"client-key-data":"` + canary + `"}`,
		`{\"token\":\"` + canary + `\"}`,
		"token: '" + canary + "'",
		"exit status 1: password=" + canary + " was refused",
		"kubeadm join --token " + canary + " m1:6443",
		"kubeadm join --token=" + canary,
		"kubeadm init --certificate-key '" + canary + "'",
		"Authorization: Bearer " + canary,
		"eyJhbGciOiJSUzI1NiJ9.eyJ" + canary + "." + canary,
	} {
		e := engine.Event{Kind: engine.StepFailed, Error: text}
		line, _, err := encode(1, Genesis, e)
		require.NoError(t, err)
		require.NotContains(t, string(line), canary[:20], text)
		require.NotContains(t, string(line), wrapped[60:80], text)
		require.Contains(t, string(line), redacted, text)
		require.Contains(t, string(line), `"redacted":`, text)
	}
}

func TestEveryFieldIsSearched(t *testing.T) {
	s := "token: " + canary
	change := []engine.Change{{Subject: s, Path: s, From: s, To: s, Before: map[string]string{"a": s, "password": canary}, After: map[string]string{s: "b"}}}
	e := engine.Event{
		Time: time.Now(), Kind: engine.StepChanged, Run: "r", Message: s, Error: s, Argv: s, Path: s, Changes: change, Done: change,
		Warnings: []string{s}, Hosts: []string{s}, Left: []string{s}, Origin: &engine.Origin{User: s, Documents: map[string]string{"d": s}},
		Outputs: map[string]any{"token": canary},
	}
	line, _, err := encode(1, Genesis, e)
	require.NoError(t, err)
	require.NotContains(t, string(line), canary)
	require.Contains(t, string(line), `"redacted":23,`)
	require.Equal(t, "token: "+canary, change[0].Before["a"], "the event itself is left as it is")
	require.Equal(t, "token: "+canary, e.Origin.User)
}

func TestOrdinaryTextIsKept(t *testing.T) {
	cert := base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	for _, text := range []string{
		"apiserver: valid until 2027-11-24, serial 4d2",
		"/etc/kubernetes/pki/apiserver.key",
		"unexpected token Operator(\"==\")",
		"client-certificate-data: " + cert,
		"kubeadm certs renew apiserver --config=/root/kubeadm.yaml",
		"certificate-key: REDACTED", "--token ***", `"token":""`,
		"no password is needed",
	} {
		line, _, err := encode(1, Genesis, engine.Event{Kind: engine.StepFailed, Error: text})
		require.NoError(t, err)
		rec, err := decode(bytes.TrimSpace(line), 1, Genesis)
		require.NoError(t, err)
		require.Equal(t, text, rec.Event.Error)
		require.Zero(t, rec.Redacted, text)
	}
}

func TestLongEventsAreShortened(t *testing.T) {
	log := newLog(&tape{})
	require.NoError(t, log.Write(sample()[0]))
	f := &tape{}
	log = newLog(f)
	start := sample()[0]
	require.NoError(t, log.Write(start))
	many := make([]string, 200_000)
	for i := range many {
		many[i] = strings.Repeat("h", 50)
	}
	require.NoError(t, log.Write(engine.Event{Run: start.Run, Kind: engine.StepFailed, Error: strings.Repeat("ü", MaxText)}))
	require.NoError(t, log.Write(engine.Event{Run: start.Run, Kind: engine.RunFinished, Outcome: engine.OutcomePartial, Left: many}))
	var cut []int
	s, err := verify(bytes.NewReader(f.Bytes()), func(r Record) error {
		cut = append(cut, r.Cut)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, engine.OutcomePartial, s.Outcome)
	require.Equal(t, []int{0, 1, 200_000}, cut)
	require.Less(t, f.Len(), 3*MaxText)
}
