package host

import (
	"bytes"
	"encoding/base64"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// redactions are texts and what remains of them.
func redactions() map[string][2]string {
	const key = "-----BEGIN RSA PRIVATE KEY-----\nSECRET\nSECRET\n-----END RSA PRIVATE KEY-----\n"
	cert := encode("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	return map[string][2]string{
		"nothing":             {"a: b\n\n# c\ntokenFile: /x\nxtoken: 1\nmy-token: 2\n", "a: b\n\n# c\ntokenFile: /x\nxtoken: 1\nmy-token: 2\n"},
		"pem":                 {"a\n" + key + "b\n", "a\nb\n"},
		"pem kinds":           {strings.ReplaceAll(key, "RSA ", "") + strings.ReplaceAll(key, "RSA", "EC") + strings.ReplaceAll(key, "RSA", "OPENSSH") + strings.ReplaceAll(key, "RSA", "ENCRYPTED"), ""},
		"pem without end":     {"a\n-----BEGIN PRIVATE KEY-----\nSECRET\n", "a\n"},
		"pem in a line":       {`{"k": "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n", "x": 1}`, `{"k": "\n", "x": 1}`},
		"indented pem":        {"x: |\n  -----BEGIN PRIVATE KEY-----\n  SECRET\n  -----END PRIVATE KEY-----\ny: 1\n", "x: |\ny: 1\n"},
		"certificate":         {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
		"block":               {"  client-key-data: SECRET\n  token: SECRET # x\n  next: 1\n", "  client-key-data: REDACTED\n  token: REDACTED\n  next: 1\n"},
		"quoted":              {"  password: \"a\\\"SECRET\" # x\n  'token': 'it''s SECRET'\n  n: 1\n", "  password: \"REDACTED\" # x\n  'token': 'REDACTED'\n  n: 1\n"},
		"scalar":              {"  client-key-data: |\n    SECRET\n\n    SECRET\n  next: 1\n", "  client-key-data: REDACTED\n  next: 1\n"},
		"folded in a list":    {"- token: >-\n    SECRET\n  next: 1\n", "- token: REDACTED\n  next: 1\n"},
		"value below":         {"  token:\n    SECRET\n  next: 1\n", "  token:\n  next: 1\n"},
		"plain on two lines":  {"  token: SECRET\n    SECRET\n  next: 1\n", "  token: REDACTED\n  next: 1\n"},
		"quoted on two lines": {"  token: \"SECRET\n    SECRET\"\n  next: 1\n", "  token: \"REDACTED\"\n  next: 1\n"},
		"flow":                {"user: {client-certificate-data: Q, client-key-data: SECRET, token: SECRET}\n", "user: {client-certificate-data: Q, client-key-data: REDACTED, token: REDACTED}\n"},
		"json":                {`{"user":{"client-key-data":"SECRET","token" : "SECRET","id-token":null,"x":"y"}}`, `{"user":{"client-key-data":"REDACTED","token" : "REDACTED","id-token":REDACTED,"x":"y"}}`},
		"json on lines":       {"{\n  \"token\": \"SECRET\",\n  \"refresh-token\":\n  \"SECRET\",\n  \"x\": 1\n}\n", "{\n  \"token\": \"REDACTED\",\n  \"refresh-token\":\nREDACTED\n  \"x\": 1\n}\n"},
		"json in a string":    {`x: "{\"token\":\"SECRET\"}"`, `x: "{\"token\":REDACTED`},
		"toml":                {"password = \"SECRET\"\nuser = \"x\"\n", "password = \"REDACTED\"\nuser = \"x\"\n"},
		"kubeadm":             {"certificateKey: SECRET\nclusterName: x\n", "certificateKey: REDACTED\nclusterName: x\n"},
		"encryption":          {"keys:\n- name: key1\n  secret: SECRET\n", "keys:\n- name: key1\n  secret: REDACTED\n"},
		"encoded":             {"data:\n  tls.crt: " + cert + "\n  other: " + encode(key) + "\n", "data:\n  tls.crt: " + cert + "\n  other: REDACTED\n"},
		"crlf":                {"token: SECRET\r\nx: 1\r\n", "token: REDACTED\nx: 1\r\n"},
		"many in a line":      {strings.Repeat(`{"token":"SECRET"},`, 600), strings.Repeat(`{"token":"REDACTED"},`, 499) + `{"token":"REDACTED"REDACTED`},
		"no newline":          {"token: SECRET", "token: REDACTED"},
		"empty":               {"", ""},
	}
}

func TestRedact(t *testing.T) {
	for name, c := range redactions() {
		t.Run(name, func(t *testing.T) {
			got, found := Redact([]byte(c[0]))
			require.Equal(t, c[1], string(got))
			require.Equal(t, c[0] != c[1], found)
			require.NotContains(t, string(got), "SECRET")
			again, _ := Redact(got)
			require.Equal(t, c[1], string(again))
		})
	}
	hidden := "x: " + encode("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n")
	got, _ := Redact([]byte(hidden))
	require.Equal(t, "x: REDACTED", string(got), "a key behind a certificate")
}

// awks returns the awks that are installed.
func awks(t testing.TB) []string {
	var out []string
	for _, name := range []string{"mawk", "gawk", "original-awk"} {
		if path, err := exec.LookPath(name); err == nil {
			out = append(out, path)
		}
	}
	if len(out) == 0 {
		out = append(out, "awk")
	}
	return out
}

// awkRedact redacts text as a host does.
func awkRedact(t testing.TB, awk string, text []byte) []byte {
	t.Helper()
	cmd := exec.Command(awk, "BEGIN { drop = -1; quo = \"\" }\n{ redact($0) }\n"+redactAWK)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.Output()
	require.NoError(t, err)
	var lines []byte
	for line := range bytes.Lines(out) {
		require.Equal(t, byte('+'), line[0])
		lines = append(lines, line[1:]...)
	}
	return lines
}

func TestRedactAWK(t *testing.T) {
	for _, awk := range awks(t) {
		for name, c := range redactions() {
			want := c[1]
			if want != "" && !strings.HasSuffix(want, "\n") {
				want += "\n" // awk ends every line
			}
			require.Equal(t, want, string(awkRedact(t, awk, []byte(c[0]))), "%s: %s", awk, name)
		}
	}
}

// What awk lets pass, the rule in Go lets pass too: the two are alike.
func FuzzRedact(f *testing.F) {
	for _, c := range redactions() {
		f.Add([]byte(c[0]))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		once, _ := Redact(text)
		again, _ := Redact(once)
		if !bytes.Equal(once, again) {
			t.Fatalf("%q became %q, then %q", text, once, again)
		}
		if keyBegin.Match(once) {
			t.Fatalf("a key is left in %q", once)
		}
		if bytes.IndexByte(text, 0) >= 0 {
			return
		}
		want := once
		if len(want) > 0 && want[len(want)-1] != '\n' {
			want = append(bytes.Clone(want), '\n')
		}
		if bytes.HasPrefix(text, []byte(certStart)) || bytes.Contains(text, []byte(certStart)) {
			return // Go alone looks into encoded certificates
		}
		for _, awk := range awks(t) {
			if got := awkRedact(t, awk, text); !bytes.Equal(got, want) {
				t.Fatalf("%s: %q became %q, in Go %q", awk, text, got, want)
			}
		}
	})
}
