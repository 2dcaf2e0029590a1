package schema_test

import (
	"strings"
	"testing"

	"certbook/schema"

	"github.com/stretchr/testify/require"
)

// vault has secrets at every level of fleet.
const vault = `version: 1
sudo_password: for all
key_passphrases: {~/.ssh/id: pass one, /k/b: "0123"}
vars: {inventory: s-all, narrow: s-all}
groups:
  wide: {sudo_password: for wide, vars: {wide: s-wide, narrow: s-wide}}
  zz_narrow: {vars: {narrow: s-narrow}}
hosts:
  m1: {vars: {host: [s-host, {a: 'it is ${not} code'}]}}
  m2: {sudo_password: for m2}
`

func parseSecrets(t *testing.T, text string) *schema.Secrets {
	t.Helper()
	s, err := schema.ParseSecrets(&schema.Source{Name: "secrets.age", Data: []byte(text)})
	require.NoError(t, err)
	return s
}

func TestSecretsLevels(t *testing.T) {
	plain := parseInventory(t, fleet)
	inv, err := plain.With(parseSecrets(t, vault))
	require.NoError(t, err)
	vars := inv.VarsOf("m1")
	for name, want := range map[string]string{"inventory": "s-all", "wide": "s-wide", "mid": "m", "narrow": "s-narrow"} {
		require.Equal(t, want, vars[name].Node.Value, name)
		require.Equal(t, name != "mid", vars[name].Secret(), name)
	}
	require.Equal(t, "secrets.age:9:21", vars["host"].Pos().String())
	require.Equal(t, "m", inv.VarsOf("m2")["narrow"].Node.Value, "a narrower level wins, secret or not")
	require.Equal(t, "n", plain.VarsOf("m1")["narrow"].Node.Value, "the inventory itself is as it was")

	for host, want := range map[string]string{"m1": "for wide", "m2": "for m2", "m3": "for all"} {
		got, ok := inv.SudoPassword(host)
		require.True(t, ok)
		require.Equal(t, want, got, host)
	}
	for file, want := range map[string]string{"/home/u/.ssh/id": "pass one", "~/.ssh/id": "pass one", "/k/./b": "0123", "/k/c": ""} {
		got, ok := inv.KeyPassphrase(file, "/home/u")
		require.Equal(t, want, got, file)
		require.Equal(t, want != "", ok, file)
	}
	_, ok := plain.SudoPassword("m1")
	require.False(t, ok)
	_, ok = plain.KeyPassphrase("/k/b", "/")
	require.False(t, ok)
}

func TestSecretsOfNobody(t *testing.T) {
	_, err := parseInventory(t, fleet).With(parseSecrets(t, "version: 1\ngroups: {hunter2: {}}\nhosts:\n  hunter2: {}\n"))
	require.EqualError(t, err, "secrets.age:2:10: no such group in inventory hosts.yaml (known: a_side, empty, mid, wide, zz_narrow)\n"+
		"secrets.age:4:3: no such host in inventory hosts.yaml (known: 10.0.0.4, m1, m2, m3)")
}

// A mistake among secrets is told with its place, and without what is written
// there: every text here is one.
func TestBrokenSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"":                                           "1:1: the file is empty",
		"hunter2hunter2":                             "1:1: the document is text; want a mapping",
		"hunter2: hunter2":                           `1:1: unknown key "***" (known: version, sudo_password, key_passphrases, vars, groups, hosts)`,
		"sudo_pasword: hunter2hunter2":               `1:1: unknown key "***"; did you mean "sudo_password"?`,
		"version: hunter2":                           `1:10: want a whole number, not "***"`,
		"version: 24680":                             "1:10: version *** is not known",
		"sudo_password: [hunter2]":                   "1:16: want text, not a list",
		"sudo_password: |\n  hunter2\n  hunter2":     "1:16: sudo_password is empty or has more than one line",
		"sudo_password: ''":                          "1:16: sudo_password is empty",
		"sudo_password: *hunter2":                    "not YAML from here on; write a text with special characters in single quotes",
		"sudo_password: &hunter2 x":                  "1:16: anchors (&***) are not supported",
		"sudo_password: !hunter2 x":                  "1:16: the tag *** is not supported",
		"sudo_password: %hunter2":                    "not YAML from here on",
		"sudo_password: \"hunter2":                   "not YAML from here on",
		"sudo_password: hunter2: hunter2":            "not YAML from here on",
		"vars: hunter2":                              "1:7: want a mapping, not text",
		"vars: {hunter2: hunter2, hunter2: hunter2}": `1:26: duplicate key "***" (first on line 1)`,
		"vars: {x-hunter2: hunter2}":                 `1:8: variable name "***": want letters`,
		"vars: {x: [abcd, {y: abc}]}":                "1:22: a secret of fewer than 4 characters",
		"hosts: {m1: {vars: {x: 123}}}":              "1:24: a secret of fewer than 4 characters",
		"vars: {x: äöü}":                             "1:11: a secret of fewer than 4 characters",
		"groups: {g: {hunter2: hunter2}}":            `1:14: unknown key "***" (known: sudo_password, vars)`,
	} {
		if !strings.HasPrefix(text, "version") && text != "" && !strings.HasPrefix(text, "hunter2hunter2") {
			text += "\nversion: 1"
		}
		_, err := schema.ParseSecrets(&schema.Source{Name: "secrets.age", Data: []byte(text)})
		require.ErrorContains(t, err, want, text)
		require.Regexp(t, `^secrets\.age:\d+:\d+: `, err.Error())
		for _, secret := range []string{"hunter2", "24680", "abc", "123", "äöü"} {
			require.NotContains(t, err.Error(), secret)
		}
		require.Equal(t, 1, strings.Count(err.Error()+"\n", "\n"), "no line is shown: %s", err)
	}
}
