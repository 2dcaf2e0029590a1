package schema

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// MinSecret is the length in characters of the shortest secret variable. What
// is shorter cannot be told from other text in a log.
const MinSecret = 4

// Secrets is the YAML document in the encrypted file that an inventory names.
// It says what the inventory must not say in the clear, in the same levels.
type Secrets struct {
	Version        int               `yaml:"version" required:"true" doc:"the version of the language; 1"`
	SudoPassword   Text              `yaml:"sudo_password" doc:"the sudo password on all hosts"`
	KeyPassphrases map[string]Text   `yaml:"key_passphrases" doc:"the passphrases of private keys, by key file"`
	Vars           map[string]Value  `yaml:"vars" doc:"secret variables of all hosts; they win over the inventory's of the same level"`
	Groups         map[string]Secret `yaml:"groups" doc:"what differs in groups of the inventory"`
	Hosts          map[string]Secret `yaml:"hosts" doc:"what differs on hosts of the inventory"`

	Source *Source

	top Value
}

// Secret is what differs in a group or on a host.
type Secret struct {
	SudoPassword Text             `yaml:"sudo_password" doc:"the sudo password there"`
	Vars         map[string]Value `yaml:"vars" doc:"secret variables there"`
}

// ParseSecrets reads a document that was decrypted. Its mistakes are returned
// all together. They tell the place and never show what is written there.
func ParseSecrets(src *Source) (*Secrets, error) {
	var d Decoder
	src = &Source{Name: src.Name, Data: src.Data, Secret: true}
	s := &Secrets{Source: src}
	top, ok := Parse(src, &d.Diagnostics)
	if !ok {
		return nil, d.Err()
	}
	s.top = top
	d.Decode(top, s)
	checkVersion(&d, top, s.Version)
	s.check(&d, top)
	if err := d.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Secrets) check(d *Decoder, top Value) {
	checkPassword(d, top, "sudo_password")
	checkSecretVars(d, top, "vars")
	for _, level := range []struct {
		name string
		of   map[string]Secret
	}{{"groups", s.Groups}, {"hosts", s.Hosts}} {
		for _, name := range sorted(level.of) {
			checkPassword(d, top, level.name, name, "sudo_password")
			checkSecretVars(d, top, level.name, name, "vars")
		}
	}
}

// checkPassword refuses what sudo cannot be given.
func checkPassword(d *Decoder, top Value, path ...string) {
	v, ok := top.lookup(path...)
	if ok && v.Node.Kind == yaml.ScalarNode && !v.IsNull() && (v.Node.Value == "" || strings.ContainsAny(v.Node.Value, "\n\x00")) {
		d.Add(v.Pos(), "sudo_password is empty or has more than one line")
	}
}

// checkSecretVars looks at the names and the lengths of secret variables.
func checkSecretVars(d *Decoder, top Value, path ...string) {
	checkVars(d, top, path...)
	if v, ok := top.lookup(path...); ok {
		for _, text := range v.scalars() {
			if utf8.RuneCountInString(text.Node.Value) < MinSecret {
				d.Add(text.Pos(), "a secret of fewer than %d characters cannot be kept out of logs; what is no secret belongs in the inventory's vars", MinSecret)
			}
		}
	}
}

// scalars returns the scalars in a value; the keys of mappings are none.
func (v Value) scalars() []Value {
	if v.Node.Kind == yaml.ScalarNode {
		return []Value{v}
	}
	var list []Value
	for i, c := range v.Node.Content {
		if v.Node.Kind != yaml.MappingNode || i%2 == 1 {
			list = append(list, Value{Node: c, Source: v.Source}.scalars()...)
		}
	}
	return list
}

// With returns a copy of the inventory that has the secrets: variables at
// their levels, passwords for SudoPassword and KeyPassphrase.
func (inv *Inventory) With(s *Secrets) (*Inventory, error) {
	var d Diagnostics
	out := *inv
	out.opened = s
	out.Vars = merged(inv.Vars, s.Vars)
	out.Groups, out.Hosts = maps.Clone(inv.Groups), maps.Clone(inv.Hosts)
	for _, name := range sorted(s.Groups) {
		g, ok := inv.Groups[name]
		if !ok {
			d.Add(s.top.keyPos("groups", name), "no such group in inventory %s (known: %s)", inv.Source.Name, strings.Join(sorted(inv.Groups), ", "))
		}
		g.Vars = merged(g.Vars, s.Groups[name].Vars)
		out.Groups[name] = g
	}
	for _, name := range sorted(s.Hosts) {
		h, ok := inv.Hosts[name]
		if !ok {
			d.Add(s.top.keyPos("hosts", name), "no such host in inventory %s (known: %s)", inv.Source.Name, strings.Join(sorted(inv.Hosts), ", "))
		}
		h.Vars = merged(h.Vars, s.Hosts[name].Vars)
		out.Hosts[name] = h
	}
	return &out, d.Err()
}

func merged(under, over map[string]Value) map[string]Value {
	all := map[string]Value{}
	maps.Copy(all, under)
	maps.Copy(all, over)
	return all
}

// Locked reports whether the inventory names secrets that were not opened, so
// that not all its variables are known.
func (inv *Inventory) Locked() bool { return inv.Sealed != nil && inv.opened == nil }

// SudoPassword returns the sudo password of a host, if the secrets have one;
// the narrowest level wins.
func (inv *Inventory) SudoPassword(host string) (password string, ok bool) {
	if inv.opened == nil {
		return "", false
	}
	password = inv.opened.SudoPassword.Value
	for _, g := range inv.GroupsOf(host) {
		if p := inv.opened.Groups[g].SudoPassword.Value; p != "" {
			password = p
		}
	}
	if p := inv.opened.Hosts[host].SudoPassword.Value; p != "" {
		password = p
	}
	return password, password != ""
}

// KeyPassphrase returns the passphrase of a key file, if the secrets have one.
// Both names may begin with ~/, which is home.
func (inv *Inventory) KeyPassphrase(file, home string) (passphrase string, ok bool) {
	if inv.opened == nil {
		return "", false
	}
	whole := func(name string) string {
		if rest, ok := strings.CutPrefix(name, "~/"); ok {
			return filepath.Join(home, rest)
		}
		return filepath.Clean(name)
	}
	names := sorted(inv.opened.KeyPassphrases)
	i := slices.IndexFunc(names, func(name string) bool { return whole(name) == whole(file) })
	if i < 0 {
		return "", false
	}
	return inv.opened.KeyPassphrases[names[i]].Value, true
}
